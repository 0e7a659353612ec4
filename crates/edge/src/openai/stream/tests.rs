//! Streams of the contract, and the events that clients read.

use std::time::Duration;

use manifold_contract::ai::v1::chat_stream_response::Kind;
use manifold_contract::ai::v1::{
    ChatStreamResponse, ChoiceEnd, Failed, FinishReason, Served, Started, TextDelta, ToolDelta, ToolStart, Usage,
};
use manifold_core::{Error, RequestId};
use serde_json::Value;
use uuid::Uuid;

use super::{Show, StreamEncoder, Thinking};

const SHOW: Show = Show {
    usage: false,
    thinking: Thinking::Hidden,
    declared: Vec::new(),
    request: RequestId(Uuid::nil()),
    busy: Duration::from_micros(12),
};

fn served() -> Served {
    Served {
        provider: "groq".to_owned(),
        model: "llama".to_owned(),
        n_attempts: 2,
        cost_nanos: Some(412_000),
        price_state: "priced".to_owned(),
        overhead_us: 30,
        ..Served::default()
    }
}

fn started() -> Kind {
    Kind::Started(Started { id: "chatcmpl-1".to_owned(), created: 7, served: Some(served()) })
}

fn text(choice: u32, text: &str) -> Kind {
    Kind::TextDelta(TextDelta { choice, text: text.to_owned(), logprobs_json: String::new() })
}

fn end(choice: u32, reason: FinishReason) -> Kind {
    Kind::ChoiceEnd(ChoiceEnd { choice, finish_reason: reason.into() })
}

fn run(show: Show, kinds: Vec<Kind>) -> Result<String, Error> {
    let mut encoder = StreamEncoder::new(show);
    let mut out = Vec::new();
    for kind in kinds {
        encoder.push(ChatStreamResponse { kind: Some(kind) }, &mut out)?;
    }
    Ok(String::from_utf8(out).unwrap())
}

/// What each event says, without what all share.
fn events(stream: &str) -> Vec<String> {
    let events = stream.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap());
    events
        .map(|data| match serde_json::from_str::<Value>(data) {
            Ok(mut event) => {
                if let Some(object) = event.as_object_mut() {
                    for shared in ["id", "object", "created", "model"] {
                        object.remove(shared);
                    }
                }
                event.to_string()
            }
            Err(_) => data.to_owned(),
        })
        .collect()
}

#[test]
fn a_text_is_role_pieces_reason_and_end_mark() {
    let stream =
        run(SHOW, vec![started(), text(0, "Hel"), text(0, "lo"), end(0, FinishReason::Stop), Kind::Finished(served())])
            .unwrap();

    assert!(stream.starts_with(
        "data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"groq/llama\",\"choices\":[{\"index\":0,"
    ));
    insta::assert_snapshot!(events(&stream).join("\n"), @r#"
    {"choices":[{"delta":{"content":"","role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}]}
    {"choices":[{"delta":{"content":"Hel"},"finish_reason":null,"index":0,"logprobs":null}]}
    {"choices":[{"delta":{"content":"lo"},"finish_reason":null,"index":0,"logprobs":null}]}
    {"choices":[{"delta":{},"finish_reason":"stop","index":0,"logprobs":null}]}
    [DONE]
    "#);
}

#[test]
fn usage_and_cost_come_last_if_asked_for() {
    let show = Show { usage: true, declared: vec!["schema"], ..SHOW };
    let usage = Usage { input_tokens: 9, cached_tokens: 0, output_tokens: 12, reasoning_tokens: 3 };

    let stream =
        run(show, vec![started(), end(0, FinishReason::Length), Kind::Usage(usage), Kind::Finished(served())]).unwrap();

    insta::assert_snapshot!(events(&stream).join("\n"), @r#"
    {"choices":[{"delta":{"content":"","role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}],"usage":null}
    {"choices":[{"delta":{},"finish_reason":"length","index":0,"logprobs":null}],"usage":null}
    {"choices":[],"manifold":{"attempts":2,"cost":"0.000412","degraded":"schema","overhead_ms":0.042},"usage":{"completion_tokens":12,"completion_tokens_details":{"reasoning_tokens":3},"prompt_tokens":9,"prompt_tokens_details":{"cached_tokens":0},"total_tokens":21}}
    [DONE]
    "#);
}

#[test]
fn parallel_calls_stream_their_arguments_raw() {
    let start = |index: u32| {
        let (id, name) = (format!("call_{index}"), "f".to_owned());
        Kind::ToolStart(ToolStart { choice: 0, index, id, name, ..ToolStart::default() })
    };
    let delta =
        |index: u32, piece: &str| Kind::ToolDelta(ToolDelta { choice: 0, index, arguments_json: piece.to_owned() });
    let kinds = vec![
        started(),
        start(0),
        delta(0, "{\"a\":"),
        start(1),
        delta(1, "{}"),
        delta(0, "1}"),
        end(0, FinishReason::Stop),
        Kind::Finished(served()),
    ];

    let stream = run(SHOW, kinds).unwrap();

    insta::assert_snapshot!(events(&stream).join("\n"), @r#"
    {"choices":[{"delta":{"content":"","role":"assistant"},"finish_reason":null,"index":0,"logprobs":null}]}
    {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"","name":"f"},"id":"call_0","index":0,"type":"function"}]},"finish_reason":null,"index":0,"logprobs":null}]}
    {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{\"a\":"},"index":0}]},"finish_reason":null,"index":0,"logprobs":null}]}
    {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"","name":"f"},"id":"call_1","index":1,"type":"function"}]},"finish_reason":null,"index":0,"logprobs":null}]}
    {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"{}"},"index":1}]},"finish_reason":null,"index":0,"logprobs":null}]}
    {"choices":[{"delta":{"tool_calls":[{"function":{"arguments":"1}"},"index":0}]},"finish_reason":null,"index":0,"logprobs":null}]}
    {"choices":[{"delta":{},"finish_reason":"tool_calls","index":0,"logprobs":null}]}
    [DONE]
    "#);
}

#[test]
fn several_choices_each_begin_and_end() {
    let kinds = vec![
        started(),
        text(1, "b"),
        text(0, "a"),
        end(1, FinishReason::Stop),
        end(0, FinishReason::ContentFilter),
        Kind::Finished(served()),
    ];

    let stream = run(SHOW, kinds).unwrap();

    let indexes: Vec<_> = events(&stream)
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .map(|event| event["choices"][0]["index"].to_string())
        .collect();
    assert_eq!(indexes.join(""), "011010");
}

#[test]
fn thinking_is_shown_only_to_those_who_ask() {
    let thinking = || {
        let delta = TextDelta { choice: 0, text: "hm".to_owned(), logprobs_json: String::new() };
        vec![started(), Kind::ThinkingDelta(delta), end(0, FinishReason::Stop), Kind::Finished(served())]
    };

    let (shown, hidden) =
        (run(Show { thinking: Thinking::Shown, ..SHOW }, thinking()).unwrap(), run(SHOW, thinking()).unwrap());

    assert!(shown.contains("\"reasoning_content\":\"hm\""));
    assert!(!hidden.contains("hm"));
}

#[test]
fn text_cannot_break_the_framing() {
    let evil = "\r\n\ndata: [DONE]\n\nevent: x\u{2028}";

    let stream = run(SHOW, vec![started(), text(0, evil)]).unwrap();

    assert_eq!(stream.split("\n\n").count(), 3);
    let event: Value = serde_json::from_str(&events(&stream)[1]).unwrap();
    assert_eq!(event["choices"][0]["delta"]["content"], evil);
}

#[test]
fn a_broken_answer_ends_with_an_error_and_no_end_mark() {
    let failed =
        Failed { code: 14, reason: "STREAM_INTERRUPTED".to_owned(), message: "the provider broke off".to_owned() };

    let stream = run(SHOW, vec![started(), text(0, "Hel"), Kind::Failed(failed)]).unwrap();

    let events = events(&stream);
    assert_eq!(
        events.last().unwrap(),
        r#"{"error":{"code":"stream_interrupted","message":"the provider broke off","param":null,"type":"server_error"}}"#
    );
    assert!(!stream.contains("[DONE]"));
}

#[test]
fn an_impossible_order_is_our_fault_and_no_panic() {
    let delta = || Kind::ToolDelta(ToolDelta { choice: 0, index: 0, arguments_json: String::new() });
    for (name, kinds) in [
        ("content before the start", vec![text(0, "x")]),
        ("two starts", vec![started(), started()]),
        ("a start by nobody", vec![Kind::Started(Started::default())]),
        ("text behind the end", vec![started(), end(0, FinishReason::Stop), text(0, "x")]),
        ("two ends", vec![started(), end(0, FinishReason::Stop), end(0, FinishReason::Stop)]),
        ("finished in the middle", vec![started(), text(0, "x"), Kind::Finished(served())]),
        ("arguments before their call", vec![started(), delta()]),
        ("a choice out of bounds", vec![started(), text(4_000_000_000, "x")]),
        ("usage before the start", vec![Kind::Usage(Usage::default())]),
        (
            "something behind the last",
            vec![started(), end(0, FinishReason::Stop), Kind::Finished(served()), text(0, "x")],
        ),
    ] {
        let error = run(SHOW, kinds).expect_err(name);

        assert_eq!(error.reason(), "INTERNAL", "{name}");
    }
}
