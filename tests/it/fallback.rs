//! What happens when a provider does not answer: the next one, a pause, a cooldown; and the rows say so.

use std::time::Duration;

use manifold_testkit::{Answer, Upstream};
use serde_json::json;

use crate::story;

story!(falls_back_when_the_first_provider_is_busy, |builder| {
    let (groq, mistral) = (Upstream::start().await?, Upstream::start().await?);
    groq.always(Answer::status(429, Some(("retry-after", "60"))));
    let builder = builder.provider("groq", &groq).provider("mistral", &mistral);
    let mut sandbox = builder
        .set("ai.aliases.fast", r#"["groq/llama-3.1-8b-instant", "mistral/mistral-small-latest"]"#)
        .start()
        .await?;

    let reply = sandbox.admin.chat("fast", "hello").await?;

    assert_eq!(
        (reply.status, reply.header("x-manifold-provider"), reply.header("x-manifold-attempts")),
        (200, "mistral", "2")
    );
    assert_eq!((groq.hits(), mistral.hits()), (1, 1));
    sandbox.halt().await;
    assert_eq!(
        sandbox.count("SELECT COUNT(*) FROM ai_attempt WHERE class = 'rate' AND status = 429 AND n = 1").await?,
        1
    );
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM ai_request WHERE n_attempts = 2 AND outcome = 'ok'").await?, 1);
    sandbox.stop().await?;
    Ok(())
});

story!(a_told_limit_is_not_asked_again_before_its_time, |builder| {
    let groq = Upstream::start().await?;
    groq.next(Answer::status(429, Some(("retry-after", "60"))));
    let sandbox = builder.provider("groq", &groq).start().await?;
    let model = "groq/llama-3.1-8b-instant";

    let first = sandbox.admin.chat(model, "hi").await?;
    let second = sandbox.admin.chat(model, "hi").await?;
    sandbox.clock.advance(Duration::from_secs(61));
    let third = sandbox.admin.chat(model, "hi").await?;

    assert_eq!(
        (first.status, first.header("retry-after"), &first.json()["error"]["code"]),
        (429, "60", &json!("rate_limit_exceeded"))
    );
    assert_eq!((second.status, groq.hits()), (429, 2), "only the first and the third call were sent");
    assert_eq!(third.status, 200);
    sandbox.stop().await?;
    Ok(())
});

story!(a_short_told_delay_is_waited_out, |builder| {
    let groq = Upstream::start().await?;
    groq.next(Answer::status(429, Some(("retry-after-ms", "20"))));
    let sandbox = builder.provider("groq", &groq).start().await?;

    let reply = sandbox.admin.chat("groq/llama-3.1-8b-instant", "hi").await?;

    assert_eq!((reply.status, reply.header("x-manifold-attempts"), groq.hits()), (200, "2", 2));
    sandbox.stop().await?;
    Ok(())
});

story!(a_failing_provider_cools_down_and_comes_back_by_a_probe, |builder| {
    let (groq, mistral) = (Upstream::start().await?, Upstream::start().await?);
    groq.always(Answer::status(503, None));
    let builder = builder.provider("groq", &groq).provider("mistral", &mistral);
    let sandbox = builder
        .set("ai.aliases.fast", r#"["groq/llama-3.1-8b-instant", "mistral/mistral-small-latest"]"#)
        .start()
        .await?;
    for _ in 0..5 {
        assert_eq!(sandbox.admin.chat("fast", "hi").await?.header("x-manifold-provider"), "mistral");
    }
    assert_eq!(groq.hits(), 3, "after three failures in a row it is left alone");

    groq.always(Answer::Good("back".into()));
    sandbox.clock.advance(Duration::from_secs(20));
    let reply = sandbox.admin.chat("fast", "hi").await?;

    assert_eq!((reply.said().as_str(), groq.hits()), ("back", 4));
    sandbox.stop().await?;
    Ok(())
});

story!(the_clients_own_list_is_honoured, |builder| {
    let (groq, mistral) = (Upstream::start().await?, Upstream::start().await?);
    groq.always(Answer::Close);
    let sandbox = builder.provider("groq", &groq).provider("mistral", &mistral).start().await?;

    let body = json!({"model": "groq/llama-3.1-8b-instant", "models": ["mistral/mistral-small-latest"], "messages": [{"role": "user", "content": "hi"}]});
    let reply = sandbox.admin.post("/v1/chat/completions", &body).await?;

    assert_eq!((reply.status, reply.header("x-manifold-provider")), (200, "mistral"), "{}", reply.text);
    sandbox.stop().await?;
    Ok(())
});

story!(auto_is_catalogue_order_and_needs_no_name, |builder| {
    let mistral = Upstream::start().await?;
    let sandbox = builder.provider("mistral", &mistral).start().await?;

    let reply = sandbox.admin.chat("auto", "hi").await?;

    assert_eq!((reply.status, reply.header("x-manifold-model")), (200, "mistral-small-latest"));
    sandbox.stop().await?;
    Ok(())
});

story!(without_any_provider_the_answer_names_what_to_set, |builder| {
    let sandbox = builder.set("ai.providers.ollama.enabled", "false").start().await?;

    let reply = sandbox.admin.chat("auto", "hi").await?;

    assert_eq!(reply.status, 503);
    let message = reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains("GROQ_API_KEY") && message.contains("manifold/echo"), "{message}");
    sandbox.stop().await?;
    Ok(())
});
