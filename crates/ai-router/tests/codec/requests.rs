//! Requests to encode, and what becomes of them.

use bytes::Bytes;
use manifold_ai_router::classify::Failure;
use manifold_ai_router::provider::{Encoded, Mode, Target};
use manifold_contract::ai::v1::{self as ai, Role, format, part, tool_choice};
use manifold_core::Secret;

use crate::fixtures::codec;

pub(crate) const PROVIDERS: &[&str] = &["openai", "groq", "mistral", "openrouter", "generic", "gemini", "ollama"];

pub(crate) fn target<'a>(model: &'a str, credential: Option<&'a Secret<String>>) -> Target<'a> {
    Target { base_url: "http://upstream/base", model, credential, context_length: 0 }
}

pub(crate) fn encode(id: &str, request: &ai::ChatRequest, mode: Mode) -> Result<Encoded, Failure> {
    codec(id).encode(&target("a-model", None), request, mode)
}

pub(crate) fn body(encoded: &Encoded) -> String {
    std::str::from_utf8(encoded.request.body()).unwrap().to_owned()
}

pub(crate) fn sent(id: &str, request: &ai::ChatRequest) -> String {
    body(&encode(id, request, Mode::Whole).unwrap())
}

/// Readable, and with the wishes that were left out.
pub(crate) fn shown(encoded: &Encoded) -> String {
    let value: serde_json::Value = serde_json::from_slice(encoded.request.body()).unwrap();
    format!("{:#}\nleft out: {}", value, encoded.degraded.join(", "))
}

pub(crate) fn message(role: Role, parts: Vec<part::Kind>) -> ai::Message {
    let part = |kind| ai::Part { kind: Some(kind), ..ai::Part::default() };
    ai::Message { role: role.into(), parts: parts.into_iter().map(part).collect(), name: String::new() }
}

pub(crate) fn text(role: Role, text: &str) -> ai::Message {
    message(role, vec![part::Kind::Text(text.to_owned())])
}

pub(crate) fn call(id: &str, name: &str, arguments: &str) -> part::Kind {
    part::Kind::ToolCall(ai::ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments_json: arguments.to_owned(),
    })
}

pub(crate) fn result(id: &str, text: &str) -> ai::Message {
    message(
        Role::Tool,
        vec![part::Kind::ToolResult(ai::ToolResult { id: id.to_owned(), name: String::new(), text: text.to_owned() })],
    )
}

pub(crate) fn chat(messages: Vec<ai::Message>) -> ai::ChatRequest {
    ai::ChatRequest { messages, dialect: "openai".to_owned(), ..ai::ChatRequest::default() }
}

/// A conversation in which everything happens.
pub(crate) fn everything() -> ai::ChatRequest {
    let image = ai::Media {
        mime: "image/png".to_owned(),
        data: Bytes::from_static(b"\x89PNG"),
        detail: "low".to_owned(),
        ..ai::Media::default()
    };
    let schema =
        r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"],"additionalProperties":false}"#;
    let mut user = message(Role::User, vec![part::Kind::Text("Look:".to_owned()), part::Kind::Image(image)]);
    user.name = "ana".to_owned();
    ai::ChatRequest {
        tools: vec![
            ai::Tool {
                name: "get_weather".to_owned(),
                description: "Weather".to_owned(),
                parameters_json: schema.to_owned(),
                strict: Some(true),
            },
            ai::Tool { name: "get_time".to_owned(), ..ai::Tool::default() },
        ],
        tool_choice: Some(ai::ToolChoice {
            mode: tool_choice::Mode::Auto.into(),
            parallel: Some(false),
            ..ai::ToolChoice::default()
        }),
        sampling: Some(ai::Sampling {
            max_output_tokens: Some(100),
            temperature: Some(0.7),
            top_p: Some(0.9),
            top_k: Some(40),
            seed: Some(7),
            stop: vec!["END".to_owned()],
            presence_penalty: Some(0.5),
            frequency_penalty: Some(-0.5),
            logit_bias_json: r#"{"50256":-100}"#.to_owned(),
            ..ai::Sampling::default()
        }),
        format: Some(ai::Format {
            kind: format::Kind::JsonSchema.into(),
            name: "weather".to_owned(),
            schema_json: schema.to_owned(),
            strict: Some(true),
            ..ai::Format::default()
        }),
        reasoning_effort: "minimal".to_owned(),
        user: "user-1".to_owned(),
        extras: [
            ("service_tier".to_owned(), "\"flex\"".to_owned()),
            ("stream".to_owned(), "true".to_owned()),
            ("zzz".to_owned(), "[1]".to_owned()),
        ]
        .into(),
        ..chat(vec![
            text(Role::System, "Be brief."),
            user,
            message(
                Role::Assistant,
                vec![
                    part::Kind::Thinking("Hm.".to_owned()),
                    part::Kind::Text("I look.".to_owned()),
                    call("call_abc", "get_weather", r#"{"city":"Paris","n":12345678901234567890}"#),
                    call("D681PevKs", "get_time", ""),
                ],
            ),
            result("D681PevKs", "12:00"),
            result("call_abc", r#"{"t":1.50}"#),
            text(Role::System, "Now in French."),
            text(Role::User, "And?"),
        ])
    }
}
