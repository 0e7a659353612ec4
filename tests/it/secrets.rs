//! Secrets by REST: written, never shown, and sealed under a key that can be replaced.

use anyhow::{Context, Result};
use http::Method;
use manifold_testkit::{Client, Reply};
use serde_json::{Value, json};

use crate::story;

const CANARY: &str = "sk-canary-0123456789";

async fn put(client: &Client, name: &str, body: &Value) -> Result<Reply> {
    let headers = [("content-type", "application/json")];
    client.send(Method::PUT, &format!("/v1/secrets/{name}"), &headers, body.to_string().into_bytes()).await
}

fn code(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["code"].as_str().unwrap_or_default().to_owned())
}

story!(a_secret_is_written_and_never_shown, |builder| {
    let mut sandbox = builder.start().await?;
    let admin = sandbox.admin.clone();

    let made = put(&admin, "stripe.live", &json!({ "value": CANARY })).await?;
    let shown = admin.get("/v1/secrets/stripe.live").await?;
    let listed = admin.get("/v1/secrets").await?;
    let replaced = put(&admin, "stripe.live", &json!({ "value": "short" })).await?;

    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(made.json(), shown.json());
    assert_eq!(listed.json()["data"], json!([shown.json()]));
    let secret = shown.json();
    assert_eq!((&secret["set"], &secret["last4"], &secret["version"]), (&json!(true), &json!("6789"), &json!(1)));
    assert_eq!((&replaced.json()["last4"], &replaced.json()["version"]), (&Value::Null, &json!(2)));
    for reply in [&made, &shown, &listed, &replaced] {
        assert!(!reply.text.contains("canary"), "{}", reply.text);
    }
    assert_eq!(admin.delete("/v1/secrets/stripe.live").await?.status, 204);
    for name in ["stripe.live", "never", "NO%20NAME", "..."] {
        assert_eq!(code(&admin.get(&format!("/v1/secrets/{name}")).await?), (404, "secret_not_found".into()), "{name}");
        let deleted = admin.delete(&format!("/v1/secrets/{name}")).await?;
        assert_eq!(code(&deleted), (404, "secret_not_found".into()), "{name}");
    }
    sandbox.halt().await;
    for entry in std::fs::read_dir(sandbox.folder.path())? {
        let path = entry?.path();
        let bytes = if path.is_file() { std::fs::read(&path)? } else { Vec::new() };
        assert!(!bytes.windows(9).any(|bytes| bytes == b"sk-canary"), "{}", path.display());
    }
    sandbox.stop().await?;
    Ok(())
});

story!(what_cannot_be_a_secret_is_refused_and_not_repeated, |builder| {
    let sandbox = builder.start().await?;
    let admin = &sandbox.admin;
    let long = "canary".repeat(11_000);

    for (name, body) in [
        ("Stripe", json!({ "value": CANARY })),
        ("stripe", json!({ "value": "" })),
        ("stripe", json!({ "value": long })),
        ("stripe", json!({ "value": CANARY, "tenant_id": "x" })),
        ("stripe", json!({ "value": [CANARY] })),
        ("stripe", json!({ "secret": CANARY })),
    ] {
        let refused = put(admin, name, &body).await?;
        assert_eq!(refused.status, 422, "{}", refused.text);
        assert!(!refused.text.contains("canary"), "{}", refused.text);
    }
    let made = admin.post("/v1/keys", &json!({"name": "k", "permissions": ["vault.secret.read"]})).await?.json();
    let reader = sandbox.admin.with_key(Some(made["secret"].as_str().context("a secret")?));
    assert_eq!(code(&put(&reader, "stripe", &json!({ "value": CANARY })).await?), (403, "insufficient_scope".into()));
    assert_eq!(reader.get("/v1/secrets").await?.json()["data"], json!([]));
    sandbox.stop().await?;
    Ok(())
});

story!(the_key_of_a_tenant_is_replaced, |builder| {
    let sandbox = builder.start().await?;
    let admin = &sandbox.admin;
    let nothing = admin.get("/v1/vault").await?.json();
    put(admin, "stripe", &json!({ "value": CANARY })).await?;

    let rotated = admin.post("/v1/vault/rotate", &json!({"what": "tenant_key"})).await?;
    let vault = admin.get("/v1/vault").await?.json();
    let master = admin.post("/v1/vault/rotate", &json!({"what": "master_key"})).await?;

    assert_eq!(nothing, json!({"version": null, "replaced": []}));
    assert_eq!((rotated.status, &rotated.json()["version"]), (200, &json!(2)), "{}", rotated.text);
    assert_eq!((&vault["version"], &vault["replaced"][0]["version"]), (&json!(2), &json!(1)));
    assert_eq!(master.status, 422, "{}", master.text);
    assert_eq!(admin.get("/v1/secrets/stripe").await?.json()["version"], 1);
    sandbox.stop().await?;
    Ok(())
});
