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

story!(whoever_guesses_keys_is_kept_out_and_nobody_else_is, |builder| {
    let builder = builder.set("edge.trusted_proxies", "[\"127.0.0.1\"]");
    let sandbox = builder.start().await?;
    let get = async |ip: &str, key: &str| {
        let headers = [("x-forwarded-for", ip), ("x-api-key", key)];
        sandbox.admin.with_key(None).send(http::Method::GET, "/v1/keys", &headers, Vec::new()).await
    };
    let guess = || manifold_identity::generate_key(manifold_identity::Environment::Live);

    let (mut refused, mut kept_out) = (0, None);
    for _ in 0..1_000 {
        let reply = get("203.0.113.9", guess().expose()).await?;
        if reply.status == 429 {
            kept_out = Some(reply);
            break;
        }
        assert_eq!((reply.status, &reply.json()["code"]), (401, &json!("invalid_key")));
        refused += 1;
    }
    let kept_out = kept_out.context("nobody guesses a thousand keys")?;
    let neighbour = get("203.0.113.77", &sandbox.admin_key).await?;
    let other = get("198.51.100.7", &sandbox.admin_key).await?;

    assert!(refused >= 20);
    let problem = kept_out.json();
    assert_eq!(problem["code"], "abnormal_usage_detected");
    assert_eq!(problem["type"], "https://iana.org/assignments/http-problem-types#abnormal-usage-detected");
    assert!(kept_out.header("retry-after").parse::<u32>()? > 600);
    assert_eq!((neighbour.status, other.status), (429, 200));
    let incidents = sandbox.admin.get("/v1/audit/incidents").await?.json();
    let incident = &incidents["data"][0];
    assert_eq!((&incident["rule"], &incident["subject"]), (&json!("key_guessing"), &json!("203.0.113.0/24")));
    let id = incident["id"].as_str().context("an id")?;
    let closed = sandbox.admin.post(&format!("/v1/audit/incidents/{id}/acknowledge"), &json!({})).await?.json();
    assert!(closed["acknowledged_by"].as_str().is_some_and(|by| by.starts_with("key_")), "{closed}");
    let blocks = sandbox.admin.get("/v1/audit/blocks").await?.json();
    let block = blocks["data"][0]["id"].as_str().context("a block")?;
    assert_eq!(sandbox.admin.delete(&format!("/v1/audit/blocks/{block}")).await?.status, 204);
    assert_eq!(sandbox.admin.delete(&format!("/v1/audit/blocks/{block}")).await?.status, 404);
    assert_eq!(get("203.0.113.77", &sandbox.admin_key).await?.status, 200);
    sandbox.stop().await?;
    Ok(())
});
