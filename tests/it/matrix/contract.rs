//! The operations of the contract, as it is published.

use anyhow::{Context, Result};
use http::Method;
use manifold_testkit::Sandbox;
use serde_json::Value;

/// One operation of the contract.
pub struct Operation {
    pub method: Method,
    pub path: String,
    /// The body of its example.
    pub body: Option<Value>,
    /// What its body may name.
    pub fields: Vec<String>,
    /// What its query may name.
    pub query: Vec<String>,
    pub needs: Needs,
}

#[derive(PartialEq, Eq)]
pub enum Needs {
    Nothing,
    /// It carries other requests: what they need is their own matter.
    Caller,
    Person,
    Permission(String),
}

impl Operation {
    pub fn is_read(&self) -> bool {
        self.method == Method::GET
    }

    /// Whether its path names a thing of a tenant. Models are everybody's.
    pub fn names_a_thing(&self) -> bool {
        self.path.contains('{') && self.path != "/v1/models/{id}"
    }

    /// Its path for this thing.
    pub fn at(&self, id: &str) -> String {
        let Some((head, rest)) = self.path.split_once('{') else { return self.path.clone() };
        format!("{head}{id}{}", rest.split_once('}').map_or("", |(_, rest)| rest))
    }
}

/// All operations that are not for everybody, each by itself.
pub async fn operations(sandbox: &Sandbox) -> Result<Vec<Operation>> {
    let mut found = all(sandbox).await?;
    found.retain(|operation| !matches!(operation.needs, Needs::Nothing | Needs::Caller));
    Ok(found)
}

/// All operations.
pub async fn all(sandbox: &Sandbox) -> Result<Vec<Operation>> {
    let document = sandbox.admin.get("/openapi.json").await?.json();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("operations")? {
            let content = &operation["requestBody"]["content"]["application/json"];
            let example = &content["example"];
            let schema = content["schema"]["$ref"].as_str().unwrap_or_default().trim_start_matches('#');
            let schema = document.pointer(schema).and_then(|schema| schema["properties"].as_object());
            let fields = schema.into_iter().flatten().map(|(name, _)| name.clone()).collect();
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let query = parameters.filter(|one| one["in"] == "query").filter_map(|one| one["name"].as_str());
            let query = query.map(str::to_owned).collect();
            let needs = match (&operation["x-public"], &operation["x-user"]) {
                (Value::Bool(true), _) => Needs::Nothing,
                _ if operation["x-caller"] == true => Needs::Caller,
                (_, Value::Bool(true)) => Needs::Person,
                _ => Needs::Permission(operation["x-permission"].as_str().context("a permission")?.to_owned()),
            };
            let body = Some(example.clone()).filter(|example| !example.is_null());
            let (method, path) = (method.to_uppercase().parse()?, path.clone());
            found.push(Operation { method, path, body, fields, query, needs });
        }
    }
    Ok(found)
}
