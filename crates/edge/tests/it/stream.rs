//! Streamed answers, their ends and their interruptions.

use std::sync::atomic::Ordering;
use std::time::Duration;

use manifold_edge::{Limit, Limits};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::House;

fn body(model: &str) -> Value {
    json!({"model": model, "stream": true, "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "hi"}]})
}

/// Opens a stream and reads until `hi` has come.
async fn begun(house: &House, model: &str) -> TcpStream {
    let body = body(model).to_string();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n", house.admin);
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("\"hi\"") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0);
    }
    stream
}

/// Waits for something that another task does.
async fn eventually(mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened");
}

#[tokio::test]
async fn a_stream_ends_with_usage_cost_and_the_end_mark() {
    let house = House::open().await;

    let reply = house.chat(&body("echo")).await;

    let events: Vec<_> =
        reply.body.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    let usage: Value = serde_json::from_str(events[events.len() - 2]).unwrap();
    assert_eq!((reply.status, events.last().copied()), (200, Some("[DONE]")));
    assert_eq!((&usage["usage"]["total_tokens"], &usage["manifold"]["cost"]), (&json!(5), &json!("0.000412")));
    assert_eq!(reply.header("content-type"), "text/event-stream; charset=utf-8");
    assert_eq!((reply.header("cache-control"), reply.header("x-accel-buffering")), ("no-cache", "no"));
    assert_eq!((reply.header("x-manifold-provider"), reply.header("x-manifold-cost")), ("fake", ""));
}

#[tokio::test]
async fn a_failure_before_the_first_message_is_a_status() {
    let house = House::open().await;

    let reply = house.chat(&body("fail/exhausted/RATE_LIMIT_EXCEEDED")).await;

    assert_eq!((reply.status, &reply.json()["error"]["type"]), (429, &json!("requests")));
    assert_eq!((reply.header("retry-after"), reply.header("retry-after-ms")), ("2", "1500"));
}

#[tokio::test]
async fn a_cut_stream_ends_with_an_error_and_no_end_mark() {
    let house = House::open().await;

    let reply = house.chat(&body("cut")).await;

    assert!(reply.body.contains("\"code\":\"stream_interrupted\""), "{}", reply.body);
    assert!(!reply.body.contains("[DONE]"));
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_call() {
    let house = House::open().await;

    let stream = begun(&house, "hang").await;
    drop(stream);

    eventually(|| house.fake.abandoned.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_client_that_half_closes_has_left() {
    let house = House::open().await;

    let mut stream = begun(&house, "hang").await;
    stream.shutdown().await.unwrap();

    eventually(|| house.fake.abandoned.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_before_a_whole_answer_cancels_the_call() {
    let house = House::open().await;
    let body = json!({"model": "hang", "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n", house.admin);
    let mut stream = TcpStream::connect(house.address).await.unwrap();
    stream.write_all(format!("{head}content-length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    eventually(|| house.fake.hanging.load(Ordering::SeqCst) == 1).await;

    drop(stream);

    eventually(|| house.fake.abandoned.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_stop_lets_streams_in_flight_finish() {
    let house = House::open().await;
    let mut stream = begun(&house, "slow").await;

    let tasks = house.tasks.clone();
    let (stopped, rest) = tokio::join!(tasks.shutdown(Duration::from_secs(10)), async {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        rest
    });

    assert!(stopped);
    assert!(rest.contains("[DONE]"), "{rest}");
    assert!(TcpStream::connect(house.address).await.is_err());
}

#[tokio::test]
async fn a_stream_holds_its_place_until_its_client_has_left() {
    let limits = Limit { concurrent: Some(1), ..Limit::default() };
    let house = House::open_with(|config| config.limits = Limits { per_key: Some(limits), ..Limits::default() }).await;
    let stream = begun(&house, "hang").await;

    let dialect = house.chat(&body("echo")).await;
    let native = house.call("GET", "/v1/keys", None).await;
    drop(stream);
    let mut next = house.chat(&body("echo")).await;
    while next.status == 429 {
        next = house.chat(&body("echo")).await;
    }
    let after = house.chat(&body("echo")).await;

    assert_eq!((dialect.status, &dialect.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    assert_eq!((native.status, &native.json()["violated-policies"]), (429, &json!(["key-concurrent"])));
    assert_eq!(native.json()["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert_eq!((native.header("retry-after"), native.header("ratelimit")), ("1", "\"key-concurrent\";r=0;t=1"));
    assert_eq!(native.header("ratelimit-policy"), "\"key-concurrent\";q=1;qu=\"concurrent-requests\"");
    assert_eq!((next.status, next.header("ratelimit")), (200, "\"key-concurrent\";r=0"));
    assert_eq!(after.status, 200, "the last one has left, too");
}
