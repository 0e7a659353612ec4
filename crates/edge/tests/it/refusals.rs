//! What is refused, and in which words.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use manifold_edge::{Limit, Limits, Per};
use serde_json::{Value, json};

use crate::house::{House, Reply, exchange};

fn question(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

#[tokio::test]
async fn failures_behind_the_door_have_their_row_of_the_dialect() {
    let house = House::open().await;

    for (model, status, kind, code) in [
        ("fail/not_found/MODEL_NOT_FOUND", 404, "invalid_request_error", json!("model_not_found")),
        ("fail/invalid/CONTEXT_LENGTH_EXCEEDED", 400, "invalid_request_error", json!("context_length_exceeded")),
        ("fail/invalid/UPSTREAM_INVALID", 400, "invalid_request_error", Value::Null),
        ("fail/invalid/REQUEST_TOO_LARGE", 413, "invalid_request_error", json!("request_too_large")),
        ("fail/exhausted/RATE_LIMIT_EXCEEDED", 429, "requests", json!("rate_limit_exceeded")),
        ("fail/unavailable/NO_PROVIDER_LEFT", 503, "server_error", json!("no_provider_left")),
        ("fail/unavailable/NO_PROVIDER_CONFIGURED", 503, "server_error", json!("no_provider_configured")),
        ("fail/unavailable/UPSTREAM_ERROR", 502, "server_error", json!("upstream_error")),
        ("fail/timeout/UPSTREAM_TIMEOUT", 504, "server_error", json!("upstream_timeout")),
        ("fail/internal/INTERNAL", 500, "server_error", json!("internal_error")),
        ("panic", 500, "server_error", json!("internal_error")),
    ] {
        let reply = house.chat(&question(model)).await;

        let error = &reply.json()["error"];
        assert_eq!((reply.status, &error["type"], &error["code"]), (status, &json!(kind), &code), "{model}");
        assert_eq!(reply.header("content-type"), "application/json", "{model}");
        assert_eq!(reply.header("x-manifold-attempts"), if model == "panic" { "" } else { "2" }, "{model}");
        let internal = status == 500;
        assert_eq!(error["message"].as_str().unwrap().contains("why it failed"), !internal, "{model}");
    }
}

#[tokio::test]
async fn keys_are_asked_for_in_the_words_of_the_route() {
    let house = House::open().await;
    let wrong = "authorization: Bearer mfk_live_0123456789_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3qIAiy";
    let ours = format!("x-api-key: {}", house.admin);

    let missing = house.call_with("POST", "/v1/chat/completions", &[], Some(&question("echo"))).await;
    let refused = house.call_with("GET", "/v1/keys", &[wrong], None).await;
    let two = house.call_with("GET", "/v1/keys", &[wrong, &ours], None).await;
    let in_url = house.call_with("GET", &format!("/v1/keys?key={}", house.admin), &[], None).await;

    assert_eq!((missing.status, &missing.json()["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(missing.header("www-authenticate"), "Bearer realm=\"manifold\"");
    assert_eq!((refused.status, &refused.json()["code"]), (401, &json!("invalid_key")));
    assert!(refused.header("www-authenticate").contains("invalid_token"));
    assert_eq!((two.status, &two.json()["code"]), (400, &json!("ambiguous_credentials")));
    assert_eq!(in_url.status, 401);
}

#[tokio::test]
async fn a_key_may_do_what_it_was_made_for() {
    let house = House::open().await;
    let made = house.call("POST", "/v1/keys", Some(&json!({"name": "reader", "permissions": ["keys.key.read"]}))).await;
    let key = format!("x-goog-api-key: {}", made.json()["secret"].as_str().unwrap());

    let list = house.call_with("GET", "/v1/keys", &[&key], None).await;
    let chat = house.call_with("POST", "/v1/chat/completions", &[&key], Some(&question("echo"))).await;
    let make = house.call_with("POST", "/v1/keys", &[&key], Some(&json!({"name": "x"}))).await;

    assert_eq!(list.status, 200);
    assert_eq!((chat.status, &chat.json()["error"]["code"]), (403, &json!("permission_denied")));
    assert_eq!((make.status, &make.json()["code"]), (403, &json!("insufficient_scope")));
}

#[tokio::test]
async fn a_key_that_calls_too_often_is_told_when_to_return() {
    let rate = Limit { quota: Some(2), window: Some(Duration::from_secs(60).into()), ..Limit::default() };
    let house = House::open_with(|config| config.limits = Limits { per_key: Some(rate), ..Limits::default() }).await;

    let first = house.chat(&question("echo")).await;
    house.chat(&question("echo")).await;
    let third = house.chat(&question("echo")).await;
    let native = house.call("GET", "/v1/keys", None).await;

    assert_eq!((first.status, first.header("ratelimit")), (200, "\"key\";r=1;t=30"));
    assert_eq!(first.header("ratelimit-policy"), "\"key\";q=2;w=60");
    assert_eq!((third.status, &third.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    assert_eq!(third.header("retry-after"), "30");
    assert_eq!((native.status, &native.json()["violated-policies"]), (429, &json!(["key"])));
}

#[tokio::test]
async fn an_address_is_limited_before_anybody_looks_at_its_key_and_learns_no_more_than_that() {
    let minute = Limit { quota: Some(2), window: Some(Duration::from_secs(60).into()), ..Limit::default() };
    let policies =
        [("address", Limit { per: Per::Ip, ..minute.clone() }), ("tenant", Limit { per: Per::Tenant, ..minute })];
    let policies = policies.map(|(name, limit)| (name.to_owned(), limit)).into();
    let house = House::open_with(|config| config.limits = Limits { policies, ..Limits::default() }).await;
    let wrong = ["authorization: Bearer mfk_live_wrong"];

    let known = house.call("GET", "/v1/keys", None).await;
    let unknown = house.call_with("GET", "/v1/keys", &wrong, None).await;
    let third = house.call_with("GET", "/v1/keys", &wrong, None).await;

    assert_eq!(known.header("ratelimit"), "\"address\";r=1;t=30, \"tenant\";r=1;t=30");
    assert_eq!((unknown.status, unknown.header("ratelimit"), unknown.header("ratelimit-policy")), (401, "", ""));
    assert_eq!((third.status, &third.json()["violated-policies"]), (429, &json!(["address"])));
    assert_eq!(third.json()["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!((third.header("ratelimit-policy"), third.header("retry-after")), ("\"address\";q=2;w=60", "30"));
}

#[tokio::test]
async fn routes_that_do_not_fit_are_refused_in_the_right_shape() {
    let house = House::open().await;

    let nowhere = house.call("GET", "/v1/nowhere", None).await;
    let dialect = house.call("GET", "/v1/audio/speech", None).await;
    let method = house.call("DELETE", "/v1/models", None).await;
    let native = house.call("PUT", "/v1/keys", Some(&json!({}))).await;
    let with_body = house.call("GET", "/v1/embeddings", Some(&json!({}))).await;

    assert_eq!((nowhere.status, nowhere.header("content-type")), (404, "application/problem+json"));
    assert_eq!((dialect.status, &dialect.json()["error"]["type"]), (404, &json!("invalid_request_error")));
    assert_eq!((method.status, method.header("allow")), (405, "GET, HEAD"));
    assert!(method.json()["error"].is_object());
    assert_eq!((native.status, native.header("allow")), (405, "GET, POST, HEAD"));
    assert_eq!((with_body.status, with_body.header("allow")), (405, "POST"), "the method is wrong before the body is");
}

/// POSTs these bytes to `/v1/keys`.
async fn post_raw(house: &House, headers: &[&str], body: &[u8]) -> Reply {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let head = format!(
        "POST /v1/keys HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n{lines}\r\n",
        house.admin,
        body.len()
    );
    exchange(house.address, &[head.as_bytes(), body].concat()).await
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn case_62_a_body_may_be_compressed_once_and_unfolds_to_no_bomb() {
    let house = House::open().await;
    let (wish, encoded) = (br#"{"name":"website"}"#, ["content-encoding: gzip"]);

    let made = post_raw(&house, &encoded, &gzip(wish)).await;
    let bomb = post_raw(&house, &encoded, &gzip(&[b' '; 500_000])).await;
    let large = post_raw(&house, &encoded, &gzip(&random(2 << 20))).await;
    let nested = post_raw(&house, &encoded, &gzip(&gzip(wish))).await;
    let twice = post_raw(&house, &["content-encoding: gzip, gzip"], &gzip(&gzip(wish))).await;
    let brotli = post_raw(&house, &["content-encoding: br"], wish).await;
    let broken = post_raw(&house, &encoded, &gzip(wish)[..20]).await;

    assert_eq!((made.status, &made.json()["name"]), (201, &json!("website")));
    for (refused, status, code) in [
        (bomb, 413, "request_too_large"),
        (large, 413, "request_too_large"),
        (nested, 400, "body_not_json"),
        (twice, 415, "unsupported_content_encoding"),
        (brotli, 415, "unsupported_content_encoding"),
        (broken, 400, "body_broken"),
    ] {
        assert_eq!((refused.status, &refused.json()["code"]), (status, &json!(code)), "{}", refused.body);
    }
}

/// Bytes that do not compress.
fn random(n: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..n).map(|_| next()).collect()
}

#[tokio::test]
async fn case_61_a_body_that_is_too_large_is_refused_before_it_is_asked_for() {
    let house = House::open().await;
    let head = |more: &str| format!("POST /v1/keys HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n{more}\r\n\r\n");

    let announced = exchange(house.address, head("expect: 100-continue\r\ncontent-length: 99999999").as_bytes()).await;
    let unknown = exchange(house.address, head("expect: 200-ok\r\ncontent-length: 2").as_bytes()).await;

    assert_eq!((announced.status, &announced.json()["code"]), (413, &json!("request_too_large")), "and no 100 before");
    assert_eq!((unknown.status, &unknown.json()["code"]), (417, &json!("expectation_failed")));
}

#[tokio::test]
async fn case_57_too_many_parameters_are_refused() {
    let house = House::open().await;
    let query = |n: usize| vec!["a=b"; n].join("&");

    let too_many = house.call("GET", &format!("/v1/keys?{}", query(101)), None).await;
    let unknown = house.call("GET", &format!("/v1/keys?{}", query(100)), None).await;

    assert_eq!((too_many.status, &too_many.json()["code"]), (400, &json!("too_many_parameters")));
    assert_eq!((unknown.status, &unknown.json()["code"]), (400, &json!("parameter_unknown")));
}

#[tokio::test]
async fn native_bodies_are_read_strictly() {
    let house = House::open().await;

    for (body, status, code) in [
        (json!({"name": "a", "nam": 1}), 422, "body_invalid"),
        (json!({"name": 1}), 422, "body_invalid"),
        (json!({"name": ""}), 422, "name_invalid"),
        (json!({"name": "a", "environment": "prod"}), 422, "environment_invalid"),
        (json!([]), 422, "body_invalid"),
    ] {
        let reply = house.call("POST", "/v1/keys", Some(&body)).await;

        assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{body}");
    }
}

#[tokio::test]
async fn a_full_house_refuses_work_and_still_answers_probes() {
    let house = House::open_with(|config| config.max_in_flight = 0).await;

    let chat = house.chat(&question("echo")).await;
    let probe = house.call_with("GET", "/healthz", &[], None).await;

    assert_eq!((chat.status, &chat.json()["error"]["code"]), (503, &json!("temporary_reduced_capacity")));
    assert_eq!((chat.header("retry-after"), probe.status), ("1", 200));
}

#[tokio::test]
async fn who_cannot_wait_gets_a_504_in_time() {
    let house = House::open().await;
    let key = format!("x-api-key: {}", house.admin);

    let reply =
        house.call_with("POST", "/v1/chat/completions", &[&key, "prefer: wait=1"], Some(&question("hang"))).await;

    assert_eq!((reply.status, &reply.json()["error"]["code"]), (504, &json!("upstream_timeout")));
}
