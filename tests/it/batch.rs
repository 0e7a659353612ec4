//! Several requests in one, by key and by session.

use http::Method;
use manifold_testkit::Reply;
use serde_json::{Value, json};

use crate::people::set_up;
use crate::story;
use crate::tenants::{key, tenant};

/// Status and code of each answer.
fn outcomes(reply: &Reply) -> Vec<(Option<u64>, Value)> {
    let answers = reply.json()["responses"].as_array().cloned().unwrap_or_default();
    answers.iter().map(|one| (one["status"].as_u64(), one["body"]["code"].clone())).collect()
}

story!(a_batch_does_what_its_sender_may_and_refuses_the_rest_one_by_one, |builder| {
    let sandbox = builder.start().await?;
    let ada = set_up(&sandbox).await?;
    let ((acme, grace), (_, joan)) = (tenant(&sandbox, "acme").await?, tenant(&sandbox, "other").await?);
    let (own, foreign) = (key(&grace).await?, key(&joan).await?);
    let made = own.post("/v1/keys", &json!({"name": "thing"})).await?.json();
    let thing = format!("/v1/keys/{}", made["id"].as_str().unwrap_or_default());
    let chat = json!({"model": "manifold/echo", "messages": [{"role": "user", "content": "hello"}]});
    let requests = json!({"requests": [
        {"id": "chat", "method": "POST", "path": "/v1/chat/completions", "body": chat},
        {"id": "thing", "method": "GET", "path": thing},
        {"id": "change", "method": "PATCH", "path": thing, "body": {"name": "mine"}},
        {"id": "team", "method": "GET", "path": format!("/v1/tenants/{acme}")},
        {"id": "again", "method": "POST", "path": "/v1/batch", "body": {"requests": []}},
        {"id": "leave", "method": "POST", "path": "/v1/auth/logout"},
    ]});

    let strangers = foreign.post("/v1/batch", &requests).await?;
    let owners = own.post("/v1/batch", &requests).await?;
    let people = grace.change(Method::POST, "/v1/batch", Some(&requests)).await?;
    let forged = grace.ask(Method::POST, "/v1/batch", Some(&requests), &[]).await?;

    let (fine, no_key) = ((Some(200), Value::Null), (Some(404), json!("key_not_found")));
    let (no_team, alone) = ((Some(404), json!("tenant_not_found")), (Some(422), json!("not_in_a_batch")));
    assert_eq!(
        outcomes(&strangers),
        [fine.clone(), no_key.clone(), no_key, no_team, alone.clone(), alone.clone()],
        "{}",
        strangers.text
    );
    assert_eq!(
        outcomes(&owners),
        [fine.clone(), fine.clone(), fine.clone(), fine.clone(), alone.clone(), alone.clone()]
    );
    assert_eq!(people.json()["responses"][0]["body"]["choices"][0]["message"]["content"], "hello", "{}", people.text);
    assert_eq!(outcomes(&people)[4..], [alone.clone(), alone]);
    assert_eq!((forged.status, &forged.json()["code"]), (403, &json!("csrf")));
    assert_eq!(grace.get("/v1/auth/session").await?.status, 200, "nobody is logged out by a batch");
    assert_eq!(ada.get(&thing).await?.status, 404);
    sandbox.stop().await?;
    Ok(())
});
