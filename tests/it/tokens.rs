//! Programs that are logged in: access tokens instead of a cookie, and the keys by which everybody verifies them.

use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use manifold_testkit::{Client, Reply, Sandbox};
use serde_json::{Value, json};

use crate::people::{PASSWORD, code, set_up};
use crate::story;

/// A program that somebody has logged in.
struct Program {
    nobody: Client,
    client: Client,
    refresh: String,
}

impl Program {
    fn of(nobody: Client, reply: &Reply) -> Result<Self> {
        assert_eq!((reply.status, reply.header("set-cookie")), (200, ""), "{}", reply.text);
        let tokens = reply.json();
        assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(600)));
        assert_eq!(reply.header("cache-control"), "no-store");
        let client = nobody.with_key(Some(tokens["access_token"].as_str().context("a token")?));
        Ok(Self { nobody, client, refresh: tokens["refresh_token"].as_str().context("a token")?.to_owned() })
    }

    async fn log_in(sandbox: &Sandbox) -> Result<Self> {
        let nobody = sandbox.admin.with_key(None);
        let login = json!({"email": "ada@example.org", "password": PASSWORD});
        let reply = nobody.post("/v1/auth/login?mode=token", &login).await?;
        Self::of(nobody, &reply)
    }

    async fn refresh(&self) -> Result<Reply> {
        self.nobody.post("/v1/auth/refresh", &json!({"refresh_token": self.refresh})).await
    }
}

story!(a_program_logs_in_by_tokens_and_goes_on_with_new_ones, |builder| {
    let sandbox = builder.start().await?;
    set_up(&sandbox).await?;
    let first = Program::log_in(&sandbox).await?;

    let me = first.client.get("/v1/users/me").await?;
    assert_eq!(me.json()["email"], "ada@example.org", "{}", me.text);
    let made = first.client.post("/v1/keys", &json!({"name": "website"})).await?;
    assert_eq!(made.status, 201, "no page can send a token, so nothing else is asked for: {}", made.text);
    assert_eq!(first.client.chat("manifold/echo", "hello").await?.status, 200);
    let second = Program::of(first.nobody.clone(), &first.refresh().await?)?;
    assert_eq!(second.client.get("/v1/sessions").await?.json()["data"].as_array().map(Vec::len), Some(2));

    assert_eq!(code(&first.refresh().await?), (400, "invalid_grant".into()));
    assert_eq!(code(&second.refresh().await?), (400, "invalid_grant".into()));
    let dead = second.client.get("/v1/users/me").await?;
    assert_eq!(code(&dead), (401, "invalid_token".into()));
    assert_eq!(dead.header("www-authenticate"), "Bearer realm=\"manifold\", error=\"invalid_token\"");
    let chat = second.client.chat("manifold/echo", "hello").await?;
    assert_eq!(
        (chat.status, &chat.json()["error"]["code"]),
        (401, &json!("invalid_api_key")),
        "in the words of the route"
    );
    sandbox.stop().await?;
    Ok(())
});

story!(a_token_ends_with_its_session, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let (left, ended, old) =
        (Program::log_in(&sandbox).await?, Program::log_in(&sandbox).await?, Program::log_in(&sandbox).await?);

    assert_eq!(left.client.post("/v1/auth/logout", &Value::Null).await?.status, 204);
    let own = ended.client.get("/v1/auth/session").await?.json()["id"].as_str().context("an id")?.to_owned();
    assert_eq!(ada.change(Method::DELETE, &format!("/v1/sessions/{own}"), None).await?.status, 204);
    let change = json!({"current": PASSWORD, "new": "another four words here"});
    let changed = old.client.post("/v1/auth/password?mode=token", &change).await?;
    let new = Program::of(old.nobody.clone(), &changed)?;

    for (program, how) in [(&left, "logging out"), (&ended, "a revoked session"), (&old, "a changed password")] {
        assert_eq!(code(&program.client.get("/v1/users/me").await?), (401, "invalid_token".into()), "{how}");
        assert_eq!(code(&program.refresh().await?), (400, "invalid_grant".into()), "{how}");
    }
    assert_eq!(code(&ada.get("/v1/users/me").await?), (401, "invalid_session".into()));
    assert_eq!(new.client.get("/v1/users/me").await?.status, 200);
    sandbox.clock.advance(Duration::from_secs(700));
    assert_eq!(code(&new.client.get("/v1/users/me").await?), (401, "invalid_token".into()));
    sandbox.stop().await?;
    Ok(())
});

story!(a_token_is_taken_from_one_place_only, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let nobody = sandbox.admin.with_key(None);
    let login = json!({"email": "ada@example.org", "password": PASSWORD});
    let tokens = nobody.post("/v1/auth/login?mode=token", &login).await?.json();
    let access = tokens["access_token"].as_str().context("a token")?;
    let bearer = format!("Bearer {access}");

    for query in ["access_token", "key", "api_key", "token"] {
        let reply = nobody.get(&format!("/v1/users/me?{query}={access}")).await?;
        assert_eq!(code(&reply), (401, "invalid_session".into()), "{query}");
    }
    let ask = async |headers: &[(&str, &str)]| nobody.send(Method::GET, "/v1/users/me", headers, Vec::new()).await;
    assert_eq!(ask(&[("authorization", &bearer)]).await?.status, 200);
    for headers in [
        vec![("authorization", bearer.as_str()), ("cookie", ada.cookie.as_str())],
        vec![("authorization", bearer.as_str()), ("x-api-key", sandbox.admin_key.as_str())],
        vec![("authorization", bearer.as_str()), ("authorization", bearer.as_str())],
    ] {
        assert_eq!(code(&ask(&headers).await?), (400, "ambiguous_credentials".into()), "{:?}", headers[1].0);
    }
    assert_eq!(code(&ask(&[("x-api-key", access)]).await?), (401, "invalid_session".into()), "a token is no key");
    let refresh = format!("Bearer {}", tokens["refresh_token"].as_str().context("a token")?);
    assert_eq!(code(&ask(&[("authorization", &refresh)]).await?), (401, "invalid_token".into()));
    let unknown = nobody.post("/v1/auth/login?mode=cookie", &login).await?;
    assert_eq!(code(&unknown), (400, "parameter_unknown".into()));
    let more = json!({"refresh_token": tokens["refresh_token"], "scope": "*"});
    assert_eq!(code(&nobody.post("/v1/auth/refresh", &more).await?), (422, "body_invalid".into()));
    sandbox.stop().await?;
    Ok(())
});

story!(everybody_reads_the_keys_and_the_next_one_signs_after_an_hour, |builder| {
    let sandbox = builder.start().await?;
    let nobody = sandbox.admin.with_key(None);
    let kids = async || -> Result<Vec<String>> {
        let reply = nobody.get("/.well-known/jwks.json").await?;
        assert_eq!((reply.status, reply.header("cache-control")), (200, "public, max-age=300"), "{}", reply.text);
        assert_eq!(reply.header("content-type"), "application/json");
        let keys = reply.json()["keys"].as_array().context("keys")?.clone();
        assert!(keys.iter().all(|key| key["kty"] == "OKP" && key["alg"] == "EdDSA" && key["d"].is_null()));
        Ok(keys.iter().filter_map(|key| key["kid"].as_str().map(ToOwned::to_owned)).collect())
    };
    let before = kids().await?;
    assert_eq!(before.len(), 2);

    let rotate = async || sandbox.admin.post("/v1/signing-keys/rotate", &Value::Null).await;
    let early = rotate().await?;
    assert_eq!((code(&early), early.header("retry-after").is_empty()), ((409, "signing_key_too_new".into()), false));
    sandbox.clock.advance(Duration::from_secs(3_600));
    let rotated = rotate().await?;

    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let after = kids().await?;
    assert!(before.iter().all(|kid| after.contains(kid)) && after.len() == 3);
    assert!(before.contains(&rotated.json()["kid"].as_str().context("a name")?.to_owned()));
    assert_eq!(code(&nobody.post("/v1/signing-keys/rotate", &Value::Null).await?).0, 401);
    sandbox.stop().await?;
    Ok(())
});
