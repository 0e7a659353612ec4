//! What every answer has, and what is open to everybody.

use serde_json::{Value, json};

use crate::house::{House, exchange};

#[tokio::test]
async fn the_clients_own_request_id_is_kept_if_it_is_harmless() {
    let house = House::open().await;

    let kept = house.call_with("GET", "/healthz", &["x-request-id: abc-1"], None).await;
    let replaced = house.call_with("GET", "/healthz", &["x-request-id: a b"], None).await;

    assert_eq!(kept.header("x-request-id"), "abc-1");
    assert!(kept.header("x-manifold-request-id").starts_with("req_"));
    assert_eq!(replaced.header("x-request-id"), replaced.header("x-manifold-request-id"));
}

#[tokio::test]
async fn a_problem_names_its_request_and_trace() {
    let house = House::open().await;
    let trace = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    let reply = house.call_with("GET", "/v1/keys", &[trace], None).await;

    let problem = reply.json();
    assert_eq!(problem["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(problem["request_id"], reply.header("x-manifold-request-id"));
    assert_eq!(problem["type"], "urn:manifold:error:invalid_key");
}

#[tokio::test]
async fn the_contract_covers_what_is_served() {
    let house = House::open().await;

    let reply = house.call_with("GET", "/openapi.json", &[], None).await;

    let document = reply.json();
    let published: Value = serde_json::from_str(&manifold_edge::openapi().to_json().unwrap()).unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(document["paths"], published["paths"]);
    assert_eq!(document["paths"]["/v1/keys"]["post"]["x-permission"], "keys.key.write");
    assert_eq!(
        document["paths"]["/v1/keys"]["post"]["responses"]["201"]["links"]["revoke"]["operationId"],
        "revokeKey"
    );
}

#[tokio::test]
async fn browsers_of_listed_origins_may_call_and_read_our_headers() {
    let house = House::open_with(|config| config.cors_origins = vec!["https://app.example".to_owned()]).await;
    let asks = "access-control-request-method: POST";

    let preflight =
        house.call_with("OPTIONS", "/v1/chat/completions", &["origin: https://app.example", asks], None).await;
    let stranger =
        house.call_with("OPTIONS", "/v1/chat/completions", &["origin: https://evil.example", asks], None).await;
    let refused = house.call_with("GET", "/v1/keys", &["origin: https://app.example"], None).await;

    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, "https://app.example"));
    assert_eq!((stranger.status, stranger.header("access-control-allow-origin")), (204, ""));
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, "https://app.example"));
    assert!(refused.header("access-control-expose-headers").contains("x-manifold-cost"));
    assert_eq!(refused.header("vary"), "origin");
}

#[tokio::test]
async fn probes_and_metrics_are_where_operators_look() {
    let house = House::open().await;
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");

    let ready = house.call_with("GET", "/readyz", &[], None).await;
    let public = house.call_with("GET", "/metrics", &[], None).await;
    let managed = exchange(house.management, get("/readyz").as_bytes()).await;
    let metrics = exchange(house.management, get("/metrics").as_bytes()).await;

    assert_eq!((ready.status, &ready.json()["degraded"]), (200, &json!([])));
    assert_eq!((public.status, managed.status, metrics.status), (404, 200, 200));
}
