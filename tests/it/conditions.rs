//! Changes that depend on what was read: of many who read the same, one changes it.

use anyhow::{Context, Result};
use http::Method;
use manifold_testkit::{Client, Reply};
use serde_json::{Value, json};

use crate::people::{Browser, code, set_up};
use crate::story;

const RACERS: usize = 20;

/// Twenty at once who all believe the same of a thing: how many were heard, and how many were told to read again.
async fn race(
    reader: &Client,
    path: &str,
    change: impl AsyncFn(usize, String) -> Result<Reply>,
) -> Result<(usize, usize)> {
    let tag = reader.get(path).await?.header("etag").to_owned();
    let racing = (0..RACERS).map(|racer| change(racer, tag.clone()));
    let replies = futures::future::try_join_all(racing).await?;
    let n =
        |status: u16, reason: &str| replies.iter().filter(|reply| code(reply) == (status, reason.to_owned())).count();
    Ok((replies.iter().filter(|reply| reply.status == 200).count(), n(412, "precondition_failed")))
}

story!(of_twenty_who_read_the_same_one_changes_it, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let id = async |path: &str, body: Value| -> Result<String> {
        let made = sandbox.admin.post(path, &body).await?;
        Ok(made.json()["id"].as_str().with_context(|| made.text.clone())?.to_owned())
    };
    let key = id("/v1/keys", json!({"name": "site"})).await?;
    let role = id("/v1/roles", json!({"name": "reader", "grants": [{"permission": "keys.key.read"}]})).await?;
    let acme = id("/v1/tenants", json!({"name": "Acme", "slug": "acme", "owner": "joan@example.org"})).await?;
    let one = (1, RACERS - 1);

    for path in [format!("/v1/keys/{key}"), format!("/v1/roles/{role}"), format!("/v1/tenants/{acme}")] {
        let heard = race(&sandbox.admin, &path, async |racer, tag| {
            let headers = [("content-type", "application/json"), ("if-match", tag.as_str())];
            let body = json!({"name": format!("racer {racer}")}).to_string().into_bytes();
            sandbox.admin.send(Method::PATCH, &path, &headers, body).await
        });
        assert_eq!(heard.await?, one, "{path}");
    }
    let me = ada.get("/v1/users/me").await?.header("etag").to_owned();
    let profile = futures::future::try_join_all((0..RACERS).map(|racer| rename(&ada, racer, &me))).await?;
    let n = |status| profile.iter().filter(|reply| reply.status == status).count();
    assert_eq!((n(200), n(412)), one);
    let last = ada.get("/v1/users/me").await?;
    assert_eq!(rename(&ada, RACERS, last.header("etag")).await?.status, 200, "who reads again goes on");
    sandbox.stop().await?;
    Ok(())
});

async fn rename(person: &Browser, racer: usize, tag: &str) -> Result<Reply> {
    let headers = [("manifold-csrf", person.csrf.as_str()), ("if-match", tag)];
    person.ask(Method::PATCH, "/v1/users/me", Some(&json!({"name": format!("Racer {racer}")})), &headers).await
}

story!(what_was_told_after_a_proof_is_told_again_after_a_proof_only, |builder| {
    let sandbox = builder.start().await?;
    let mut ada = set_up(&sandbox).await?;
    let invite = json!({"email": "grace@example.org", "role": "viewer"});
    let ask = async |ada: &Browser| -> Result<Reply> {
        let headers = [("manifold-csrf", ada.csrf.as_str()), ("idempotency-key", "one")];
        ada.ask(Method::POST, "/v1/invitations", Some(&invite), &headers).await
    };

    let first = ask(&ada).await?;
    sandbox.clock.advance(std::time::Duration::from_secs(11 * 60));
    let late = ask(&ada).await?;
    let proof = json!({"password": crate::people::PASSWORD});
    let proven = ada.change(Method::POST, "/v1/auth/step-up", Some(&proof)).await?;
    ada = Browser::of(ada.client, &proven)?;
    let again = ask(&ada).await?;

    assert_eq!(first.status, 201, "{}", first.text);
    assert_eq!(code(&late), (403, "step_up_required".into()), "{}", late.text);
    assert!(!late.text.contains(first.json()["token"].as_str().context("a token")?));
    assert_eq!((again.status, again.header("idempotent-replayed"), &again.text), (201, "true", &first.text));
    sandbox.stop().await?;
    Ok(())
});
