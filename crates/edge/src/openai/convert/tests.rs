//! Requests as clients send them, and what becomes of each.

use http::HeaderMap;
use manifold_contract::ai::v1::format::Kind as FormatKind;
use manifold_contract::ai::v1::part::Kind;
use manifold_contract::ai::v1::tool_choice::Mode;
use manifold_contract::ai::v1::{ChatRequest, Message, Role};
use serde_json::{Value, json};

use super::{Decoded, Thinking, decode};

fn decoded(body: &Value) -> Decoded {
    decode(body.to_string().as_bytes(), &HeaderMap::new()).unwrap()
}

/// A body that is complete but for `fields`.
fn with(fields: &Value) -> Value {
    let mut body = json!({"model": "auto", "messages": [{"role": "user", "content": "hi"}]});
    let object = body.as_object_mut().unwrap();
    object.extend(fields.as_object().unwrap().clone());
    body
}

fn converted(fields: &Value) -> ChatRequest {
    decoded(&with(fields)).request
}

fn text(message: &Message) -> &str {
    match &message.parts[0].kind {
        Some(Kind::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_question_becomes_one_user_turn() {
    let decoded = decoded(&with(&json!({})));

    assert_eq!((decoded.request.model.as_str(), decoded.request.dialect.as_str()), ("auto", "openai"));
    assert_eq!((decoded.request.messages[0].role(), text(&decoded.request.messages[0])), (Role::User, "hi"));
    assert!(!decoded.stream && !decoded.include_usage);
    assert_eq!(decoded.thinking, Thinking::Hidden);
}

#[test]
fn every_parameter_has_its_place() {
    let request = converted(&json!({
        "max_tokens": 5, "max_completion_tokens": 7, "temperature": 2, "top_p": 0.5, "top_k": 3, "seed": -1, "stop": "END",
        "presence_penalty": -2, "frequency_penalty": 2, "n": 2, "logprobs": true, "top_logprobs": 5, "logit_bias": {"50256": -100},
        "user": "u", "reasoning_effort": "xhigh", "models": ["groq/a"], "manifold": {"labels": "a,b"}
    }));

    let sampling = request.sampling.unwrap();
    let routing = request.routing.unwrap();
    assert_eq!((sampling.max_output_tokens, sampling.temperature, sampling.seed), (Some(7), Some(2.0), Some(-1)));
    assert_eq!((sampling.stop, sampling.n, sampling.top_logprobs), (vec!["END".to_owned()], Some(2), Some(5)));
    assert_eq!(sampling.logit_bias_json, r#"{"50256":-100}"#);
    assert_eq!((request.user.as_str(), request.reasoning_effort.as_str()), ("u", "max"));
    assert_eq!(
        (routing.fallback_models, routing.labels),
        (vec!["groq/a".to_owned()], vec!["a".to_owned(), "b".to_owned()])
    );
}

#[test]
fn unknown_fields_are_kept_as_they_came() {
    let body = br#"{"model":"auto","messages":[{"role":"user","content":"hi"}],"verbosity":"low","metadata":{"b":1, "a":1.50}}"#;

    let extras = decode(body, &HeaderMap::new()).unwrap().request.extras;

    assert_eq!(extras["verbosity"], "\"low\"");
    assert_eq!(extras["metadata"], "{\"b\":1, \"a\":1.50}");
    assert_eq!(extras.len(), 2);
}

#[test]
fn null_means_absent() {
    let nothing =
        json!({"temperature": null, "stop": null, "tools": null, "stream_options": null, "response_format": null});

    let request = converted(&nothing);

    assert_eq!(request.sampling.unwrap().temperature, None);
    assert!(request.tools.is_empty() && request.format.is_none() && request.extras.is_empty());
}

#[test]
fn tools_and_their_choice_are_carried_raw() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name, "parameters": {"type": "object"}, "strict": true}});
    let named =
        json!({"tools": [tool("a"), tool("b")], "tool_choice": {"type": "function", "function": {"name": "b"}}});
    let allowed = json!({
        "tools": [tool("a"), tool("b")], "parallel_tool_calls": false,
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "a"}}]}}
    });

    let (named, allowed) = (converted(&named), converted(&allowed));

    assert_eq!(named.tools[0].parameters_json, r#"{"type":"object"}"#);
    assert_eq!(
        (named.tool_choice.clone().unwrap().mode(), named.tool_choice.unwrap().name),
        (Mode::Named, "b".to_owned())
    );
    assert_eq!(allowed.tools.len(), 1);
    assert_eq!(
        (allowed.tool_choice.clone().unwrap().mode(), allowed.tool_choice.unwrap().parallel),
        (Mode::Required, Some(false))
    );
}

#[test]
fn the_form_of_the_answer_is_carried() {
    let schema = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"type": "object"}}}});

    let format = converted(&schema).format.unwrap();

    assert_eq!(
        (format.kind(), format.strict, format.schema_json.as_str()),
        (FormatKind::JsonSchema, Some(true), r#"{"type":"object"}"#)
    );
}

#[test]
fn calls_and_results_keep_their_ids_order_and_raw_arguments() {
    let call =
        |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1e400}"}});
    let body = json!({"model": "auto", "messages": [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [call("c1"), call("c2")]},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
        {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "one"}]}
    ]});

    let decoded = decoded(&body);

    let assistant = &decoded.request.messages[1];
    let Some(Kind::ToolCall(call)) = &assistant.parts[1].kind else { panic!("{assistant:?}") };
    let Some(Kind::ToolResult(result)) = &decoded.request.messages[2].parts[0].kind else { panic!() };
    assert_eq!((call.id.as_str(), call.arguments_json.as_str()), ("c1", "{\"a\": 1e400}"));
    assert_eq!((result.id.as_str(), result.name.as_str(), result.text.as_str()), ("c2", "f", "two"));
    assert!(decoded.declared.is_empty());
}

#[test]
fn holes_in_a_conversation_are_mended_and_said() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let body = json!({"model": "auto", "messages": [
        {"role": "tool", "tool_call_id": "gone", "content": "late"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "user", "content": "well?"}
    ]});

    let decoded = decoded(&body);

    let roles: Vec<_> = decoded.request.messages.iter().map(Message::role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::Tool, Role::User]);
    assert_eq!(decoded.declared, ["tool_result_orphan", "tool_result_missing"]);
}

#[test]
fn who_wants_no_mending_is_refused_instead() {
    let body = json!({"model": "auto", "manifold": {"strict": true}, "messages": [{"role": "tool", "tool_call_id": "gone", "content": "x"}]});

    let refusal = decode(body.to_string().as_bytes(), &HeaderMap::new()).unwrap_err();

    assert_eq!((refusal.error.reason(), refusal.error.param()), ("UNSUPPORTED", Some("messages")));
}

#[test]
fn every_fault_is_400_and_names_its_place() {
    let message = |message: Value| json!({"messages": [message]});
    let tool = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
    for (fields, param) in [
        (json!({"stream": "yes"}), "stream"),
        (json!({"messages": {}}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": [{"role": "user", "content": ""}]}), "messages"),
        (message(json!({"role": "wizard", "content": "x"})), "messages[0].role"),
        (message(json!({"role": "user", "content": 5})), "messages[0].content"),
        (message(json!({"role": "user", "content": [{"type": "hologram"}]})), "messages[0].content[0].type"),
        (message(json!({"role": "user", "content": [{"type": 1}]})), "messages[0].content[0].type"),
        (message(json!({"role": "user", "content": [{"type": "text"}]})), "messages[0].content[0].text"),
        (
            message(json!({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]})),
            "messages[0].content[0].image_url.url",
        ),
        (
            message(json!({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]})),
            "messages[0].content[0].file.file_id",
        ),
        (
            message(json!({"role": "system", "content": [{"type": "image_url", "image_url": "https://a.b/c"}]})),
            "messages[0].content[0].type",
        ),
        (message(json!({"role": "tool", "content": "x"})), "messages[0].tool_call_id"),
        (message(json!({"role": "user", "content": "x", "tool_calls": []})), "messages[0].tool_calls"),
        (
            message(json!({"role": "assistant", "tool_calls": [{"id": "", "function": {"name": "f"}}]})),
            "messages[0].tool_calls[0].id",
        ),
        (
            message(json!({"role": "assistant", "tool_calls": [{"id": "a", "type": "custom"}]})),
            "messages[0].tool_calls[0].type",
        ),
        (json!({"max_tokens": -1}), "max_tokens"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"n": 0}), "n"),
        (json!({"n": 17}), "n"),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"temperature": 2.1}), "temperature"),
        (json!({"metadata": {"a": [1]}, "temperature": "hot"}), "temperature"),
        (json!({"top_p": -0.1}), "top_p"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop"),
        (json!({"stop": [1]}), "stop[0]"),
        (json!({"logit_bias": []}), "logit_bias"),
        (json!({"reasoning_effort": "heroic"}), "reasoning_effort"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (tool(json!({"name": "with space"})), "tools[0].function.name"),
        (tool(json!({"name": "f", "parameters": []})), "tools[0].function.parameters"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"tool_choice": "sometimes"}), "tool_choice"),
        (json!({"tool_choice": {"type": "function", "function": {"name": "f"}}}), "tool_choice.function.name"),
        (json!({"response_format": {"type": "xml"}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}),
            "response_format.json_schema.schema",
        ),
        (json!({"model": ""}), "model"),
        (json!({"model": 5}), "model"),
        (json!({"model": "m".repeat(257)}), "model"),
        (json!({"models": ["a", ""]}), "models[1]"),
        (json!({"manifold": {"max_cost": 1}}), "manifold.max_cost"),
        (json!({"manifold": {"strict": "yes"}}), "manifold.strict"),
    ] {
        let refusal = decode(with(&fields).to_string().as_bytes(), &HeaderMap::new()).expect_err(&fields.to_string());

        assert_eq!((refusal.status.as_u16(), refusal.error.param()), (400, Some(param)), "{fields} {}", refusal.error);
    }
}

#[test]
fn two_results_for_one_call_are_refused() {
    let result = json!({"role": "tool", "tool_call_id": "c1", "content": "x"});
    let call = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let body =
        json!({"model": "auto", "messages": [{"role": "assistant", "tool_calls": [call]}, result.clone(), result]});

    let refusal = decode(body.to_string().as_bytes(), &HeaderMap::new()).unwrap_err();

    assert_eq!(refusal.error.param(), Some("messages[2].tool_call_id"));
}

#[test]
fn what_is_not_json_is_refused_without_a_path() {
    for body in [
        "",
        "{",
        "[]",
        "null",
        "{\"temperature\":NaN}",
        "{\"model\":\"a\"} x",
        "\u{feff}{}",
        "{\"model\":\"a\",\"model\":\"b\"}",
    ] {
        let refusal = decode(body.as_bytes(), &HeaderMap::new()).expect_err(body);

        assert_eq!((refusal.status.as_u16(), refusal.error.param()), (400, None), "{body}");
    }
}

#[test]
fn what_is_missing_is_named() {
    for (body, param) in [(json!({"messages": []}), "model"), (json!({"model": "auto"}), "messages")] {
        let refusal = decode(body.to_string().as_bytes(), &HeaderMap::new()).unwrap_err();

        assert_eq!(refusal.error.param(), Some(param));
    }
}
