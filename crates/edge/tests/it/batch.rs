//! `/v1/batch`: several requests in one, each of them as if it had come alone.

use std::time::Duration;

use manifold_edge::{Limit, Limits};
use serde_json::{Value, json};

use crate::house::{House, Reply};

impl House {
    async fn batch(&self, key: &str, requests: Value) -> Reply {
        let key = format!("authorization: Bearer {key}");
        self.call_with("POST", "/v1/batch", &[&key], Some(&json!({ "requests": requests }))).await
    }

    /// A key of this kind: its secret.
    async fn key(&self, wish: &Value) -> String {
        let made = self.call("POST", "/v1/keys", Some(wish)).await.json();
        made["secret"].as_str().unwrap().to_owned()
    }
}

/// Status and code of each answer.
fn outcomes(reply: &Reply) -> Vec<(u64, Value)> {
    let answers = reply.json()["responses"].as_array().cloned().unwrap_or_else(|| panic!("{}", reply.body));
    answers.iter().map(|one| (one["status"].as_u64().unwrap(), one["body"]["code"].clone())).collect()
}

#[tokio::test]
async fn each_request_of_a_batch_is_answered_as_if_it_had_come_alone() {
    let house = House::open().await;
    let chat = json!({"model": "echo", "messages": [{"role": "user", "content": "hi"}]});

    let reply = house
        .batch(
            &house.admin,
            json!([
                {"id": "make", "method": "POST", "path": "/v1/keys", "body": {"name": "site"}},
                {"id": "chat", "method": "POST", "path": "/openai/v1/chat/completions", "body": chat},
                {"id": "none", "method": "GET", "path": "/v1/keys/nonsense", "headers": {"x-request-id": "mine"}},
                {"id": "wrong", "method": "POST", "path": "/v1/keys", "body": {"nam": "site"}},
                {"id": "nowhere", "method": "PUT", "path": "/v1/keys"},
                {"id": "list", "method": "GET", "path": "/v1/keys?limit=1"},
            ]),
        )
        .await;

    let answers = reply.json()["responses"].clone();
    let ids: Vec<_> = answers.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect();
    let statuses: Vec<_> = outcomes(&reply).into_iter().map(|(status, _)| status).collect();
    assert_eq!((reply.status, ids.join(" ")), (200, "make chat none wrong nowhere list".to_owned()), "{}", reply.body);
    assert_eq!(statuses, [201, 200, 404, 422, 405, 200], "{}", reply.body);
    assert!(answers[0]["body"]["secret"].as_str().unwrap().starts_with("mfk_live_"));
    let id = answers[0]["body"]["id"].as_str().unwrap();
    assert_eq!(answers[0]["headers"]["location"], json!(format!("/v1/keys/{id}")));
    assert_eq!(answers[1]["body"]["choices"][0]["message"]["content"], "hi");
    assert_eq!(
        (&answers[2]["body"]["code"], &answers[2]["headers"]["x-request-id"]),
        (&json!("key_not_found"), &json!("mine"))
    );
    assert_eq!(answers[2]["body"]["request_id"], answers[2]["headers"]["x-manifold-request-id"]);
    assert_eq!(answers[3]["body"]["errors"][0]["pointer"], "/nam");
    assert_eq!(answers[4]["headers"]["allow"], "GET, POST, HEAD");
    assert!(answers[5]["headers"]["etag"].is_string());
}

#[tokio::test]
async fn one_after_the_other_sees_what_the_one_before_did() {
    let house = House::open().await;
    let key = format!("authorization: Bearer {}", house.admin);
    let made = house.call("POST", "/v1/keys", Some(&json!({"name": "site"}))).await.json();
    let path = format!("/v1/keys/{}", made["id"].as_str().unwrap());
    let tag = house.call("GET", &path, None).await.header("etag").to_owned();

    let body = json!({"parallel": 1, "requests": [
        {"id": "1", "method": "PATCH", "path": path, "headers": {"if-match": tag}, "body": {"name": "shop"}},
        {"id": "2", "method": "PATCH", "path": path, "headers": {"if-match": tag}, "body": {"name": "late"}},
        {"id": "3", "method": "GET", "path": path, "headers": {"if-none-match": tag}},
    ]});
    let reply = house.call_with("POST", "/v1/batch", &[&key], Some(&body)).await;

    assert_eq!(outcomes(&reply), [(200, json!(null)), (412, json!("precondition_failed")), (200, json!(null))]);
    assert_eq!(reply.json()["responses"][2]["body"]["name"], "shop");
}

#[tokio::test]
async fn a_batch_opens_no_door_that_is_closed_to_its_sender() {
    let house = House::open().await;
    let reader = house.key(&json!({"name": "reader", "permissions": ["keys.key.read"]})).await;
    let fenced =
        json!({"name": "fenced", "permissions": ["*"], "restrictions": {"methods": ["GET"], "apis": ["keys"]}});
    let fenced = house.key(&fenced).await;
    let requests = json!([
        {"id": "read", "method": "GET", "path": "/v1/keys"},
        {"id": "write", "method": "POST", "path": "/v1/keys", "body": {"name": "more"}},
        {"id": "other", "method": "GET", "path": "/v1/users"},
        {"id": "public", "method": "GET", "path": "/openapi.json"},
    ]);

    let read = house.batch(&reader, requests.clone()).await;
    let within = house.batch(&fenced, requests.clone()).await;
    let nobody = house.call_with("POST", "/v1/batch", &[], Some(&json!({ "requests": requests }))).await;

    let (lacks, restricted) = ((403, json!("insufficient_scope")), (403, json!("key_restricted")));
    let fine = (200, json!(null));
    assert_eq!(outcomes(&read), [fine.clone(), lacks.clone(), lacks, fine.clone()]);
    assert_eq!(outcomes(&within), [fine.clone(), restricted.clone(), restricted, fine]);
    assert_eq!((nobody.status, &nobody.json()["code"]), (401, &json!("invalid_key")));
}

#[tokio::test]
async fn a_malformed_batch_is_refused_before_anything_is_done() {
    let house = House::open().await;
    let good = json!({"id": "good", "method": "POST", "path": "/v1/keys", "body": {"name": "site"}});
    let with = |other: Value| json!({"requests": [good, other]});
    let path = |path: &str| with(json!({"id": "bad", "method": "GET", "path": path}));
    let header = |name: &str| with(json!({"id": "bad", "method": "GET", "path": "/v1/keys", "headers": {name: "x"}}));
    let many: Vec<_> = (0..51).map(|id| json!({"id": id.to_string(), "method": "GET", "path": "/healthz"})).collect();
    let chat = json!({"model": "echo", "stream": true, "messages": [{"role": "user", "content": "hi"}]});
    let invalid = "batch_invalid";

    for (body, code, pointer) in [
        (json!({"requests": []}), invalid, "/requests"),
        (json!({"requests": many}), invalid, "/requests"),
        (json!({"requests": [good], "parallel": 0}), invalid, "/parallel"),
        (json!({"requests": [good], "parallel": 9}), invalid, "/parallel"),
        (with(good.clone()), invalid, "/requests/1/id"),
        (with(json!({"id": "", "method": "GET", "path": "/healthz"})), invalid, "/requests/1/id"),
        (with(json!({"id": "bad", "method": "OPTIONS", "path": "/v1/keys"})), "body_invalid", "/requests/1/method"),
        (
            with(json!({"id": "bad", "method": "GET", "path": "/v1/keys", "url": "x"})),
            "body_invalid",
            "/requests/1/url",
        ),
        (
            with(json!({"id": "bad", "method": "POST", "path": "/v1/chat/completions", "body": chat})),
            invalid,
            "/requests/1/body/stream",
        ),
        (path("https://evil.example/v1/keys"), invalid, "/requests/1/path"),
        (path("evil.example/v1/keys"), invalid, "/requests/1/path"),
        (path("/v1/keys#fragment"), invalid, "/requests/1/path"),
        (path("/v1/keys HTTP/1.1\r\nhost: evil.example\r\n\r\n"), invalid, "/requests/1/path"),
        (path(""), invalid, "/requests/1/path"),
        (header("authorization"), invalid, "/requests/1/headers/authorization"),
        (header("Cookie"), invalid, "/requests/1/headers/Cookie"),
        (header("host"), invalid, "/requests/1/headers/host"),
        (header("forwarded"), invalid, "/requests/1/headers/forwarded"),
        (header("x-forwarded-for"), invalid, "/requests/1/headers/x-forwarded-for"),
        (header("x-api-key"), invalid, "/requests/1/headers/x-api-key"),
        (header("x-goog-api-key"), invalid, "/requests/1/headers/x-goog-api-key"),
        (header("origin"), invalid, "/requests/1/headers/origin"),
        (header("manifold-tenant"), invalid, "/requests/1/headers/manifold-tenant"),
        (header("manifold-csrf"), invalid, "/requests/1/headers/manifold-csrf"),
        (header("content-length"), invalid, "/requests/1/headers/content-length"),
        (header("transfer-encoding"), invalid, "/requests/1/headers/transfer-encoding"),
        (header("content-encoding"), invalid, "/requests/1/headers/content-encoding"),
        (header("traceparent"), invalid, "/requests/1/headers/traceparent"),
        (header("a b"), invalid, "/requests/1/headers/a b"),
        (
            with(json!({"id": "bad", "method": "GET", "path": "/v1/keys", "headers": {"accept": "a\r\nhost: b"}})),
            invalid,
            "/requests/1/headers/accept",
        ),
    ] {
        let reply = house.call("POST", "/v1/batch", Some(&body)).await;

        let problem = reply.json();
        assert_eq!((reply.status, &problem["code"]), (422, &json!(code)), "{body}: {}", reply.body);
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{}", reply.body);
    }
    let key = format!("authorization: Bearer {}", house.admin);
    let repeated =
        house.call_with("POST", "/v1/batch", &[&key, "idempotency-key: a"], Some(&json!({"requests": [good]}))).await;
    assert_eq!((repeated.status, &repeated.json()["code"]), (400, &json!("idempotency_key_invalid")));
    let keys = house.call("GET", "/v1/keys", None).await.json();
    assert_eq!(keys["data"].as_array().map(Vec::len), Some(1), "only the first one is there: {keys}");
}

#[tokio::test]
async fn what_cannot_be_carried_is_refused_and_the_rest_is_done() {
    let house = House::open().await;
    let nested = json!({"requests": [{"id": "x", "method": "GET", "path": "/v1/keys"}]});
    let login = json!({"email": "ada@example.org", "password": "correct horse battery staple"});

    let reply = house
        .batch(
            &house.admin,
            json!([
                {"id": "1", "method": "POST", "path": "/v1/batch", "body": nested},
                {"id": "2", "method": "POST", "path": "/openai/v1/batch", "body": nested},
                {"id": "3", "method": "POST", "path": "/v1/auth/login", "body": login},
                {"id": "4", "method": "GET", "path": "/v1/auth/session"},
                {"id": "5", "method": "GET", "path": "/v1/audit/export"},
                {"id": "6", "method": "GET", "path": "/v1/../v1/keys"},
                {"id": "7", "method": "GET", "path": "//evil.example/v1/keys"},
                {"id": "8", "method": "GET", "path": "/v1/keys%2fx"},
                {"id": "9", "method": "GET", "path": "/v1/%2e%2e/v1/keys"},
                {"id": "10", "method": "GET", "path": "/v1/keys", "body": {}},
                {"id": "11", "method": "GET", "path": "/v1/keys"},
            ]),
        )
        .await;

    let (alone, bad) = ((422, json!("not_in_a_batch")), (400, json!("bad_target")));
    let mut expected = vec![alone; 5];
    // In the words of the dialect whose address it has.
    expected[1] = (400, json!(null));
    expected.extend(vec![bad; 4]);
    expected.extend([(400, json!("body_not_allowed")), (200, json!(null))]);
    assert_eq!(outcomes(&reply), expected, "{}", reply.body);
    assert_eq!(reply.json()["responses"][1]["body"]["error"]["code"], "not_in_a_batch");
    assert!(!reply.body.contains("set-cookie"));
}

#[tokio::test]
async fn each_request_of_a_batch_is_counted_and_paid_by_itself() {
    let rate = Limit { quota: Some(4), window: Some(Duration::from_secs(60).into()), ..Limit::default() };
    let house = House::open_with(|config| config.limits = Limits { per_key: Some(rate), ..Limits::default() }).await;
    let counted = house.key(&json!({"name": "counted", "permissions": ["keys.key.read"]})).await;
    let paying = house.key(&json!({"name": "paying", "permissions": ["keys.key.read"], "credits": 2})).await;
    let requests: Vec<_> =
        (0..4).map(|id| json!({"id": id.to_string(), "method": "GET", "path": "/v1/keys"})).collect();

    let limited = house.batch(&counted, json!(requests)).await;
    let paid = house.batch(&paying, json!(requests[..3])).await;

    let codes = |reply: &Reply| {
        let mut codes: Vec<_> = outcomes(reply).into_iter().filter(|(status, _)| *status != 200).collect();
        codes.sort_by_key(|(status, _)| *status);
        codes
    };
    assert_eq!(codes(&limited), [(429, json!("rate_limit_exceeded"))], "the batch is one request more");
    assert_eq!(codes(&paid), [(429, json!("usage_exceeded"))], "the batch itself costs nothing");
}

#[tokio::test]
async fn a_request_of_a_batch_is_repeated_by_its_own_idempotency_key() {
    let house = House::open().await;
    let invite = json!({"email": "grace@example.org", "role": "developer"});
    let one = json!([{"id": "1", "method": "POST", "path": "/v1/invitations", "body": invite, "headers": {"Idempotency-Key": "one"}}]);

    let first = house.batch(&house.admin, one.clone()).await.json();
    let again = house.batch(&house.admin, one).await.json();

    let (first, again) = (&first["responses"][0], &again["responses"][0]);
    assert_eq!((&first["status"], &again["status"]), (&json!(201), &json!(201)));
    assert_eq!((&again["body"], &again["headers"]["idempotent-replayed"]), (&first["body"], &json!("true")));
}
