//! A chat from the door to the provider and back, and the rows that it leaves.

use manifold_testkit::dialect::PROVIDERS;
use manifold_testkit::{Answer, Upstream};
use serde_json::json;

use crate::story;

story!(the_echo_answers_without_any_provider, |builder| {
    let mut sandbox = builder.start().await?;

    let reply = sandbox.admin.chat("manifold/echo", "hello").await?;

    assert_eq!((reply.status, reply.said().as_str()), (200, "hello"));
    assert_eq!(reply.json()["object"], "chat.completion");
    assert_eq!(reply.header("x-manifold-provider"), "manifold");
    assert!(!reply.header("x-manifold-request-id").is_empty());
    sandbox.halt().await;
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM ai_request WHERE outcome = 'ok'").await?, 1);
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM outbox WHERE type = 'ai.request.completed'").await?, 1);
    sandbox.stop().await?;
    Ok(())
});

story!(each_of_the_five_providers_answers, |builder| {
    let upstream = Upstream::start().await?;
    let builder = PROVIDERS.iter().fold(builder, |builder, (provider, _)| builder.provider(provider, &upstream));
    let mut sandbox = builder.start().await?;

    for (provider, model) in PROVIDERS {
        let reply = sandbox.admin.chat(model, "hi").await?;

        assert_eq!((reply.status, reply.said().as_str()), (200, "hello from upstream"), "{provider}: {}", reply.text);
        assert_eq!(reply.header("x-manifold-provider"), provider);
        assert_eq!(reply.header("x-manifold-model"), model.split_once('/').unwrap_or_default().1);
        assert_eq!(reply.header("x-manifold-attempts"), "1");
        let usage = &reply.json()["usage"];
        assert_eq!(
            [&usage["prompt_tokens"], &usage["completion_tokens"], &usage["total_tokens"]],
            [9, 4, 13],
            "{provider}"
        );
        assert_eq!(reply.json()["model"], *model);
    }

    sandbox.halt().await;
    assert_eq!(upstream.hits(), 5);
    assert_eq!(
        sandbox
            .count("SELECT COUNT(*) FROM ai_attempt WHERE class = 'ok' AND input_tokens = 9 AND output_tokens = 4")
            .await?,
        5
    );
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM outbox WHERE type = 'ai.request.completed'").await?, 5);
    sandbox.stop().await?;
    Ok(())
});

story!(the_cost_is_told_and_an_unknown_price_is_never_zero, |builder| {
    let upstream = Upstream::start().await?;
    let mut sandbox = builder.provider("groq", &upstream).start().await?;

    let known = sandbox.admin.chat("groq/llama-3.3-70b-versatile", "hi").await?;
    let unknown = sandbox.admin.chat("groq/brand-new", "hi").await?;

    assert_eq!(known.header("x-manifold-cost"), "0.000008", "9 × 0.59 + 4 × 0.79 millionths of a dollar");
    assert_eq!(unknown.header("x-manifold-cost"), "unpriced");
    sandbox.halt().await;
    assert_eq!(
        sandbox.count("SELECT COUNT(*) FROM ai_request WHERE price_state = 'unpriced' AND cost_nanos IS NULL").await?,
        1
    );
    assert_eq!(sandbox.count("SELECT CAST(SUM(cost_nanos) AS BIGINT) FROM ai_request").await?, 8_470);
    sandbox.stop().await?;
    Ok(())
});

story!(tools_travel_both_ways_without_being_printed_again, |builder| {
    let upstream = Upstream::start().await?;
    let arguments = r#"{"city":  "Rome", "big": 12345678901234567890}"#;
    upstream.next(Answer::json(
        200,
        &json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls",
            "message": {"role": "assistant", "content": null, "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}},
                {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}}]}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}),
    ));
    let sandbox = builder.provider("groq", &upstream).start().await?;
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "description": "d", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}});

    let reply = sandbox
        .admin
        .post(
            "/v1/chat/completions",
            &json!({"model": "groq/llama-3.3-70b-versatile", "tools": [tool("weather"), tool("time")], "tool_choice": "required",
                "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": null, "tool_calls": [
                    {"id": "call_0", "type": "function", "function": {"name": "weather", "arguments": arguments}}]},
                    {"role": "tool", "tool_call_id": "call_0", "content": "sunny"}]}),
        )
        .await?;

    let message = &reply.json()["choices"][0]["message"];
    assert_eq!(message["content"], json!(null));
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], arguments);
    assert_eq!(message["tool_calls"][1]["id"], "call_2");
    assert_eq!(reply.json()["choices"][0]["finish_reason"], "tool_calls");
    let sent = upstream.last().expect("a request").body;
    assert_eq!(sent["messages"][1]["tool_calls"][0]["function"]["arguments"], arguments);
    assert_eq!((&sent["messages"][2]["tool_call_id"], &sent["tool_choice"]), (&json!("call_0"), &json!("required")));
    assert_eq!(sent["tools"][0], tool("weather"));
    sandbox.stop().await?;
    Ok(())
});

story!(models_are_listed_and_found_by_name, |builder| {
    let upstream = Upstream::start().await?;
    let sandbox =
        builder.provider("groq", &upstream).set("ai.aliases.fast", "groq/llama-3.1-8b-instant").start().await?;

    let list = sandbox.admin.get("/v1/models").await?.json();
    let one = sandbox.admin.get("/v1/models/groq%2Fllama-3.1-8b-instant").await?;
    let raw = sandbox.admin.get("/v1/models/groq/llama-3.1-8b-instant").await?;
    let missing = sandbox.admin.get("/v1/models/groqq").await?;

    let ids: Vec<_> =
        list["data"].as_array().expect("a list").iter().filter_map(|model| model["id"].as_str()).collect();
    assert!(
        ids.contains(&"groq/llama-3.1-8b-instant") && ids.contains(&"fast") && ids.contains(&"manifold/echo"),
        "{ids:?}"
    );
    assert!(!ids.iter().any(|id| id.starts_with("mistral/")), "a provider without a key is not offered");
    assert_eq!((one.json()["id"].clone(), one.json()), (json!("groq/llama-3.1-8b-instant"), raw.json()));
    assert_eq!((missing.status, &missing.json()["error"]["code"]), (404, &json!("model_not_found")));
    sandbox.stop().await?;
    Ok(())
});
