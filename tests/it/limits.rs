//! Limits that are given to somebody by REST while the house is open.

use anyhow::Context;
use serde_json::{Value, json};

use crate::story;

story!(a_key_is_limited_at_once_and_set_free_again, |builder| {
    let sandbox = builder.start().await?;
    let made = sandbox.admin.post("/v1/keys", &json!({"name": "app"})).await?.json();
    let app = sandbox.admin.with_key(made["secret"].as_str());
    let path = format!("/v1/limits/{}", made["id"].as_str().unwrap_or_default());

    let set = sandbox.admin.put(&path, &json!({"limits": [{"name": "minute", "quota": 1, "window": "60s"}]})).await?;
    let shown = sandbox.admin.get(&path).await?;
    let (first, second) = (app.chat("manifold/echo", "hi").await?, app.chat("manifold/echo", "hi").await?);
    let other = sandbox.admin.chat("manifold/echo", "hi").await?;
    let taken = sandbox.admin.delete(&path).await?;
    let third = app.chat("manifold/echo", "hi").await?;

    assert_eq!((set.status, set.json()), (200, shown.json()), "{}", set.text);
    assert_eq!(shown.json()["limits"][0]["window"], "1m");
    assert_eq!((first.status, first.header("ratelimit-policy")), (200, "\"key/minute\";q=1;w=60"));
    assert_eq!((second.status, second.json()["error"]["code"].as_str()), (429, Some("rate_limit_exceeded")));
    assert_eq!((other.status, taken.status, third.status), (200, 204, 200));
    sandbox.stop().await?;
    Ok(())
});

story!(two_keys_of_one_owner_share_one_limit, |builder| {
    let sandbox = builder.start().await?;
    let owner = json!({"external_id": "customer-42", "name": "Ada's shop"});
    let owner = sandbox.admin.post("/v1/owners", &owner).await?.json()["id"].clone();
    let path = format!("/v1/limits/{}", owner.as_str().context("an id")?);
    let (mut keys, mut secret) = (Vec::new(), Value::Null);
    for body in
        [json!({"name": "site", "owner": owner}), json!({"name": "app", "owner": owner}), json!({"name": "other"})]
    {
        let made = sandbox.admin.post("/v1/keys", &body).await?.json();
        if body["name"] == "app" {
            secret = made["secret"].clone();
        }
        keys.push(sandbox.admin.with_key(Some(made["secret"].as_str().context("a secret")?)));
    }

    let set = sandbox.admin.put(&path, &json!({"limits": [{"name": "month", "quota": 2, "window": "30days"}]})).await?;
    let mut replies = Vec::new();
    for key in [&keys[0], &keys[1], &keys[0], &keys[1], &keys[2]] {
        replies.push(key.chat("manifold/echo", "hi").await?);
    }

    assert_eq!((set.status, set.json()["subject"].clone()), (200, owner), "{}", set.text);
    let question = json!({"key": secret, "permissions": "ai.inference.run"});
    let verdict = sandbox.admin.post("/v1/keys/verify", &question).await?.json();
    let left: Vec<_> = replies.iter().map(|reply| (reply.status, reply.header("ratelimit"))).collect();
    let left: Vec<_> = left.iter().map(|(status, told)| (*status, told.split(";t=").next().unwrap_or(told))).collect();
    let (one, none) = ("\"owner/month\";r=1", "\"owner/month\";r=0");
    assert_eq!(left, [(200, one), (200, none), (429, none), (429, none), (200, "")]);
    assert_eq!((&verdict["code"], &verdict["owner"]), (&json!("rate_limited"), &set.json()["subject"]));
    assert_eq!(verdict["limits"][0]["name"], "owner/month");
    assert!(verdict["limits"][0]["reset_s"].as_u64().is_some_and(|reset| reset > 1_000_000), "{verdict}");
    assert_eq!(replies[1].header("ratelimit-policy"), "\"owner/month\";q=2;w=2592000");
    sandbox.stop().await?;
    Ok(())
});

story!(a_tenant_that_locked_itself_out_lets_itself_in_again, |builder| {
    let sandbox = builder.start().await?;
    let once_a_year = json!({"limits": [{"name": "all", "quota": 1, "window": "365days"}]});

    sandbox.admin.put("/v1/limits/tenant", &once_a_year).await?;
    let statuses = [sandbox.admin.get("/v1/keys").await?, sandbox.admin.get("/v1/keys").await?];
    let locked = &statuses[1];
    let freed = sandbox.admin.put("/v1/limits/tenant", &json!({"limits": []})).await?;
    let after = sandbox.admin.get("/v1/keys").await?;

    assert_eq!((statuses[0].status, locked.status), (200, 429));
    assert_eq!(locked.json()["violated-policies"], json!(["tenant/all"]));
    assert_eq!((freed.status, after.status), (200, 200), "{}", freed.text);
    for (subject, body, status) in [
        ("tenant", json!({"limits": [{"name": "a", "quota": 0, "window": "60s"}]}), 422),
        ("tenant", json!({"limits": [{"name": "a", "quota": 1, "window": "week"}]}), 422),
        ("tenant", json!({"limits": [{"name": "a", "quota": 1, "window": "60s", "per": "ip"}]}), 422),
        ("key_01h455vb4pex5vsknk084sn02q", json!({"limits": []}), 404),
        ("everybody", json!({"limits": []}), 404),
    ] {
        let refused = sandbox.admin.put(&format!("/v1/limits/{subject}"), &body).await?;
        assert_eq!(refused.status, status, "{subject} {}", refused.text);
    }
    sandbox.stop().await?;
    Ok(())
});
