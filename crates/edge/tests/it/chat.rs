//! Whole answers: chat, embeddings and models.

use serde_json::json;

use crate::house::House;

#[tokio::test]
async fn a_chat_is_answered_in_openais_shape_with_our_headers() {
    let house = House::open().await;

    let reply = house.chat(&json!({"model": "echo", "messages": [{"role": "user", "content": "hello"}]})).await;

    let answer = reply.json();
    assert_eq!((reply.status, &answer["choices"][0]["message"]["content"]), (200, &json!("hello")));
    assert_eq!((&answer["model"], &answer["object"]), (&json!("fake/echo"), &json!("chat.completion")));
    for (name, value) in [
        ("x-manifold-provider", "fake"),
        ("x-manifold-model", "echo"),
        ("x-manifold-requested-model", "echo"),
        ("x-manifold-attempts", "1"),
        ("x-manifold-cost", "0.000412"),
        ("x-manifold-degraded", "seed"),
        ("x-manifold-data-use", "trains"),
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(reply.header(name), value, "{name}");
    }
    let (whole, decimals) = reply.header("x-manifold-overhead-ms").split_once('.').unwrap();
    assert!(whole.parse::<u32>().is_ok() && decimals.len() == 3);
    assert!(reply.header("x-manifold-request-id").starts_with("req_"));
    assert_eq!(reply.header("x-request-id"), reply.header("x-manifold-request-id"));
}

#[tokio::test]
async fn the_alias_of_the_groq_sdk_is_the_same() {
    let house = House::open().await;
    let body = json!({"model": "echo", "messages": [{"role": "user", "content": "hello"}]});

    let reply = house.call("POST", "/openai/v1/chat/completions", Some(&body)).await;

    assert_eq!((reply.status, &reply.json()["choices"][0]["message"]["content"]), (200, &json!("hello")));
}

#[tokio::test]
async fn large_bodies_pass_up_to_the_limit_of_the_dialect() {
    let house = House::open().await;
    let text = "x".repeat(4 << 20);

    let reply = house.chat(&json!({"model": "echo", "messages": [{"role": "user", "content": text}]})).await;

    assert_eq!(
        (reply.status, reply.json()["choices"][0]["message"]["content"].as_str().unwrap().len()),
        (200, 4 << 20)
    );
}

#[tokio::test]
async fn vectors_come_as_numbers_and_as_base64() {
    let house = House::open().await;
    let body = |format: &str| json!({"model": "embed", "input": ["a", "b"], "encoding_format": format});

    let numbers = house.call("POST", "/v1/embeddings", Some(&body("float"))).await.json();
    let base64 = house.call("POST", "/v1/embeddings", Some(&body("base64"))).await.json();

    assert_eq!(numbers["data"][1], json!({"object": "embedding", "index": 1, "embedding": [0.5, -1.0]}));
    assert_eq!(base64["data"][0]["embedding"], "AAAAPwAAgL8=");
}

#[tokio::test]
async fn models_are_listed_and_found_under_raw_and_escaped_names() {
    let house = House::open().await;

    let list = house.call("GET", "/v1/models", None).await.json();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&json!("list"), &json!("fake/a:b")));
    for path in ["/v1/models/fake/a:b", "/v1/models/fake%2Fa%3Ab", "/openai/v1/models/fake%2fa:b"] {
        let model = house.call("GET", path, None).await;

        assert_eq!((model.status, &model.json()["id"]), (200, &json!("fake/a:b")), "{path}");
    }
}

#[tokio::test]
async fn an_unknown_or_endless_model_is_a_404_of_the_dialect() {
    let house = House::open().await;
    let endless = format!("/v1/models/{}", "m".repeat(300));

    for path in ["/v1/models/unknown", endless.as_str()] {
        let reply = house.call("GET", path, None).await;

        assert_eq!((reply.status, &reply.json()["error"]["code"]), (404, &json!("model_not_found")), "{path}");
    }
}
