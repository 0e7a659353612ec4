//! Several teams on one installation: each sees its own, and the first runs the others.

use anyhow::{Context, Result};
use http::Method;
use manifold_testkit::{Client, Sandbox};
use serde_json::{Value, json};

use crate::people::{Browser, code, set_up};
use crate::{story, until};

pub async fn tenant(sandbox: &Sandbox, slug: &str) -> Result<(String, Browser)> {
    let new = json!({"name": slug, "slug": slug, "owner": format!("{slug}@example.org")});
    let made = sandbox.admin.post("/v1/tenants", &new).await?;
    assert_eq!(made.status, 201, "{}", made.text);
    let (id, token) = (made.json()["id"].clone(), made.json()["invitation"]["token"].clone());
    let nobody = sandbox.admin.with_key(None);
    let joining = json!({"token": token, "name": slug, "password": "correct horse battery staple"});
    let joined = nobody.post("/v1/auth/register", &joining).await?;
    assert_eq!(joined.status, 201, "{}", joined.text);
    Ok((id.as_str().context("an id")?.to_owned(), Browser::of(nobody, &joined)?))
}

pub async fn key(owner: &Browser) -> Result<Client> {
    let made = owner.change(Method::POST, "/v1/keys", Some(&json!({"name": "app", "permissions": ["*"]}))).await?;
    Ok(owner.client.with_key(Some(made.json()["secret"].as_str().context("a secret")?)))
}

async fn patch(client: &Client, path: &str, body: Value) -> Result<(u16, String)> {
    let headers = [("content-type", "application/json")];
    Ok(code(&client.send(Method::PATCH, path, &headers, body.to_string().into_bytes()).await?))
}

story!(two_teams_are_apart_and_the_first_runs_both, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let (acme, grace) = tenant(&sandbox, "acme").await?;
    let (_, joan) = tenant(&sandbox, "other").await?;
    let (acme_key, other_key) = (key(&grace).await?, key(&joan).await?);
    let (own, foreign) = (format!("/v1/tenants/{acme}"), "/v1/tenants/ten_01h455vb4pex5vsknk084sn02q");

    for stranger in [&joan.get(&own).await?, &other_key.get(&own).await?, &joan.get(foreign).await?] {
        assert_eq!(code(stranger), (404, "tenant_not_found".into()));
    }
    assert_eq!(patch(&other_key, &own, json!({"name": "mine"})).await?, (404, "tenant_not_found".into()));
    assert_eq!(patch(&acme_key, &own, json!({"state": "suspended"})).await?, (403, "insufficient_scope".into()));
    assert_eq!(acme_key.get("/v1/tenants").await?.json()["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(ada.get("/v1/tenants").await?.json()["data"].as_array().map(Vec::len), Some(3));
    let headers = [("manifold-tenant", acme.as_str())];
    assert_eq!(acme_key.send(Method::GET, &own, &headers, Vec::new()).await?.status, 200);
    let elsewhere = other_key.send(Method::GET, "/v1/tenants", &headers, Vec::new()).await?;
    assert_eq!(code(&elsewhere), (403, "tenant_mismatch".into()));

    assert_eq!(patch(&sandbox.admin, &own, json!({"state": "suspended"})).await?.0, 200);
    assert_eq!(code(&acme_key.chat("manifold/echo", "hello").await?).0, 403);
    assert_eq!(code(&grace.get("/v1/auth/session").await?), (403, "tenant_suspended".into()));
    assert_eq!(other_key.chat("manifold/echo", "hello").await?.status, 200);
    assert_eq!(patch(&sandbox.admin, &own, json!({"state": "active"})).await?.0, 200);
    assert_eq!(acme_key.chat("manifold/echo", "hello").await?.status, 200);
    sandbox.stop().await?;
    Ok(())
});

story!(a_person_of_two_teams_goes_from_one_to_the_other, |builder| {
    let sandbox = builder.start().await?;
    let mut ada = set_up(&sandbox).await?;
    let made = ada.change(Method::POST, "/v1/tenants", Some(&json!({"name": "Acme", "slug": "acme"}))).await?;
    assert_eq!((made.status, &made.json()["invitation"]), (201, &Value::Null), "{}", made.text);
    let acme = made.json()["id"].clone();

    let moved = ada.change(Method::POST, "/v1/auth/switch", Some(&json!({"tenant": acme}))).await?;

    assert_eq!(moved.status, 200, "{}", moved.text);
    assert_eq!(code(&ada.get("/v1/auth/session").await?), (401, "invalid_session".into()));
    ada = Browser::of(ada.client, &moved)?;
    assert_eq!(ada.get("/v1/auth/session").await?.json()["tenant"], acme);
    sandbox.stop().await?;
    Ok(())
});

story!(pages_read_answers_only_in_the_name_of_the_team_that_allows_them, |builder| {
    let sandbox = builder.start().await?;
    set_up(&sandbox).await?;
    let ((acme, grace), (_, joan)) = (tenant(&sandbox, "acme").await?, tenant(&sandbox, "other").await?);
    let (own, foreign) = (key(&grace).await?, key(&joan).await?);
    let page = [("origin", "https://app.example")];
    let allowed = async |client: &Client| -> Result<String> {
        let reply = client.send(Method::GET, "/v1/tenants", &page, Vec::new()).await?;
        Ok(reply.header("access-control-allow-origin").to_owned())
    };
    assert_eq!(allowed(&own).await?, "");

    let settings = json!({"settings": {"origins": ["https://app.example"]}});
    let changed = grace.change(Method::PATCH, &format!("/v1/tenants/{acme}"), Some(&settings)).await?;
    assert_eq!(changed.status, 200, "{}", changed.text);

    until("every process has read of it", async || Ok(!allowed(&own).await?.is_empty())).await?;
    assert_eq!((allowed(&own).await?.as_str(), allowed(&foreign).await?.as_str()), ("https://app.example", ""));
    sandbox.stop().await?;
    Ok(())
});
