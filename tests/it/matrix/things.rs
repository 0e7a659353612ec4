//! One thing of each kind that a tenant can have.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use http::Method;
use serde_json::{Value, json};

use super::contract::Operation;
use crate::people::{Browser, PASSWORD};
use crate::until;

/// What things are called that have a name, found nowhere else.
pub const NAME: &str = "canary-of-acme";

/// The things of a tenant by the beginning of their paths, and a thing of the same form that never was.
pub struct Things(BTreeMap<&'static str, (String, String)>);

impl Things {
    pub async fn make(owner: &Browser, tenant: &str) -> Result<Self> {
        let id = async |path: &str, body: Value| -> Result<String> {
            let made = owner.change(Method::POST, path, Some(&body)).await?;
            ensure!(made.status == 201, "{path}: {}", made.text);
            Ok(made.json()["id"].as_str().context("an id")?.to_owned())
        };
        let user = owner.get("/v1/users/me").await?.json();
        let again = json!({"email": user["email"], "password": PASSWORD});
        let again = Browser::of(owner.client.clone(), &owner.client.post("/v1/auth/login", &again).await?)?;
        let session = again.get("/v1/auth/session").await?.json();
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a text");
        let key = id("/v1/keys", json!({"name": NAME})).await?;
        let kept = id("/v1/owners", json!({"external_id": NAME, "name": NAME})).await?;
        let role = id("/v1/roles", json!({"name": NAME, "grants": [{"permission": "ai.*"}]})).await?;
        let email = format!("{NAME}@example.org");
        let invitation = id("/v1/invitations", json!({"email": email, "role": "viewer"})).await?;
        let incident = incident(owner).await?;
        let factor = id("/v1/users/me/factors", json!({"kind": "totp"})).await?;
        let secret = format!("/v1/secrets/{NAME}");
        let secret = owner.change(Method::PUT, &secret, Some(&json!({"value": "hidden"}))).await?;
        ensure!(secret.status < 300, "{}", secret.text);
        let (user, session) = (text(&user["id"])?, text(&session["id"])?);
        let by_prefix = [
            ("/v1/keys/", key.clone()),
            ("/v1/owners/", kept),
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
        things.insert("/v1/secrets/", (NAME.to_owned(), "never".to_owned()));
        Ok(Self(things))
    }

    /// The thing that an operation is about, and one that never was.
    pub fn of(&self, operation: &Operation) -> Result<(&str, &str)> {
        let about = self.0.iter().filter(|(prefix, _)| operation.path.starts_with(**prefix));
        let (_, (id, never)) = about
            .max_by_key(|(prefix, _)| prefix.len())
            .with_context(|| format!("a thing for {}: make one in this file", operation.path))?;
        Ok((id, never))
    }

    pub fn id(&self, prefix: &str) -> &str {
        &self.0[prefix].0
    }

    /// The first of the things, the tenant apart, that a text shows.
    pub fn shown_in(&self, text: &str) -> Option<&str> {
        let mut things = self.0.iter().filter(|(prefix, _)| **prefix != "/v1/tenants/").map(|(_, (id, _))| id.as_str());
        things.find(|id| text.contains(id))
    }
}

/// An id of the same form that nothing has.
pub fn never(id: &str) -> String {
    format!("{}_01h455vb4pex5vsknk084sn02q", id.split('_').next().unwrap_or_default())
}

/// An incident of a tenant: a key that tries what it may not.
async fn incident(owner: &Browser) -> Result<String> {
    let prober = json!({"name": "prober", "permissions": ["ai.nothing.run"]});
    let made = owner.change(Method::POST, "/v1/keys", Some(&prober)).await?;
    let prober = owner.client.with_key(Some(made.json()["secret"].as_str().context("a secret")?));
    let mut found = None;
    until("probing is noticed", async || {
        prober.get("/v1/users").await?;
        let known = owner.get("/v1/audit/incidents").await?.json();
        found = known["data"][0]["id"].as_str().map(str::to_owned);
        Ok(found.is_some())
    })
    .await?;
    found.context("an incident")
}
