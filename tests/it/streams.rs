//! Streams: the same answer in pieces, and never silence where it breaks off.

use std::time::Duration;

use anyhow::Result;
use manifold_testkit::dialect::{self, PROVIDERS};
use manifold_testkit::{Answer, End, Sandbox, Shape, Upstream};
use serde_json::{Value, json};

use crate::story;

/// The events of a stream: JSON objects, and whether it ended with `[DONE]`.
fn events(text: &str) -> (Vec<Value>, bool) {
    let data: Vec<_> = text.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    let done = data.last() == Some(&"[DONE]");
    (
        data.iter()
            .filter(|data| **data != "[DONE]")
            .map(|data| serde_json::from_str(data).unwrap_or(Value::Null))
            .collect(),
        done,
    )
}

fn text_of(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}

story!(each_of_the_five_providers_streams, |builder| {
    let upstream = Upstream::start().await?;
    let builder = PROVIDERS.iter().fold(builder, |builder, (provider, _)| builder.provider(provider, &upstream));
    let mut sandbox = builder.start().await?;

    for (provider, model) in PROVIDERS {
        let mut stream = sandbox.admin.stream(model, "hi").await?;
        let text = stream.rest().await?;

        let (events, done) = events(&text);
        assert!(done, "{provider}: {text}");
        assert_eq!(text_of(&events), "hello from upstream", "{provider}: {text}");
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let last = events.last().expect("a usage chunk");
        assert_eq!(
            (last["choices"].clone(), last["usage"]["total_tokens"].clone()),
            (json!([]), json!(13)),
            "{provider}: {text}"
        );
        assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "stop", "{provider}: {text}");
        assert_eq!(stream.headers["x-manifold-provider"], *provider);
        assert_eq!(stream.headers["content-type"], "text/event-stream; charset=utf-8");
        assert!(
            events.iter().all(|event| event["id"] == events[0]["id"] && event["object"] == "chat.completion.chunk")
        );
    }
    sandbox.halt().await;
    assert_eq!(
        sandbox
            .count(
                "SELECT COUNT(*) FROM ai_attempt WHERE class = 'ok' AND usage_source = 'provider' AND output_tokens = 4"
            )
            .await?,
        5
    );
    sandbox.stop().await?;
    Ok(())
});

story!(the_echo_streams_word_by_word, |builder| {
    let sandbox = builder.start().await?;

    let text = sandbox.admin.stream("manifold/echo", "one two three").await?.rest().await?;

    let (events, done) = events(&text);
    assert!(done);
    assert_eq!(text_of(&events), "one two three");
    sandbox.stop().await?;
    Ok(())
});

story!(failover_before_the_first_token_is_invisible, |builder| {
    let (groq, mistral) = (Upstream::start().await?, Upstream::start().await?);
    groq.always(Answer::cut("text/event-stream", b": starting\n\n", 12, End::Cut));
    let builder = builder.provider("groq", &groq).provider("mistral", &mistral);
    let sandbox = builder
        .set("ai.aliases.fast", r#"["groq/llama-3.1-8b-instant", "mistral/mistral-small-latest"]"#)
        .start()
        .await?;

    let mut stream = sandbox.admin.stream("fast", "hi").await?;
    let text = stream.rest().await?;

    assert_eq!((stream.status, stream.headers["x-manifold-provider"].to_str()?), (200, "mistral"));
    assert_eq!(text_of(&events(&text).0), "hello from upstream");
    sandbox.stop().await?;
    Ok(())
});

story!(an_error_inside_a_stream_is_an_error_event, |builder| {
    let groq = Upstream::start().await?;
    let mut body = dialect::stream("groq", "hello there").1;
    body.truncate(body.len() / 2);
    let cut = body.windows(2).rposition(|window| window == b"\n\n").expect("an event") + 2;
    body.truncate(cut);
    body.extend_from_slice(
        b"event: error\ndata: {\"error\":{\"message\":\"secret sk-canary-groq at 10.0.0.1\",\"status_code\":500}}\n\n",
    );
    let pause = Duration::from_millis(50);
    groq.next(Answer::Chunks { content_type: "text/event-stream".into(), body, size: cut, pause, end: End::Proper });
    let sandbox = builder.provider("groq", &groq).start().await?;

    let text = sandbox.admin.stream("groq/llama-3.1-8b-instant", "hi").await?.rest().await?;

    let (events, done) = events(&text);
    assert!(!done, "{text}");
    assert_eq!(events.last().expect("an error")["error"]["code"], "stream_interrupted");
    assert!(!text.contains("canary") && !text.contains("10.0.0.1"), "{text}");
    sandbox.stop().await?;
    Ok(())
});

/// Every stream of every provider, cut at every byte, both ways in which a connection can end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_cut_at_any_byte_is_complete_or_an_error_and_never_silence() -> Result<()> {
    let upstream = Upstream::start().await?;
    let builder = PROVIDERS
        .iter()
        .fold(Sandbox::builder(Shape::One), |builder, (provider, _)| builder.provider(provider, &upstream));
    let sandbox = builder.start().await?;
    let mut silent = 0;
    for (provider, model) in PROVIDERS {
        let (content_type, body) = dialect::stream(provider, "one two");
        for at in 0..body.len() {
            let end = if at % 2 == 0 { End::Cut } else { End::Proper };
            upstream.next(Answer::cut(content_type, &body, at, end)).next(Answer::cut(content_type, &body, at, end));
            let mut stream = sandbox.admin.stream(model, "hi").await?;
            let text = stream.rest().await?;
            let (events, done) = events(&text);
            let complete = done && text_of(&events) == "one two";
            let failed = stream.status >= 500 || events.last().is_some_and(|event| !event["error"].is_null());
            if complete == failed {
                silent += 1;
                eprintln!("{provider} cut at {at}: {} {text}", stream.status);
            }
            sandbox.clock.advance(Duration::from_secs(700));
            upstream.clear();
        }
    }

    assert_eq!(silent, 0);
    sandbox.stop().await?;
    Ok(())
}
