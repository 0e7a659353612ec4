//! Bad input and bad providers: each has its row with the exact answer, and nothing of the provider leaks into it.

use std::time::Duration;

use anyhow::Result;
use manifold_testkit::{Answer, End, Sandbox, Shape, Upstream};
use serde_json::{Value, json};

use crate::story;

const MODEL: &str = "groq/llama-3.1-8b-instant";

fn whole(status: u16, content_type: &str, body: &str) -> Answer {
    Answer::Whole {
        status,
        headers: vec![("content-type".into(), content_type.into())],
        body: body.as_bytes().to_vec(),
    }
}

/// What the provider does → status, type and code that the caller sees.
fn rows() -> Vec<(&'static str, Answer, u16, &'static str, Value)> {
    let canary = r#"{"error":{"message":"key sk-canary-groq refused at http://10.9.8.7:1/v1","type":"x","code":"x"}}"#;
    let status = |status| whole(status, "application/json", canary);
    let context = r#"{"error":{"message":"This model's maximum context length is 8192 tokens","type":"invalid_request_error","code":"context_length_exceeded"}}"#;
    vec![
        ("400", status(400), 400, "invalid_request_error", json!(null)),
        ("401", status(401), 503, "server_error", json!("no_provider_left")),
        ("402", status(402), 503, "server_error", json!("no_provider_left")),
        ("403", status(403), 503, "server_error", json!("no_provider_left")),
        ("404", status(404), 404, "invalid_request_error", json!("model_not_found")),
        ("408", status(408), 502, "server_error", json!("upstream_error")),
        ("409", status(409), 400, "invalid_request_error", json!(null)),
        ("413", status(413), 413, "invalid_request_error", json!("request_too_large")),
        ("422", status(422), 400, "invalid_request_error", json!(null)),
        ("429", status(429), 429, "requests", json!("rate_limit_exceeded")),
        ("500", status(500), 502, "server_error", json!("upstream_error")),
        ("502", status(502), 502, "server_error", json!("upstream_error")),
        ("503", status(503), 503, "server_error", json!("no_provider_left")),
        ("529", status(529), 503, "server_error", json!("no_provider_left")),
        (
            "context",
            whole(400, "application/json", context),
            400,
            "invalid_request_error",
            json!("context_length_exceeded"),
        ),
        ("html on 200", whole(200, "text/html", "<html>canary</html>"), 502, "server_error", json!("upstream_error")),
        ("html on 500", whole(500, "text/html", "<html>canary</html>"), 502, "server_error", json!("upstream_error")),
        (
            "truncated json",
            whole(200, "application/json", r#"{"choices":[{"mess"#),
            502,
            "server_error",
            json!("upstream_error"),
        ),
        ("empty 200", whole(200, "application/json", ""), 502, "server_error", json!("upstream_error")),
        (
            "no choices",
            whole(200, "application/json", r#"{"choices":[]}"#),
            502,
            "server_error",
            json!("upstream_error"),
        ),
        (
            "error in 200",
            whole(200, "application/json", r#"{"error":{"message":"canary","code":502}}"#),
            502,
            "server_error",
            json!("upstream_error"),
        ),
        ("closed", Answer::Close, 502, "server_error", json!("upstream_error")),
        ("hanging", Answer::Hang, 504, "server_error", json!("upstream_timeout")),
        (
            "not http",
            Answer::Raw(b"220 canary ftp ready\r\n\r\n".to_vec()),
            502,
            "server_error",
            json!("upstream_error"),
        ),
        (
            "stalled body",
            Answer::cut("application/json", b"{\"choices\"", 10, End::Hang),
            504,
            "server_error",
            json!("upstream_timeout"),
        ),
        (
            "cut body",
            Answer::cut("application/json", b"{\"choices\"", 10, End::Cut),
            502,
            "server_error",
            json!("upstream_error"),
        ),
        (
            "redirect",
            Answer::Whole {
                status: 302,
                headers: vec![("location".into(), "http://169.254.169.254/".into())],
                body: Vec::new(),
            },
            502,
            "server_error",
            json!("upstream_error"),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_of_a_provider_has_its_exact_answer_and_leaks_nothing() -> Result<()> {
    let upstream = Upstream::start().await?;
    let builder =
        Sandbox::builder(Shape::One).provider("groq", &upstream).set("ai.first_token", "300ms").set("ai.idle", "300ms");
    let sandbox = builder.start().await?;
    let mut wrong = Vec::new();

    for (name, answer, status, kind, code) in rows() {
        upstream.always(answer);
        let reply = sandbox.admin.chat(MODEL, "hi").await?;
        let error = reply.json()["error"].clone();
        if (reply.status, &error["type"], &error["code"]) != (status, &json!(kind), &code) {
            wrong.push(format!("{name}: {} {}", reply.status, reply.text));
        }
        let all = format!("{:?} {}", reply.headers, reply.text);
        if all.contains("canary") || all.contains("10.9.8.7") || all.contains("169.254") {
            wrong.push(format!("{name} leaks: {all}"));
        }
        if reply.header("x-manifold-request-id").is_empty() {
            wrong.push(format!("{name}: no request id"));
        }
        sandbox.clock.advance(Duration::from_secs(7_200));
    }

    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    sandbox.stop().await?;
    Ok(())
}

story!(bad_bodies_are_400_and_name_the_place, |builder| {
    let sandbox = builder.start().await?;
    let user = json!({"role": "user", "content": "hi"});
    let rows = [
        (json!({"messages": [user]}), "model"),
        (json!({"model": "manifold/echo"}), "messages"),
        (json!({"model": "manifold/echo", "messages": {}}), "messages"),
        (json!({"model": "manifold/echo", "messages": []}), "messages"),
        (json!({"model": "manifold/echo", "messages": [{"role": "wizard", "content": "hi"}]}), "messages[0].role"),
        (
            json!({"model": "manifold/echo", "messages": [user, {"role": "user", "content": [{"type": "hologram"}]}]}),
            "messages[1].content[0].type",
        ),
        (json!({"model": "manifold/echo", "messages": [user], "stream": "yes"}), "stream"),
        (json!({"model": "manifold/echo", "messages": [user], "max_tokens": -1}), "max_tokens"),
        (json!({"model": "manifold/echo", "messages": [user], "n": 0}), "n"),
        (json!({"model": "manifold/echo", "messages": [user], "temperature": "hot"}), "temperature"),
        (
            json!({"model": "manifold/echo", "messages": [user], "tools": [{"type": "function", "function": {"name": "no spaces"}}]}),
            "tools[0].function.name",
        ),
    ];

    for (body, param) in rows {
        let reply = sandbox.admin.post("/v1/chat/completions", &body).await?;
        assert_eq!((reply.status, &reply.json()["error"]["param"]), (400, &json!(param)), "{body}: {}", reply.text);
        assert_eq!(reply.json()["error"]["type"], "invalid_request_error");
    }
    sandbox.stop().await?;
    Ok(())
});

story!(broken_and_oversize_json_is_refused_before_anything_is_sent, |builder| {
    let upstream = Upstream::start().await?;
    let sandbox = builder.provider("groq", &upstream).start().await?;
    let post = |body: Vec<u8>| {
        sandbox.admin.send(http::Method::POST, "/v1/chat/completions", &[("content-type", "application/json")], body)
    };

    let broken = post(b"{\"model\": ".to_vec()).await?;
    let deep = post([b"[".repeat(100), b"]".repeat(100)].concat()).await?;
    let large = post(vec![b' '; (32 << 20) + 1]).await;

    assert_eq!(
        (broken.status, &broken.json()["error"]["type"]),
        (400, &json!("invalid_request_error")),
        "{}",
        broken.text
    );
    assert_eq!(deep.status, 400);
    assert!(large.is_err() || large.is_ok_and(|reply| reply.status == 413));
    assert_eq!(upstream.hits(), 0);
    sandbox.stop().await?;
    Ok(())
});

story!(an_image_address_cannot_reach_into_the_house, |builder| {
    let (gemini, inside) = (Upstream::start().await?, Upstream::start().await?);
    let sandbox = builder.provider("gemini", &gemini).start().await?;
    let urls = [
        format!("http://{}/secret.png", inside.address),
        "http://169.254.169.254/latest".into(),
        "file:///etc/passwd".into(),
    ];

    for url in urls {
        let body = json!({"model": "gemini/gemini-2.5-flash", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]});
        let reply = sandbox.admin.post("/v1/chat/completions", &body).await?;
        assert_eq!(reply.status, 400, "{url}: {}", reply.text);
    }
    assert_eq!((inside.hits(), gemini.hits()), (0, 0));
    sandbox.stop().await?;
    Ok(())
});

story!(what_is_not_there_is_a_problem_document, |builder| {
    let sandbox = builder.start().await?;

    let missing = sandbox.admin.get("/v1/nothing").await?;
    let method = sandbox.admin.delete("/v1/chat/completions").await?;

    assert_eq!((missing.status, missing.header("content-type")), (404, "application/problem+json"));
    assert_eq!(missing.json()["request_id"], missing.header("x-manifold-request-id"));
    assert_eq!((method.status, method.header("allow").contains("POST")), (405, true));
    sandbox.stop().await?;
    Ok(())
});
