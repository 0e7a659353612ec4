//! Hostile input against the running program. The numbers are those of docs/attack-cases.md.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use http::Method;
use manifold_testkit::{Client, Reply};
use serde_json::{Value, json};

use crate::matrix::contract::{self, Needs, operations};
use crate::matrix::things::Things;
use crate::matrix::{all_there_is, member};
use crate::people::{Browser, PASSWORD, code, set_up};
use crate::story;
use crate::tenants::{key, tenant};

async fn log_in(nobody: &Client, email: &str, password: &str) -> Result<Reply> {
    nobody.post("/v1/auth/login", &json!({"email": email, "password": password})).await
}

story!(case_09_no_credential_in_an_address_counts, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let nobody = sandbox.admin.with_key(None);
    let session = ada.cookie.split_once('=').context("a cookie")?.1;

    for secret in [&*sandbox.admin_key, session] {
        for name in ["key", "api_key", "access_token", "token", "authorization", "x-api-key", "manifold_dev"] {
            let reply = nobody.get(&format!("/v1/users?{name}={secret}")).await?;
            assert!(reply.status == 401 && !reply.text.contains(secret), "{name}: {}", reply.text);
        }
        let reply = nobody.get(&format!("/v1/keys/{secret}")).await?;
        assert!(reply.status == 401 && !reply.text.contains(secret), "{}", reply.text);
    }
    sandbox.stop().await?;
    Ok(())
});

story!(case_25_who_is_guessed_at_goes_on_working, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let nobody = sandbox.admin.with_key(None);
    for _ in 0..6 {
        assert_eq!(code(&log_in(&nobody, "ada@example.org", "wrong horse battery").await?).0, 401);
    }

    let made_to_wait = log_in(&nobody, "ada@example.org", PASSWORD).await?;

    assert_eq!(code(&made_to_wait), (429, "too_many_attempts".into()), "even with the right one");
    assert_ne!(made_to_wait.header("retry-after"), "");
    assert_eq!(ada.change(Method::POST, "/v1/keys", Some(&json!({"name": "k"}))).await?.status, 201);
    sandbox.stop().await?;
    Ok(())
});

story!(case_28_a_password_counts_to_its_last_character_and_no_further, |builder| {
    let sandbox = builder.start().await?;
    let mut ada = set_up(&sandbox).await?;
    let nobody = sandbox.admin.with_key(None);
    let long = format!("{} {}", "seven wild ducks cross a frozen river at dawn while two old men sing", "quietly");
    let other = long.replace("quietly", "loudly!");
    assert!(long.len() > 73 && long[..68] == other[..68], "they differ behind the length that some hashes cut at");

    for new in ["x".repeat(1_000_000), "correct horse ".repeat(10), "short".to_owned()] {
        let body = json!({"current": PASSWORD, "new": new});
        let refused = ada.change(Method::POST, "/v1/auth/password", Some(&body)).await?;
        assert!([400, 413, 422].contains(&refused.status), "{} characters: {}", new.len(), refused.text);
        assert!(!refused.text.contains("horse"), "{}", refused.text);
    }
    let mut current = PASSWORD.to_owned();
    for (new, right, wrong) in [
        (&*long, &*long, &*other),
        ("correct horse\0battery staple", "correct horse\0battery staple", "correct horse"),
        ("cr\u{e9}me br\u{fb}l\u{e9}e for nine", "cre\u{301}me bru\u{302}le\u{301}e for nine", "creme brulee for nine"),
    ] {
        let body = json!({"current": current, "new": new});
        let changed = ada.change(Method::POST, "/v1/auth/password", Some(&body)).await?;
        assert_eq!(changed.status, 200, "{}", changed.text);
        ada = Browser::of(ada.client, &changed)?;
        assert_eq!(code(&log_in(&nobody, "ada@example.org", wrong).await?), (401, "invalid_credentials".into()));
        assert_eq!(log_in(&nobody, "ada@example.org", right).await?.status, 200, "{new:?}");
        current = new.to_owned();
    }
    sandbox.stop().await?;
    Ok(())
});

story!(case_29_a_session_is_never_the_one_that_somebody_brought_along, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let nobody = sandbox.admin.with_key(None);
    let planted = format!("manifold_dev={}", "A".repeat(43));
    let login = json!({"email": "ada@example.org", "password": PASSWORD}).to_string().into_bytes();

    let headers = [("content-type", "application/json"), ("cookie", &*planted)];
    let reply = nobody.send(Method::POST, "/v1/auth/login", &headers, login).await?;

    assert_eq!(reply.status, 200, "{}", reply.text);
    let new = Browser::of(nobody.clone(), &reply)?.cookie;
    assert!(new != planted && new != ada.cookie);
    let with = async |cookie: &str| nobody.send(Method::GET, "/v1/users/me", &[("cookie", cookie)], Vec::new()).await;
    assert_eq!(code(&with(&planted).await?), (401, "invalid_session".into()));
    assert_eq!(
        code(&with(&new.replace("manifold_dev", "__Host-manifold")).await?).0,
        401,
        "another name is no session"
    );
    assert_eq!(code(&with(&format!("{new}; {planted}")).await?), (400, "ambiguous_credentials".into()));
    sandbox.stop().await?;
    Ok(())
});

story!(case_30_only_a_request_that_says_what_it_is_changes_something, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let made = ada.change(Method::POST, "/v1/keys", Some(&json!({"name": "website"}))).await?.json();
    let path = format!("/v1/keys/{}", made["id"].as_str().context("an id")?);
    let csrf = log_in(&ada.client, "ada@example.org", PASSWORD).await?;
    let (cookie, csrf) = (Browser::of(ada.client.clone(), &csrf)?.cookie, csrf.json()["csrf"].clone());
    let csrf = csrf.as_str().context("a token")?;
    let own = [("cookie", &*cookie), ("manifold-csrf", csrf)];
    let ask = async |method: Method, path: &str, more: &[(&str, &str)], body: &str| {
        ada.client.send(method, path, &[&own, more].concat(), body.as_bytes().to_vec()).await
    };

    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let reply = ask(Method::POST, "/v1/keys", &[("content-type", kind)], r#"{"name":"forged"}"#).await?;
        assert_eq!(reply.status, 415, "{kind}: {}", reply.text);
    }
    for header in ["x-http-method-override", "x-http-method", "x-method-override"] {
        assert_eq!(ask(Method::GET, &path, &[(header, "DELETE")], "").await?.json()["id"], made["id"], "{header}");
        assert_eq!(ask(Method::POST, &path, &[(header, "DELETE")], "").await?.status, 405, "{header}");
    }
    ask(Method::GET, &format!("{path}?_method=DELETE"), &[], "").await?;
    for action in ["/v1/auth/logout", "/v1/vault/rotate", &format!("{path}/rotate")] {
        assert_eq!(ask(Method::GET, action, &[], "").await?.status, 405, "{action}");
    }
    let key = ask(Method::GET, &path, &[], "").await?.json();
    assert_eq!((&key["revoked_at"], &key["rotation"]), (&Value::Null, &made["rotation"]), "{key}");
    assert_eq!(
        ada.get("/v1/keys").await?.json()["data"].as_array().map(Vec::len),
        Some(2),
        "the admin's, and this one"
    );
    sandbox.stop().await?;
    Ok(())
});

story!(case_68_no_filter_reaches_the_database_as_anything_but_a_value, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let hostile = ["'", "%27%20OR%201=1--", "%00", "%25", "-1", "1e9", "..%2F..", "%F0%9F%98%80", &"x".repeat(4000)];

    let mut n = 0;
    for operation in operations(&sandbox).await?.iter().filter(|one| one.is_read() && !one.path.contains('{')) {
        for name in &operation.query {
            for value in hostile {
                let reply = ada.get(&format!("{}?{name}={value}", operation.path)).await?;
                let what = format!("{}?{name}={value}: {} {}", operation.path, reply.status, reply.text);
                let nothing = reply.json()["data"] == json!([]) || operation.path.ends_with("/export");
                assert!(reply.status < 500 && (reply.status != 200 || nothing), "{what}");
                n += 1;
            }
        }
    }

    assert!(n > 150, "{n}");
    sandbox.stop().await?;
    Ok(())
});

/// Where the texts of a body are.
fn texts(at: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Array(all) => all.iter().enumerate().for_each(|(n, one)| texts(&format!("{at}/{n}"), one, found)),
        Value::Object(all) => all.iter().for_each(|(name, one)| texts(&format!("{at}/{name}"), one, found)),
        _ => {}
    }
}

story!(case_63_no_text_of_a_body_is_a_failure_of_ours, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let hostile =
        ["\0", "a\0b", "", "\u{202e}\r\n\u{1b}[2K", "' OR 1=1--", "../../x", "\u{10ffff}", &"x".repeat(20_000)];

    let mut failed = Vec::new();
    for operation in contract::all(&sandbox).await?.iter().filter(|one| one.path != "/v1/auth/logout") {
        let Some(body) = &operation.body else { continue };
        let mut places = Vec::new();
        texts("", body, &mut places);
        for place in &places {
            for text in hostile {
                let mut changed = body.clone();
                *changed.pointer_mut(place).context("a place")? = json!(text);
                let path = operation.at("key_01h455vb4pex5vsknk084sn02q");
                let reply = ada.change(operation.method.clone(), &path, Some(&changed)).await?;
                if reply.status >= 500 && reply.status != 503 {
                    failed.push(format!("{} {path} {place} {text:.10?}: {}", operation.method, reply.status));
                }
            }
        }
    }

    assert!(failed.is_empty(), "{failed:#?}");
    sandbox.stop().await?;
    Ok(())
});

story!(case_74_no_body_sets_what_it_does_not_name, |builder| {
    let sandbox = builder.start().await?;
    set_up(&sandbox).await?;
    let (acme, grace) = tenant(&sandbox, "acme").await?;
    let things = Things::make(&grace, &acme).await?;
    let operations = contract::all(&sandbox).await?;
    let before = all_there_is(&grace, &operations, &things).await?;

    let mut n = 0;
    // Dialects carry fields that they do not know to the provider.
    let dialects = ["/v1/chat/completions", "/v1/embeddings"];
    for operation in operations.iter().filter(|one| !dialects.contains(&&*one.path)) {
        let Some(body) = &operation.body else { continue };
        let id = if operation.names_a_thing() { things.of(operation)?.0 } else { "x" };
        for name in [
            "tenant_id",
            "tenant",
            "role",
            "roles",
            "is_admin",
            "owner",
            "quota",
            "credits",
            "id",
            "created_at",
            "state",
            "permissions",
            "__proto__",
        ] {
            if operation.fields.iter().any(|field| field == name) {
                continue;
            }
            let mut more = body.clone();
            more[name] = json!("owner");
            let reply = match operation.needs {
                Needs::Nothing => {
                    let nobody = grace.client.with_key(None);
                    let headers = [("content-type", "application/json")];
                    nobody
                        .send(operation.method.clone(), &operation.at(id), &headers, more.to_string().into_bytes())
                        .await?
                }
                _ => grace.change(operation.method.clone(), &operation.at(id), Some(&more)).await?,
            };
            let what = format!("{} {} with {name}: {}", operation.method, operation.path, reply.text);
            let not_the_house = reply.status == 403 && operation.path == "/v1/tenants";
            assert!(not_the_house || (reply.status == 422 && reply.text.contains(name)), "{what}");
            n += 1;
        }
    }

    assert!(n > 200, "{n}");
    assert_eq!(all_there_is(&grace, &operations, &things).await?, before);
    sandbox.stop().await?;
    Ok(())
});

story!(case_75_there_is_no_door_beside_those_of_the_contract, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let known: BTreeSet<_> =
        contract::all(&sandbox).await?.into_iter().map(|one| (one.path, one.method.to_string())).collect();

    for (path, _) in &known {
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            if !known.contains(&(path.clone(), method.to_string())) {
                let reply = ada.change(method.clone(), &path.replace(['{', '}'], ""), None).await?;
                assert!([404, 405].contains(&reply.status), "{method} {path}: {} {}", reply.status, reply.text);
            }
        }
    }
    for path in [
        "/internal",
        "/admin",
        "/metrics",
        "/debug/pprof/",
        "/v0/keys",
        "/v2/keys",
        "/v1",
        "/v1/internal",
        "/V1/keys",
        "/v1/keys/",
        "/.env",
        "/manifold.identity.v1.KeysService/CreateKey",
        "/grpc.health.v1.Health/Check",
    ] {
        for (method, body) in [(Method::GET, ""), (Method::POST, "{}")] {
            let reply = sandbox
                .admin
                .send(method, path, &[("content-type", "application/json")], body.as_bytes().to_vec())
                .await?;
            assert!([404, 405].contains(&reply.status), "{path}: {} {}", reply.status, reply.text);
        }
    }
    sandbox.stop().await?;
    Ok(())
});

story!(case_76_nobody_makes_oneself_more_than_one_is, |builder| {
    let sandbox = builder.start().await?;
    set_up(&sandbox).await?;
    let ((_, grace), (_, joan)) = (tenant(&sandbox, "acme").await?, tenant(&sandbox, "other").await?);
    let admin = member(&grace, "admin").await?;
    let id = async |who: &Browser| -> Result<String> {
        Ok(who.get("/v1/users/me").await?.json()["id"].as_str().context("an id")?.to_owned())
    };
    let (me, owner) = (id(&admin).await?, id(&grace).await?);
    let foreign = json!({"email": "thief@example.org", "role": "viewer"});
    let foreign = joan.change(Method::POST, "/v1/invitations", Some(&foreign)).await?.json();

    for (method, path, body, expected) in [
        (Method::PATCH, format!("/v1/users/{me}"), json!({"roles": ["owner"]}), "escalation"),
        (Method::PATCH, format!("/v1/users/{owner}"), json!({"roles": ["viewer"]}), "escalation"),
        (Method::POST, format!("/v1/users/{owner}/reset-link"), json!({}), "escalation"),
        (Method::POST, "/v1/invitations".to_owned(), json!({"email": "me@example.org", "role": "owner"}), "escalation"),
        (Method::POST, "/v1/keys".to_owned(), json!({"name": "k", "permissions": ["*"]}), "escalation"),
        (Method::POST, "/v1/roles".to_owned(), json!({"name": "r", "grants": [{"permission": "*"}]}), "escalation"),
    ] {
        let reply = admin.change(method.clone(), &path, Some(&body)).await?;
        assert_eq!(code(&reply), (403, expected.into()), "{method} {path}: {}", reply.text);
    }
    let built_in =
        grace.change(Method::PATCH, "/v1/roles/viewer", Some(&json!({"grants": [{"permission": "*"}]}))).await?;
    assert!((400..500).contains(&built_in.status), "{}", built_in.text);
    let last = grace.change(Method::PATCH, &format!("/v1/users/{owner}"), Some(&json!({"roles": ["viewer"]}))).await?;
    assert_eq!(code(&last), (409, "last_owner".into()));
    assert_eq!(admin.get("/v1/auth/session").await?.json()["roles"], json!(["admin"]));
    // An invitation leads into the tenant that made it, whoever tells it which.
    let joining = json!({"token": foreign["token"], "name": "T", "password": PASSWORD});
    let thief = Browser::of(grace.client.clone(), &grace.client.post("/v1/auth/register", &joining).await?)?;
    let users = thief.get("/v1/users").await?;
    assert!(users.status == 200 && !users.text.contains(&owner), "{}", users.text);
    assert_eq!(key(&grace).await?.get("/v1/users").await?.text.matches("thief@example.org").count(), 0);
    sandbox.stop().await?;
    Ok(())
});
