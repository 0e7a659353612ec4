//! A newcomer's first hour: the first account, logging in by cookie, and what a browser may not be made to do.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use manifold_testkit::{Client, Reply, Sandbox};
use serde_json::{Value, json};

use crate::story;

pub const PASSWORD: &str = "correct horse battery staple";

/// A browser that is logged in.
pub struct Browser {
    pub client: Client,
    pub cookie: String,
    pub csrf: String,
}

impl Browser {
    /// What the answer to a login made of it.
    pub fn of(client: Client, reply: &Reply) -> Result<Self> {
        let line = reply.header("set-cookie");
        let cookie = line.split(';').next().context("a cookie")?.to_owned();
        Ok(Self { client, cookie, csrf: reply.json()["csrf"].as_str().context("a token")?.to_owned() })
    }

    pub async fn ask(&self, method: Method, path: &str, body: Option<&Value>, more: &[(&str, &str)]) -> Result<Reply> {
        let mut headers = vec![("cookie", self.cookie.as_str()), ("content-type", "application/json")];
        headers.extend_from_slice(more);
        self.client
            .send(method, path, &headers, body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
            .await
    }

    pub async fn get(&self, path: &str) -> Result<Reply> {
        self.ask(Method::GET, path, None, &[]).await
    }

    /// As our own pages do it.
    pub async fn change(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply> {
        self.ask(method, path, body, &[("manifold-csrf", &self.csrf)]).await
    }
}

pub fn code(reply: &Reply) -> (u16, String) {
    (reply.status, reply.json()["code"].as_str().unwrap_or_default().to_owned())
}

pub async fn set_up(sandbox: &Sandbox) -> Result<Browser> {
    let token = std::fs::read_to_string(sandbox.folder.path().join("setup.token"))?;
    let owner = json!({"token": token.trim(), "email": "ada@example.org", "password": PASSWORD, "name": "Ada"});
    let client = sandbox.admin.with_key(None);
    let reply = client.post("/v1/auth/setup", &owner).await?;
    assert_eq!(reply.status, 201, "{}", reply.text);
    Browser::of(client, &reply)
}

async fn log_in(sandbox: &Sandbox, password: &str) -> Result<Reply> {
    let client = sandbox.admin.with_key(None);
    client.post("/v1/auth/login", &json!({"email": "ada@example.org", "password": password})).await
}

story!(a_newcomer_sets_the_house_up_and_makes_a_key, |builder| {
    let sandbox = builder.start().await?;
    let nobody = sandbox.admin.with_key(None);
    assert_eq!(code(&nobody.get("/v1/auth/session").await?), (503, "setup_required".into()));
    assert_eq!(code(&log_in(&sandbox, PASSWORD).await?), (503, "setup_required".into()));

    let ada = set_up(&sandbox).await?;

    let session = ada.get("/v1/auth/session").await?.json();
    assert_eq!((&session["user"]["email"], &session["roles"]), (&json!("ada@example.org"), &json!(["owner"])));
    let made = ada.change(Method::POST, "/v1/keys", Some(&json!({"name": "website"}))).await?;
    assert_eq!(made.status, 201, "{}", made.text);
    let key = made.json()["secret"].as_str().context("a secret")?.to_owned();
    let website = sandbox.admin.with_key(Some(&key));
    assert_eq!(website.chat("manifold/echo", "hello").await?.status, 200);
    assert_eq!(code(&website.get("/v1/users/me").await?), (403, "session_required".into()));
    assert_eq!(code(&nobody.get("/v1/auth/session").await?), (401, "invalid_session".into()));
    sandbox.stop().await?;
    Ok(())
});

story!(a_session_lasts_from_login_to_logout, |builder| {
    let sandbox = builder.start().await?;
    let first = set_up(&sandbox).await?;
    assert_eq!(code(&log_in(&sandbox, "wrong horse battery").await?), (401, "invalid_credentials".into()));
    let reply = log_in(&sandbox, PASSWORD).await?;
    let cookie = reply.header("set-cookie").to_owned();
    for attribute in ["manifold_dev=", "Path=/", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    let second = Browser::of(sandbox.admin.with_key(None), &reply)?;

    let sessions = second.get("/v1/sessions").await?.json();
    let id = sessions["data"].as_array().context("a list")?.iter().find(|one| one["current"] == false);
    let path = format!("/v1/sessions/{}", id.context("the other one")?["id"].as_str().context("an id")?);
    assert_eq!(second.change(Method::DELETE, &path, None).await?.status, 204);
    assert_eq!(code(&first.get("/v1/users/me").await?), (401, "invalid_session".into()));
    assert_eq!(code(&second.change(Method::DELETE, &path, None).await?), (404, "session_not_found".into()));

    let renamed = second.change(Method::PATCH, "/v1/users/me", Some(&json!({"name": "Ada Lovelace"}))).await?;
    assert_eq!(renamed.json()["name"], "Ada Lovelace");
    let unknown = second.change(Method::PATCH, "/v1/users/me", Some(&json!({"name": "A", "role": "owner"}))).await?;
    assert_eq!(unknown.status, 422, "{}", unknown.text);
    let left = second.change(Method::POST, "/v1/auth/logout", None).await?;
    assert_eq!((left.status, left.header("set-cookie").contains("Max-Age=0")), (204, true));
    assert_eq!(code(&second.get("/v1/users/me").await?), (401, "invalid_session".into()));
    sandbox.stop().await?;
    Ok(())
});

story!(sessions_of_a_member_are_seen_and_ended_by_who_may, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let other = log_in(&sandbox, PASSWORD).await?;
    let id = ada.get("/v1/users/me").await?.json()["id"].as_str().context("an id")?.to_owned();
    let of = |id: &str| format!("/v1/sessions?user={id}");

    let listed = ada.get(&of(&id)).await?;
    let unknown = ada.get(&of("usr_01h455vb4pex5vsknk084sn02q")).await?;
    let wrong = ada.get(&of("me")).await?;
    let twice = ada.get(&format!("{}&user={id}", of(&id))).await?;
    let misspelt = ada.change(Method::DELETE, "/v1/sessions?users=all", None).await?;
    let by_key = sandbox.admin.get(&of(&id)).await?;
    let ended = ada.change(Method::DELETE, &of(&id), None).await?;

    assert_eq!(listed.json()["data"].as_array().map(Vec::len), Some(2), "{}", listed.text);
    for missing in [unknown, wrong] {
        assert_eq!(code(&missing), (404, "user_not_found".into()));
    }
    assert_eq!(code(&twice), (400, "parameter_repeated".into()));
    assert_eq!(code(&misspelt), (400, "parameter_unknown".into()));
    assert_eq!(code(&by_key), (403, "session_required".into()));
    assert_eq!((ended.status, ended.json()["revoked"].as_u64()), (200, Some(2)), "{}", ended.text);
    for browser in [&ada, &Browser::of(sandbox.admin.with_key(None), &other)?] {
        assert_eq!(code(&browser.get("/v1/users/me").await?), (401, "invalid_session".into()));
    }
    sandbox.stop().await?;
    Ok(())
});

story!(power_is_for_who_has_just_proven_to_be_the_person, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let body = json!({"name": "website"});
    sandbox.clock.advance(Duration::from_secs(11 * 60));

    let stale = ada.change(Method::POST, "/v1/keys", Some(&body)).await?;
    let wrong = ada.change(Method::POST, "/v1/auth/step-up", Some(&json!({"password": "wrong horse"}))).await?;
    let reply = ada.change(Method::POST, "/v1/auth/step-up", Some(&json!({"password": PASSWORD}))).await?;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let fresh = Browser::of(ada.client.clone(), &reply)?;

    assert_eq!(code(&stale), (403, "step_up_required".into()));
    assert!(
        stale.json()["detail"].as_str().is_some_and(|text| text.contains("POST /v1/auth/step-up")),
        "{}",
        stale.text
    );
    assert_eq!(code(&wrong), (401, "invalid_credentials".into()));
    assert_eq!(fresh.change(Method::POST, "/v1/keys", Some(&body)).await?.status, 201);
    assert_eq!(code(&ada.get("/v1/users/me").await?), (401, "invalid_session".into()), "the old session ended");
    sandbox.stop().await?;
    Ok(())
});

/// What an app shows for this secret at the sandbox's time: the reference program's answer.
fn shown(sandbox: &Sandbox, secret: &str) -> Result<String> {
    let now = format!("@{}", sandbox.clock.now().seconds());
    let output = Command::new("oathtool").args(["--totp", "-b", secret, "--now", &now]).output();
    let output = output.context("oathtool is not installed")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

story!(who_has_a_second_factor_logs_in_with_the_code_of_an_app, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let factors = "/v1/users/me/factors";
    let unknown = ada.change(Method::POST, factors, Some(&json!({"kind": "sms"}))).await?;
    assert_eq!(unknown.status, 422, "{}", unknown.text);
    let begun = ada.change(Method::POST, factors, Some(&json!({"kind": "totp"}))).await?;
    assert_eq!((begun.status, begun.header("cache-control")), (201, "no-store"), "{}", begun.text);
    let secret = begun.json()["secret"].as_str().context("a secret")?.to_owned();
    assert!(
        begun.json()["uri"].as_str().is_some_and(|uri| uri.contains(&format!("secret={secret}&"))),
        "{}",
        begun.text
    );
    let path = format!("{factors}/{}", begun.json()["id"].as_str().context("an id")?);
    let code_now = json!({"code": shown(&sandbox, &secret)?});

    let confirmed = ada.change(Method::POST, &format!("{path}/confirm"), Some(&code_now)).await?;
    assert_eq!(confirmed.status, 200, "{}", confirmed.text);
    let ada = Browser::of(ada.client, &confirmed)?;
    let codes = ada.change(Method::POST, "/v1/users/me/recovery-codes", None).await?;
    assert_eq!((codes.status, codes.json()["codes"].as_array().map(Vec::len)), (201, Some(10)), "{}", codes.text);
    let listed = ada.get(factors).await?;
    assert!(listed.json()["data"][0]["confirmed_at"].is_string() && !listed.text.contains(&secret), "{}", listed.text);

    let nobody = sandbox.admin.with_key(None);
    let half = log_in(&sandbox, PASSWORD).await?;
    assert_eq!((half.status, &half.json()["mfa_required"], half.header("set-cookie")), (200, &json!(true), ""));
    let with = |code: &str| json!({"ticket": half.json()["ticket"], "code": code});
    let used = nobody.post("/v1/auth/login/mfa", &with(&shown(&sandbox, &secret)?)).await?;
    assert_eq!(code(&used), (401, "code_invalid".into()), "it confirmed the factor");
    sandbox.clock.advance(Duration::from_secs(30));
    let full = nobody.post("/v1/auth/login/mfa", &with(&shown(&sandbox, &secret)?)).await?;
    assert_eq!(full.status, 200, "{}", full.text);
    assert_eq!(Browser::of(nobody.clone(), &full)?.get("/v1/users/me").await?.status, 200);
    let twice = nobody.post("/v1/auth/login/mfa", &with(&shown(&sandbox, &secret)?)).await?;
    assert_eq!(code(&twice), (401, "token_invalid".into()));
    let recovery = json!({"email": "ada@example.org", "password": PASSWORD, "code": codes.json()["codes"][0]});
    assert_eq!(nobody.post("/v1/auth/login", &recovery).await?.status, 200);
    assert_eq!(code(&nobody.post("/v1/auth/login", &recovery).await?), (401, "code_invalid".into()));

    let stepping = ada.change(Method::POST, "/v1/auth/step-up", Some(&json!({"password": PASSWORD}))).await?;
    assert_eq!(code(&stepping), (401, "code_required".into()));
    assert_eq!(
        code(&ada.change(Method::DELETE, &format!("{factors}/fac_x"), None).await?),
        (404, "factor_not_found".into())
    );
    let id = ada.get("/v1/users/me").await?.json()["id"].as_str().context("an id")?.to_owned();
    assert_eq!(sandbox.admin.delete(&format!("/v1/users/{id}/factors")).await?.status, 204);
    assert_eq!(code(&ada.get("/v1/users/me").await?), (401, "invalid_session".into()), "who has the phone is out");
    assert!(log_in(&sandbox, PASSWORD).await?.header("set-cookie").contains("manifold_dev="));
    sandbox.stop().await?;
    Ok(())
});

story!(no_foreign_page_makes_a_browser_change_anything, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let own = format!("http://{}", ada.client.address);
    let token = ("manifold-csrf", ada.csrf.as_str());
    let body = json!({"name": "forged"});

    for headers in [
        vec![],
        vec![("manifold-csrf", "guessed")],
        vec![token, ("origin", "https://evil.example")],
        vec![token, ("origin", "null")],
        vec![token, ("sec-fetch-site", "cross-site")],
        vec![token, ("sec-fetch-site", "same-site")],
    ] {
        let reply = ada.ask(Method::POST, "/v1/keys", Some(&body), &headers).await?;
        assert_eq!(code(&reply), (403, "csrf".into()), "{headers:?}");
    }
    let both = ada.ask(Method::GET, "/v1/users/me", None, &[("x-api-key", &sandbox.admin_key)]).await?;
    let here = [token, ("origin", own.as_str()), ("sec-fetch-site", "same-origin")];
    let ours = ada.ask(Method::POST, "/v1/keys", Some(&body), &here).await?;
    let login = json!({"email": "ada@example.org", "password": PASSWORD}).to_string().into_bytes();
    let foreign = [("content-type", "application/json"), ("origin", "https://evil.example")];
    let foreign = ada.client.send(Method::POST, "/v1/auth/login", &foreign, login).await?;

    assert_eq!(code(&both), (400, "ambiguous_credentials".into()));
    assert_eq!(ours.status, 201, "{}", ours.text);
    assert_eq!(code(&foreign), (403, "csrf".into()), "nobody is logged in as somebody else");
    sandbox.stop().await?;
    Ok(())
});

story!(behind_https_the_cookie_and_the_origin_are_those_of_the_public_address, |builder| {
    let secure = builder.set("edge.public_url", "https://api.example").set("edge.trusted_proxies", r#"["127.0.0.1"]"#);
    let sandbox = secure.start().await?;
    let ada = set_up(&sandbox).await?;
    assert!(ada.cookie.starts_with("__Host-manifold="), "{}", ada.cookie);
    let from = |origin| [("manifold-csrf", ada.csrf.as_str()), ("origin", origin), ("x-forwarded-for", "203.0.113.7")];

    let ours =
        ada.ask(Method::PATCH, "/v1/users/me", Some(&json!({"name": "A"})), &from("https://api.example")).await?;
    let plain =
        ada.ask(Method::PATCH, "/v1/users/me", Some(&json!({"name": "A"})), &from("http://api.example")).await?;

    assert_eq!((ours.status, code(&plain)), (200, (403, "csrf".into())));
    sandbox.stop().await?;
    Ok(())
});

story!(a_password_does_not_travel_where_others_can_read_it, |builder| {
    let sandbox = builder.set("edge.trusted_proxies", r#"["127.0.0.1"]"#).start().await?;
    set_up(&sandbox).await?;

    let body = json!({"email": "ada@example.org", "password": PASSWORD}).to_string().into_bytes();
    let headers = [("content-type", "application/json"), ("x-forwarded-for", "203.0.113.7")];
    let far = sandbox.admin.with_key(None).send(Method::POST, "/v1/auth/login", &headers, body).await?;

    assert_eq!(code(&far), (400, "https_required".into()));
    sandbox.stop().await?;
    Ok(())
});

story!(an_owner_invites_somebody_and_helps_who_forgot_the_password, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let nobody = sandbox.admin.with_key(None);
    let invite = json!({"email": "grace@example.org", "role": "viewer"});
    let invited = ada.change(Method::POST, "/v1/invitations", Some(&invite)).await?;
    assert_eq!(invited.status, 201, "{}", invited.text);
    let listed = ada.get("/v1/invitations").await?.json();
    assert_eq!((&listed["data"][0]["email"], &listed["data"][0]["token"]), (&json!("grace@example.org"), &Value::Null));

    let new = json!({"token": invited.json()["token"], "name": "Grace", "password": PASSWORD});
    let reply = nobody.post("/v1/auth/register", &new).await?;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let id = reply.json()["user"]["id"].as_str().context("an id")?.to_owned();
    let grace = Browser::of(nobody.clone(), &reply)?;
    assert_eq!(
        code(&grace.change(Method::POST, "/v1/keys", Some(&json!({"name": "k"}))).await?),
        (403, "insufficient_scope".into())
    );
    let path = format!("/v1/users/{id}");
    assert_eq!(code(&grace.change(Method::PATCH, &path, Some(&json!({"roles": ["owner"]}))).await?).0, 403);
    let changed = ada.change(Method::PATCH, &path, Some(&json!({"roles": ["developer"]}))).await?;
    assert_eq!((changed.status, &changed.json()["roles"]), (200, &json!(["developer"])), "{}", changed.text);
    assert_eq!(grace.change(Method::POST, "/v1/keys", Some(&json!({"name": "k"}))).await?.status, 201);

    let link = ada.change(Method::POST, &format!("{path}/reset-link"), None).await?;
    let reset = json!({"token": link.json()["token"], "password": "another four words here"});
    assert_eq!(nobody.post("/v1/auth/reset", &reset).await?.status, 204);
    assert_eq!(code(&grace.get("/v1/users/me").await?), (401, "invalid_session".into()));
    assert_eq!(ada.change(Method::DELETE, &path, None).await?.status, 204);
    assert_eq!(code(&ada.get(&path).await?), (404, "user_not_found".into()));
    let pages = ada.get("/v1/users?limit=1").await?.json();
    assert_eq!((pages["data"].as_array().map(Vec::len), &pages["has_more"]), (Some(1), &json!(false)));
    let roles = sandbox.admin.get("/v1/roles").await?.json();
    assert_eq!((&roles["data"][0]["id"], &roles["data"][0]["grants"][0]["permission"]), (&json!("owner"), &json!("*")));
    sandbox.stop().await?;
    Ok(())
});
