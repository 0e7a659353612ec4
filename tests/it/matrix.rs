//! Every operation of the contract against everybody who has no right to a thing: for them it is as if there were none, byte
//! for byte, and nobody learns or changes anything. Case 73 and 75 of hostile input.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use http::Method;
use manifold_testkit::{Client, Reply, Sandbox};
use serde_json::{Value, json};

use crate::people::{Browser, set_up};
use crate::tenants::{key, tenant};
use crate::{story, until};

/// One operation of the contract.
struct Operation {
    method: Method,
    path: String,
    body: Option<Value>,
    needs: Needs,
}

#[derive(PartialEq)]
enum Needs {
    Nothing,
    Person,
    Permission,
}

/// Somebody who calls, by key or by session.
enum Caller<'c> {
    Key(&'c Client),
    Person(&'c Browser),
}

impl Caller<'_> {
    async fn ask(&self, operation: &Operation, path: &str) -> Result<Reply> {
        let (method, body) = (operation.method.clone(), operation.body.as_ref());
        match self {
            Self::Key(client) => {
                let body = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
                client.send(method, path, &[("content-type", "application/json")], body).await
            }
            Self::Person(browser) => browser.change(method, path, body).await,
        }
    }
}

/// All operations, with the bodies of their examples.
async fn operations(sandbox: &Sandbox) -> Result<Vec<Operation>> {
    let document = sandbox.admin.get("/openapi.json").await?.json();
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().context("paths")? {
        for (method, operation) in item.as_object().context("operations")? {
            let example = &operation["requestBody"]["content"]["application/json"]["example"];
            let needs = match (&operation["x-public"], &operation["x-user"]) {
                (Value::Bool(true), _) => Needs::Nothing,
                (_, Value::Bool(true)) => Needs::Person,
                _ => Needs::Permission,
            };
            let body = Some(example.clone()).filter(|example| !example.is_null());
            found.push(Operation { method: method.to_uppercase().parse()?, path: path.clone(), body, needs });
        }
    }
    Ok(found)
}

/// The things of a tenant by the beginning of their paths, and a thing of the same form that never was.
async fn things(owner: &Browser, tenant: &str) -> Result<BTreeMap<&'static str, (String, String)>> {
    let id = async |path: &str, body: Value| -> Result<String> {
        let made = owner.change(Method::POST, path, Some(&body)).await?;
        ensure!(made.status == 201, "{path}: {}", made.text);
        Ok(made.json()["id"].as_str().context("an id")?.to_owned())
    };
    let never = |id: &str| format!("{}_01h455vb4pex5vsknk084sn02q", id.split('_').next().unwrap_or_default());
    let session = owner.get("/v1/auth/session").await?.json();
    let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
    let key = id("/v1/keys", json!({"name": "thing"})).await?;
    let role = id("/v1/roles", json!({"name": "thing", "grants": [{"permission": "ai.*"}]})).await?;
    let invitation = id("/v1/invitations", json!({"email": "thing@example.org", "role": "viewer"})).await?;
    let incident = incident(owner).await?;
    let factor = id("/v1/users/me/factors", json!({"kind": "totp"})).await?;
    let secret = owner.change(Method::PUT, "/v1/secrets/thing", Some(&json!({"value": "hidden"}))).await?;
    ensure!(secret.status < 300, "{}", secret.text);
    let (user, session) = (text(&session["user"]["id"])?, text(&session["id"])?);
    let by_prefix = [
        ("/v1/keys/", key.clone()),
        ("/v1/roles/", role),
        ("/v1/invitations/", invitation),
        ("/v1/users/", user),
        ("/v1/sessions/", session),
        ("/v1/tenants/", tenant.to_owned()),
        ("/v1/limits/", key),
        ("/v1/users/me/factors/", factor),
        ("/v1/audit/incidents/", incident),
        // Those of networks belong to the installation, whose own people alone see them.
        ("/v1/audit/blocks/", "blk_01h455vb4pex5vsknk084sn02r".to_owned()),
    ];
    let mut things: BTreeMap<_, _> =
        by_prefix.into_iter().map(|(prefix, id)| (prefix, (id.clone(), never(&id)))).collect();
    things.insert("/v1/secrets/", ("thing".to_owned(), "never".to_owned()));
    Ok(things)
}

/// An incident of a tenant: a key that tries what it may not.
async fn incident(owner: &Browser) -> Result<String> {
    let weak = json!({"name": "prober", "permissions": ["ai.nothing.run"]});
    let made = owner.change(Method::POST, "/v1/keys", Some(&weak)).await?;
    let weak = owner.client.with_key(Some(made.json()["secret"].as_str().context("a secret")?));
    let mut found = None;
    until("probing is noticed", async || {
        weak.get("/v1/users").await?;
        let known = owner.get("/v1/audit/incidents").await?.json();
        found = known["data"][0]["id"].as_str().map(str::to_owned);
        Ok(found.is_some())
    })
    .await?;
    found.context("an incident")
}

/// The thing that a path is about.
fn thing_of<'t>(things: &'t BTreeMap<&str, (String, String)>, path: &str) -> Option<&'t (String, String)> {
    let about = things.iter().filter(|(prefix, _)| path.starts_with(**prefix));
    about.max_by_key(|(prefix, _)| prefix.len()).map(|(_, thing)| thing)
}

/// The path of this thing.
fn at(path: &str, id: &str) -> String {
    let Some((head, rest)) = path.split_once('{') else { return path.to_owned() };
    format!("{head}{id}{}", rest.split_once('}').map_or("", |(_, rest)| rest))
}

/// What is alike in two answers about things that are not there.
fn essence(reply: &Reply) -> (u16, Value) {
    let mut body = serde_json::from_str(&reply.text).unwrap_or(Value::String(reply.text.clone()));
    if let Some(fields) = body.as_object_mut() {
        for own in ["request_id", "trace_id", "instance"] {
            fields.remove(own);
        }
    }
    (reply.status, body)
}

story!(what_is_foreign_is_as_if_it_never_was, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let ((acme, grace), (_, joan)) = (tenant(&sandbox, "acme").await?, tenant(&sandbox, "other").await?);
    let (own, foreign) = (key(&grace).await?, key(&joan).await?);
    let things = things(&grace, &acme).await?;
    let strangers = [Caller::Person(&joan), Caller::Key(&foreign)];
    let shown = at("/v1/keys/{id}", &things["/v1/keys/"].0);
    let before = own.get(&shown).await?.json();

    let mut n = 0;
    for operation in operations(&sandbox).await?.iter().filter(|operation| operation.path.contains('{')) {
        if operation.needs == Needs::Nothing
            || !operation.path.starts_with("/v1/")
            || operation.path == "/v1/models/{id}"
        {
            continue;
        }
        // Names are the tenant's own: who writes one makes it.
        if operation.method == Method::PUT && operation.path == "/v1/secrets/{name}" {
            continue;
        }
        let (id, never) =
            thing_of(&things, &operation.path).with_context(|| format!("a thing for {}", operation.path))?;
        let (theirs, nobodys) = (at(&operation.path, id), at(&operation.path, never));
        for stranger in &strangers {
            let (foreign, none) = (stranger.ask(operation, &theirs).await?, stranger.ask(operation, &nobodys).await?);
            let what = format!("{} {}: {} {}", operation.method, operation.path, foreign.text, none.text);
            assert_eq!(essence(&foreign), essence(&none), "{what}");
            let key_asks_as_person = matches!(stranger, Caller::Key(_)) && operation.needs == Needs::Person;
            let of_the_house = operation.path.starts_with("/v1/audit/blocks/");
            assert_eq!(foreign.status, if key_asks_as_person || of_the_house { 403 } else { 404 }, "{what}");
            n += 1;
        }
    }
    assert!(n >= 30, "{n}");
    assert_eq!(own.get(&shown).await?.json(), before);
    assert_eq!(ada.get(&format!("/v1/tenants/{acme}")).await?.json()["state"], "active");
    sandbox.stop().await?;
    Ok(())
});

story!(whoever_may_nothing_gets_nothing, |builder| {
    let sandbox = builder.start().await?;
    set_up(&sandbox).await?;
    let (acme, grace) = tenant(&sandbox, "acme").await?;
    let things = things(&grace, &acme).await?;
    let weak = json!({"name": "weak", "permissions": ["ai.nothing.run"]});
    let made = grace.change(Method::POST, "/v1/keys", Some(&weak)).await?;
    let weak = grace.client.with_key(Some(made.json()["secret"].as_str().context("a secret")?));
    let nobody = sandbox.admin.with_key(None);

    for operation in operations(&sandbox).await?.iter().filter(|operation| operation.needs != Needs::Nothing) {
        let path = at(&operation.path, thing_of(&things, &operation.path).map_or("x", |(id, _)| id));
        let anonymous = Caller::Key(&nobody).ask(operation, &path).await?;
        let refused = Caller::Key(&weak).ask(operation, &path).await?;

        assert_eq!(anonymous.status, 401, "{} {path}: {}", operation.method, anonymous.text);
        assert_eq!(refused.status, 403, "{} {path}: {}", operation.method, refused.text);
    }
    sandbox.stop().await?;
    Ok(())
});
