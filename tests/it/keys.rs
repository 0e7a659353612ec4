//! API keys by REST: made, listed, used within their scope, revoked.

use http::Method;
use manifold_testkit::Builder;
use serde_json::json;

use crate::{story, until};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

story!(a_key_lives_from_its_making_to_its_revocation, |builder| {
    let sandbox = builder.start().await?;

    let made = sandbox.admin.post("/v1/keys", &json!({"name": "app"})).await?;
    let (id, secret) = (
        made.json()["id"].as_str().unwrap_or_default().to_owned(),
        made.json()["secret"].as_str().unwrap_or_default().to_owned(),
    );
    let app = sandbox.admin.with_key(Some(&secret));

    assert_eq!((made.status, made.header("cache-control")), (201, "no-store"), "{}", made.text);
    assert!(secret.starts_with("mfk_live_") && secret.len() == 69);
    assert_eq!(app.chat("manifold/echo", "hi").await?.status, 200);
    let shown = sandbox.admin.get(&format!("/v1/keys/{id}")).await?;
    assert!(!shown.text.contains(&secret[20..]), "the secret is shown once");
    assert_eq!(sandbox.admin.get("/v1/keys").await?.json()["data"].as_array().map(Vec::len), Some(2));

    let revoked = sandbox.admin.delete(&format!("/v1/keys/{id}")).await?;
    let after = app.chat("manifold/echo", "hi").await?;

    assert!(revoked.status == 200 || revoked.status == 204, "{}", revoked.text);
    assert_eq!((after.status, &after.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    sandbox.stop().await?;
    Ok(())
});

story!(a_canary_is_refused_like_a_key_that_does_not_exist_and_makes_a_critical_incident, |builder| {
    let sandbox = builder.start().await?;
    let made =
        sandbox.admin.post("/v1/keys", &json!({"name": "bait", "permissions": ["*"], "canary": true})).await?.json();
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap_or_default());
    assert_eq!(sandbox.admin.get(&path).await?.json()["canary"], true, "{made}");

    let used = sandbox.admin.with_key(made["secret"].as_str()).get("/v1/keys").await?;

    assert_eq!((used.status, &used.json()["code"]), (401, &json!("invalid_key")), "{}", used.text);
    let asked = sandbox.admin.post("/v1/keys/verify", &json!({"key": made["secret"]})).await?.json();
    assert_eq!(asked["code"], "not_found", "{asked}");
    let mut incident = json!(null);
    until("the use is an incident", async || {
        let incidents = sandbox.admin.get("/v1/audit/incidents").await?.json();
        let canary =
            incidents["data"].as_array().and_then(|all| all.iter().find(|one| one["seen"] == made["id"]).cloned());
        incident = canary.unwrap_or_default();
        Ok(incident != json!(null))
    })
    .await?;
    assert_eq!((&incident["rule"], &incident["severity"]), (&json!("canary"), &json!("critical")), "{incident}");
    sandbox.stop().await?;
    Ok(())
});

story!(a_key_may_do_only_what_it_was_made_for, |builder| {
    let sandbox = builder.start().await?;
    let made = sandbox.admin.post("/v1/keys", &json!({"name": "app"})).await?.json();
    let app = sandbox.admin.with_key(made["secret"].as_str());

    let list = app.get("/v1/keys").await?;
    let reader = sandbox
        .admin
        .post("/v1/keys", &json!({"name": "reader", "permissions": ["keys.key.read", "keys.key.write"]}))
        .await?
        .json();
    let reader = sandbox.admin.with_key(reader["secret"].as_str());
    let chat = reader.chat("manifold/echo", "hi").await?;
    let escalation = reader.post("/v1/keys", &json!({"name": "more", "permissions": ["*"]})).await?;

    assert_eq!((list.status, &list.json()["code"]), (403, &json!("insufficient_scope")));
    assert_eq!((chat.status, &chat.json()["error"]["code"]), (403, &json!("permission_denied")));
    assert_eq!((escalation.status, &escalation.json()["code"]), (403, &json!("escalation")), "{}", escalation.text);
    sandbox.stop().await?;
    Ok(())
});

story!(without_a_good_key_nothing_is_answered, |builder| {
    let sandbox = builder.start().await?;
    let mut wrong = sandbox.admin_key.clone();
    wrong.replace_range(30..31, if &wrong[30..31] == "A" { "B" } else { "A" });

    for key in [None, Some("sk-nonsense"), Some(wrong.as_str())] {
        let native = sandbox.admin.with_key(key).get("/v1/keys").await?;
        let dialect = sandbox.admin.with_key(key).chat("manifold/echo", "hi").await?;
        assert_eq!((native.status, dialect.status), (401, 401));
        assert!(native.header("www-authenticate").starts_with("Bearer"));
        assert_eq!(dialect.json()["error"]["code"], "invalid_api_key");
    }
    sandbox.stop().await?;
    Ok(())
});

story!(a_limit_per_key_is_told_and_kept, |builder| {
    let builder = builder.set("edge.limits.per_key.quota", "2").set("edge.limits.per_key.window", "60s");
    let sandbox = builder.start().await?;

    let statuses = [
        sandbox.admin.get("/v1/keys").await?,
        sandbox.admin.get("/v1/keys").await?,
        sandbox.admin.get("/v1/keys").await?,
    ];

    assert_eq!(statuses.each_ref().map(|reply| reply.status), [200, 200, 429]);
    assert_eq!(statuses[0].header("ratelimit-policy"), "\"key\";q=2;w=60");
    assert!(!statuses[2].header("retry-after").is_empty());
    sandbox.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(sandbox.admin.get("/v1/keys").await?.status, 200);
    sandbox.stop().await?;
    Ok(())
});

story!(a_tenant_and_an_operation_have_limits_of_their_own, |builder| {
    let policy =
        |builder: Builder, name: &str, value: &str| builder.set(&format!("edge.limits.policies.{name}"), value);
    let builder = policy(policy(builder, "tenant.quota", "4"), "tenant.window", "60s");
    let builder = policy(policy(builder, "listing.quota", "1"), "listing.window", "60s");
    let builder = policy(policy(builder, "tenant.per", "tenant"), "listing.routes", "[\"listKeys\"]");
    let sandbox = builder.start().await?;

    let made = sandbox.admin.post("/v1/keys", &json!({"name": "app"})).await?;
    let app = sandbox.admin.with_key(made.json()["secret"].as_str());
    let lists = [sandbox.admin.get("/v1/keys").await?, sandbox.admin.get("/v1/keys").await?];
    let of_another_key = app.chat("manifold/echo", "hi").await?;
    let last = app.chat("manifold/echo", "hi").await?;
    let too_many = app.chat("manifold/echo", "hi").await?;

    assert_eq!(lists.each_ref().map(|reply| reply.status), [200, 429]);
    assert_eq!(lists[1].json()["violated-policies"], json!(["listing"]));
    assert_eq!(lists[0].header("ratelimit-policy"), "\"listing\";q=1;w=60, \"tenant\";q=4;w=60");
    assert_eq!((of_another_key.status, of_another_key.header("ratelimit-policy")), (200, "\"tenant\";q=4;w=60"));
    assert!(last.header("ratelimit").starts_with("\"tenant\";r=0;t="), "a refused list cost the tenant nothing");
    assert_eq!((last.status, too_many.status), (200, 429));
    sandbox.stop().await?;
    Ok(())
});

story!(what_a_key_was_used_for_is_added_up_by_hour, |builder| {
    let sandbox = builder.start().await?;
    let made = sandbox.admin.post("/v1/keys", &json!({"name": "app"})).await?.json();
    let (id, app) = (made["id"].as_str().unwrap_or_default(), sandbox.admin.with_key(made["secret"].as_str()));
    let path = format!("/v1/keys/{id}/usage");

    for _ in 0..3 {
        app.chat("manifold/echo", "two words").await?;
    }
    app.chat("nobody/knows", "hi").await?;
    let mut usage = serde_json::Value::Null;
    until("all calls are added up", async || {
        usage = sandbox.admin.get(&path).await?.json();
        let hours = usage["data"].as_array().into_iter().flatten();
        Ok(hours.filter_map(|hour| hour["n_requests"].as_i64()).sum::<i64>() >= 4)
    })
    .await?;
    let wrong = sandbox.admin.get(&format!("{path}?window=1y")).await?;
    let foreign = sandbox.admin.get("/v1/keys/key_01h455vb4pex5vsknk084sn02q/usage").await?;

    let hours = usage["data"].as_array().cloned().unwrap_or_default();
    assert_eq!(hours.len(), 2, "{usage}");
    let told: Vec<_> = hours.iter().map(|hour| (&hour["operation"], &hour["outcome"], &hour["n_requests"])).collect();
    assert_eq!(told, [(&json!("chat"), &json!("failed"), &json!(1)), (&json!("chat"), &json!("ok"), &json!(3))]);
    assert!(hours[1]["input_tokens"].as_i64() > Some(0), "{usage}");
    assert_eq!((wrong.status, &wrong.json()["code"]), (400, &json!("window_invalid")), "{}", wrong.text);
    assert_eq!(foreign.status, 404);
    sandbox.stop().await?;
    Ok(())
});

story!(a_secret_is_replaced_without_a_failed_call, |builder| {
    let sandbox = builder.start().await?;
    let made = sandbox.admin.post("/v1/keys", &json!({"name": "app"})).await?.json();
    let (id, old) = (made["id"].as_str().unwrap_or_default(), sandbox.admin.with_key(made["secret"].as_str()));
    assert_eq!(old.chat("manifold/echo", "hi").await?.status, 200);

    let rotated = sandbox.admin.post(&format!("/v1/keys/{id}/rotate"), &json!({"grace": "P1D"})).await?;
    let new = sandbox.admin.with_key(rotated.json()["secret"].as_str());
    let both = [old.chat("manifold/echo", "hi").await?.status, new.chat("manifold/echo", "hi").await?.status];
    let finished = sandbox.admin.post(&format!("/v1/keys/{id}/rotate/finish"), &json!({})).await?;
    let (ended, lives) = (old.chat("manifold/echo", "hi").await?, new.chat("manifold/echo", "hi").await?);

    assert_eq!((rotated.status, rotated.header("cache-control")), (200, "no-store"), "{}", rotated.text);
    assert_eq!(both, [200, 200]);
    assert_eq!(finished.status, 200, "{}", finished.text);
    assert_eq!((ended.status, lives.status), (401, 200));
    sandbox.stop().await?;
    Ok(())
});

story!(a_hundred_credits_are_a_hundred_calls, |builder| {
    let sandbox = builder.start().await?;
    let wish = json!({"name": "app", "permissions": ["keys.key.read"], "credits": 100});
    let made = sandbox.admin.post("/v1/keys", &wish).await?.json();
    let app = sandbox.admin.with_key(made["secret"].as_str());

    let calls = futures::future::try_join_all((0..200).map(|_| app.get("/v1/keys?limit=1"))).await?;
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap_or_default());
    let more = sandbox.admin.send(Method::PATCH, &path, &JSON, br#"{"credits":1}"#.to_vec()).await?;
    let after = [app.get("/v1/keys?limit=1").await?.status, app.get("/v1/keys?limit=1").await?.status];

    let count = |status: u16| calls.iter().filter(|call| call.status == status).count();
    assert_eq!((count(200), count(429)), (100, 100));
    let refused = calls.iter().find(|call| call.status == 429).map(|call| call.json()["code"].clone());
    assert_eq!(refused, Some(json!("usage_exceeded")));
    assert_eq!((more.status, after), (200, [200, 429]), "{}", more.text);
    sandbox.stop().await?;
    Ok(())
});

story!(a_key_pauses_is_restricted_and_verified, |builder| {
    let sandbox = builder.start().await?;
    let made = sandbox.admin.post("/v1/keys", &json!({"name": "app"})).await?.json();
    let (path, secret) = (format!("/v1/keys/{}", made["id"].as_str().unwrap_or_default()), &made["secret"]);
    let app = sandbox.admin.with_key(secret.as_str());
    let change = async |body: &str| sandbox.admin.send(Method::PATCH, &path, &JSON, body.as_bytes().to_vec()).await;
    let verify = async || {
        let asked = json!({"key": secret, "permissions": "ai.inference.run", "ip": "127.0.0.1"});
        anyhow::Ok(sandbox.admin.post("/v1/keys/verify", &asked).await?.json()["code"].clone())
    };
    assert_eq!((app.chat("manifold/echo", "hi").await?.status, verify().await?), (200, json!("valid")));

    change(r#"{"enabled":false}"#).await?;
    let paused = (app.chat("manifold/echo", "hi").await?.status, verify().await?);
    change(r#"{"enabled":true,"restrictions":{"ips":["192.0.2.0/24"]}}"#).await?;
    let elsewhere = (app.chat("manifold/echo", "hi").await?.status, verify().await?);
    change(r#"{"restrictions":{"ips":["127.0.0.0/8"],"apis":["ai"]}}"#).await?;
    let here = (app.chat("manifold/echo", "hi").await?.status, verify().await?);

    assert_eq!(paused, (401, json!("disabled")));
    assert_eq!(elsewhere, (403, json!("forbidden")));
    assert_eq!(here, (200, json!("forbidden")), "a question has to name the API");
    sandbox.stop().await?;
    Ok(())
});
