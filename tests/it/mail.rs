//! What goes by mail: registering in an open house, and new passwords for who forgot theirs.

use anyhow::{Context, Result};
use http::Method;
use manifold_testkit::{Builder, Client, Mailbox, Reply, Sandbox};
use serde_json::json;

use crate::story;

const PASSWORD: &str = "correct horse battery staple";
const ANOTHER: &str = "another four words here";

fn with_mail(builder: Builder, mailbox: &Mailbox) -> Builder {
    let builder = builder.set("mail.url", mailbox.url()).set("mail.tls", "none");
    builder.set("mail.from", "Manifold <manifold@example.org>").set("edge.public_url", "https://api.example")
}

/// A house with an owner, ada@example.org; a client without a key.
async fn settled(sandbox: &Sandbox) -> Result<Client> {
    let token = std::fs::read_to_string(sandbox.folder.path().join("setup.token"))?;
    let owner = json!({"token": token.trim(), "email": "ada@example.org", "password": PASSWORD, "name": "Ada"});
    let nobody = sandbox.admin.with_key(None);
    let made = nobody.post("/v1/auth/setup", &owner).await?;
    assert_eq!(made.status, 201, "{}", made.text);
    Ok(nobody)
}

/// Lets anybody register.
async fn open(sandbox: &Sandbox) -> Result<()> {
    let tenants = sandbox.admin.get("/v1/tenants").await?.json();
    let id = tenants["data"][0]["id"].as_str().context("a tenant")?.to_owned();
    let body = json!({"settings": {"registration": "open"}}).to_string().into_bytes();
    let headers = [("content-type", "application/json")];
    let opened = sandbox.admin.send(Method::PATCH, &format!("/v1/tenants/{id}"), &headers, body).await?;
    assert_eq!(opened.status, 200, "{}", opened.text);
    Ok(())
}

/// What an answer shows, but for what belongs to its request.
fn shown(reply: &Reply) -> (u16, Vec<String>, String) {
    let own = ["x-request-id", "x-manifold-request-id", "date", "traceparent", "retry-after", "retry-after-ms"];
    let headers = reply.headers.iter().filter(|(name, _)| !own.contains(&name.as_str()));
    let mut headers: Vec<_> = headers.map(|(name, value)| format!("{name}: {value:?}")).collect();
    headers.sort();
    let mut body = reply.json();
    for field in ["instance", "request_id", "trace_id"] {
        if let Some(body) = body.as_object_mut() {
            body.remove(field);
        }
    }
    (reply.status, headers, body.to_string())
}

story!(who_registers_in_an_open_house_logs_in_once_the_mail_is_read, |builder| {
    let mailbox = Mailbox::open().await?;
    let sandbox = with_mail(builder, &mailbox).start().await?;
    let nobody = settled(&sandbox).await?;
    let grace = json!({"email": "grace@example.org", "name": "Grace"});
    let early = nobody.post("/v1/auth/register", &grace).await?;
    assert_eq!((early.status, &early.json()["code"]), (403, &json!("registration_closed")));
    open(&sandbox).await?;

    let asked = nobody.post("/v1/auth/register", &grace).await?;
    assert_eq!(asked.status, 202, "{}", asked.text);
    let token = mailbox.take("grace@example.org").await.token().to_owned();
    let unchosen = nobody.post("/v1/auth/verify-email", &json!({"token": token})).await?;
    assert_eq!((unchosen.status, &unchosen.json()["code"]), (422, &json!("password_invalid")));
    let proven = nobody.post("/v1/auth/verify-email", &json!({"token": token, "password": PASSWORD})).await?;
    assert_eq!(proven.status, 204, "{}", proven.text);

    let login = json!({"email": "grace@example.org", "password": PASSWORD});
    let session = nobody.post("/v1/auth/login", &login).await?.json();
    assert_eq!((&session["user"]["name"], &session["roles"]), (&json!("Grace"), &json!(["owner"])));
    for wrong in [
        json!({"email": "a@example.org", "token": "mfi_x", "name": "A", "password": PASSWORD}),
        json!({"email": "a@example.org", "name": "A", "password": PASSWORD}),
        json!({"token": "mfi_x", "name": "A"}),
    ] {
        assert_eq!(nobody.post("/v1/auth/register", &wrong).await?.status, 422, "{wrong}");
    }
    sandbox.stop().await?;
    Ok(())
});

story!(a_person_moves_to_another_address_and_then_leaves, |builder| {
    let mailbox = Mailbox::open().await?;
    let sandbox = with_mail(builder, &mailbox).start().await?;
    let nobody = settled(&sandbox).await?;
    let invited = json!({"email": "grace@example.org", "role": "developer"});
    assert_eq!(sandbox.admin.post("/v1/invitations", &invited).await?.status, 201);
    let token = mailbox.take("grace@example.org").await.token().to_owned();
    let grace = json!({"token": token, "name": "Grace", "password": PASSWORD});
    let session = nobody.post("/v1/auth/register", &grace).await?;
    let cookie = session.header("set-cookie").split(';').next().context("a cookie")?.to_owned();
    let csrf = session.json()["csrf"].as_str().context("a token")?.to_owned();
    let headers = [("cookie", cookie.as_str()), ("manifold-csrf", csrf.as_str()), ("content-type", "application/json")];

    let profile = json!({"locale": "pt-BR", "zone": "Europe/Lisbon"}).to_string().into_bytes();
    let told = nobody.send(Method::PATCH, "/v1/users/me", &headers, profile).await?;
    assert_eq!(
        (&told.json()["name"], &told.json()["zone"]),
        (&json!("Grace"), &json!("Europe/Lisbon")),
        "{}",
        told.text
    );
    let other = json!({"email": "grace@new.example", "password": PASSWORD}).to_string().into_bytes();
    let asked = nobody.send(Method::POST, "/v1/users/me/email", &headers, other).await?;
    assert_eq!(asked.status, 202, "{}", asked.text);
    let proof = json!({"token": mailbox.take("grace@new.example").await.token()});
    assert_eq!(nobody.post("/v1/auth/verify-email", &proof).await?.status, 204);
    let me = nobody.send(Method::GET, "/v1/users/me", &headers, Vec::new()).await?;
    assert_eq!(me.json()["email"], "grace@new.example");

    let left = nobody.send(Method::DELETE, "/v1/users/me", &headers, Vec::new()).await?;
    assert_eq!((left.status, left.header("set-cookie").contains("Max-Age=0")), (204, true), "{}", left.text);
    assert_eq!(nobody.send(Method::GET, "/v1/users/me", &headers, Vec::new()).await?.status, 401);
    sandbox.stop().await?;
    Ok(())
});

story!(answers_do_not_tell_whether_an_address_has_an_account, |builder| {
    let mailbox = Mailbox::open().await?;
    let sandbox = with_mail(builder, &mailbox).start().await?;
    let nobody = settled(&sandbox).await?;
    open(&sandbox).await?;

    for path in ["/v1/auth/login", "/v1/auth/register", "/v1/auth/forgot"] {
        let mut answers = Vec::new();
        for email in ["ada@example.org", "eve@example.org"] {
            let body = match path {
                "/v1/auth/login" => json!({"email": email, "password": ANOTHER}),
                "/v1/auth/register" => json!({"email": email, "name": "Eve"}),
                _ => json!({"email": email}),
            };
            answers.push(shown(&nobody.post(path, &body).await?));
        }
        assert_eq!(answers[0], answers[1], "{path}");
    }
    sandbox.stop().await?;
    Ok(())
});

story!(a_link_for_a_new_password_leads_to_the_public_address_whatever_the_request_says, |builder| {
    let mailbox = Mailbox::open().await?;
    let proxied = with_mail(builder, &mailbox).set("edge.trusted_proxies", r#"["127.0.0.1"]"#);
    let sandbox = proxied.start().await?;
    let nobody = settled(&sandbox).await?;

    let evil = [("content-type", "application/json"), ("x-forwarded-host", "evil.example")];
    let body = json!({"email": "ada@example.org"}).to_string().into_bytes();
    let asked = nobody.send(Method::POST, "http://evil.example/v1/auth/forgot", &evil, body).await?;
    assert_eq!(asked.status, 202, "{}", asked.text);
    let mail = mailbox.take("ada@example.org").await;

    assert!(mail.text.contains("https://api.example/reset#mfr_") && !mail.text.contains("evil"), "{}", mail.text);
    let reset = json!({"token": mail.token(), "password": ANOTHER});
    assert_eq!(nobody.post("/v1/auth/reset", &reset).await?.status, 204);
    let again = nobody.post("/v1/auth/reset", &reset).await?;
    assert_eq!((again.status, &again.json()["code"]), (401, &json!("token_invalid")));
    sandbox.stop().await?;
    Ok(())
});

story!(a_mail_server_that_is_away_is_no_matter_of_who_asks, |builder| {
    let mailbox = Mailbox::open().await?;
    mailbox.refuse(Some("451 not now"));
    let sandbox = with_mail(builder, &mailbox).start().await?;
    let nobody = settled(&sandbox).await?;

    let asked = nobody.post("/v1/auth/forgot", &json!({"email": "ada@example.org"})).await?;

    assert_eq!(asked.status, 202, "{}", asked.text);
    sandbox.stop().await?;
    Ok(())
});
