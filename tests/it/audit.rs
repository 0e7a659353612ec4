//! What was done, by REST: listed, exported, verified.

use anyhow::Context;
use serde_json::json;

use crate::story;

story!(whatever_was_done_is_on_record_and_the_record_is_verified, |builder| {
    let sandbox = builder.start().await?;
    let made = sandbox.admin.post("/v1/keys", &json!({"name": "=app"})).await?.json();
    let (id, secret) = (made["id"].as_str().context("an id")?, made["secret"].as_str().context("a secret")?);
    let app = sandbox.admin.with_key(Some(secret));

    let denied = app.get("/v1/audit").await?;
    let listed = sandbox.admin.get(&format!("/v1/audit?target={id}&outcome=ok")).await?.json();
    let first = sandbox.admin.get("/v1/audit?limit=1").await?;
    let cursor = first.json()["next_cursor"].as_str().context("another page")?.to_owned();
    let second = sandbox.admin.get(&format!("/v1/audit?limit=1&cursor={cursor}")).await?.json();
    let unknown = sandbox.admin.get("/v1/audit?sort=at").await?;
    let verdict = sandbox.admin.post("/v1/audit/verify", &json!({})).await?.json();

    assert_eq!((denied.status, unknown.status), (403, 400));
    let entry = &listed["data"][0];
    assert_eq!((&entry["action"], &entry["detail"]["name"]), (&json!("identity.key.created"), &json!("=app")));
    assert!(entry["actor"].as_str().is_some_and(|actor| actor.starts_with("key_")), "{entry}");
    assert!(entry["request_id"].as_str().is_some_and(|request| request.starts_with("req_")), "{entry}");
    assert!(!listed.to_string().contains(&secret[20..]));
    assert!(first.header("link").contains("cursor="));
    assert_ne!(first.json()["data"], second["data"]);
    assert_eq!((&verdict["intact"], &verdict["n_entries"]), (&json!(true), &json!(2)), "{verdict}");
    sandbox.stop().await?;
    Ok(())
});

story!(an_export_comes_whole_and_is_an_entry_itself, |builder| {
    let sandbox = builder.start().await?;
    for _ in 0..3 {
        sandbox.admin.post("/v1/keys", &json!({"name": "app"})).await?;
    }
    let key = sandbox.admin.post("/v1/audit/verify", &json!({})).await?.json();

    let file = sandbox.admin.get("/v1/audit/export").await?;
    let table = sandbox.admin.get("/v1/audit/export?format=csv&action=identity.audit.exported").await?;
    let wrong = sandbox.admin.get("/v1/audit/export?format=xml").await?;

    assert_eq!((file.status, file.header("content-type")), (200, "application/x-ndjson"));
    let key = key["key"]["public"].as_str().context("a key")?;
    let verdict = manifold_identity::verify_audit_file(file.text.as_bytes(), key)?;
    assert_eq!((verdict.n_entries, verdict.broken), (5, None), "{}", file.text);
    assert_eq!(table.text.lines().count(), 3, "a heading and two exports: {}", table.text);
    assert_eq!((wrong.status, &wrong.json()["code"]), (422, &json!("filter_invalid")));
    sandbox.stop().await?;
    Ok(())
});
