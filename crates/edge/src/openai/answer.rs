//! A whole answer of the contract as OpenAI's `chat.completion`, whose documentation is in `schema`.

use std::borrow::Cow;

use manifold_contract::ai::v1::part::Kind;
use manifold_contract::ai::v1::{ChatResponse, Choice, FinishReason, ToolCall};
use manifold_core::Error;
use serde_json::value::RawValue;

use super::{print, served};

/// Whether the client sees how the model came to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Thinking {
    /// Only the answer.
    Hidden,
    /// Both.
    Shown,
}

/// Prints an answer.
pub(crate) fn encode(response: &ChatResponse, thinking: Thinking) -> Result<Vec<u8>, Error> {
    let served = response.served.as_ref().ok_or_else(|| Error::internal("an answer does not say who gave it"))?;
    let mut out = Vec::with_capacity(1_024);
    out.extend_from_slice(b"{\"id\":");
    print::text(&mut out, &response.id);
    out.extend_from_slice(b",\"object\":\"chat.completion\",\"created\":");
    print::number(&mut out, response.created);
    out.extend_from_slice(b",\"model\":");
    print::text(&mut out, &served::model(served));
    out.extend_from_slice(b",\"choices\":[");
    for (position, choice) in response.choices.iter().enumerate() {
        print::comma(&mut out, position);
        self::choice(&mut out, choice, thinking);
    }
    out.push(b']');
    if let Some(usage) = &response.usage {
        out.extend_from_slice(b",\"usage\":");
        print::usage(&mut out, usage);
    }
    out.push(b'}');
    Ok(out)
}

fn choice(out: &mut Vec<u8>, choice: &Choice, thinking: Thinking) {
    let kinds = || choice.parts.iter().filter_map(|part| part.kind.as_ref());
    let calls: Vec<_> =
        kinds().filter_map(|kind| if let Kind::ToolCall(call) = kind { Some(call) } else { None }).collect();
    let refusal = joined(kinds().filter_map(|kind| if let Kind::Refusal(text) = kind { Some(text) } else { None }));
    let content = joined(kinds().filter_map(|kind| if let Kind::Text(text) = kind { Some(text) } else { None }));
    // Only an answer that says something else may leave the text out.
    let content = content.or_else(|| (calls.is_empty() && refusal.is_none()).then_some(Cow::Borrowed("")));
    out.extend_from_slice(b"{\"index\":");
    print::number(out, choice.index);
    out.extend_from_slice(b",\"message\":{\"role\":\"assistant\",\"content\":");
    print::optional(out, content.as_deref());
    out.extend_from_slice(b",\"refusal\":");
    print::optional(out, refusal.as_deref());
    if thinking == Thinking::Shown {
        let thoughts = kinds().filter_map(|kind| if let Kind::Thinking(text) = kind { Some(text) } else { None });
        if let Some(thoughts) = joined(thoughts) {
            out.extend_from_slice(b",\"reasoning_content\":");
            print::text(out, &thoughts);
        }
    }
    if !calls.is_empty() {
        tool_calls(out, &calls);
    }
    out.extend_from_slice(b"},\"logprobs\":");
    out.extend_from_slice(raw(&choice.logprobs_json).map_or("null", RawValue::get).as_bytes());
    out.extend_from_slice(b",\"finish_reason\":");
    print::text(out, finish_reason(choice.finish_reason(), calls.len()));
    out.push(b'}');
}

fn tool_calls(out: &mut Vec<u8>, calls: &[&ToolCall]) {
    out.extend_from_slice(b",\"tool_calls\":[");
    for (position, call) in calls.iter().enumerate() {
        print::comma(out, position);
        out.extend_from_slice(b"{\"id\":");
        print::text(out, &call.id);
        out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
        print::text(out, &call.name);
        out.extend_from_slice(b",\"arguments\":");
        print::text(out, &call.arguments_json);
        out.extend_from_slice(b"}}");
    }
    out.push(b']');
}

/// All texts as one; None if there is none.
fn joined<'t>(mut texts: impl Iterator<Item = &'t String>) -> Option<Cow<'t, str>> {
    let mut whole = Cow::Borrowed(texts.next()?.as_str());
    for text in texts {
        whole += text.as_str();
    }
    Some(whole)
}

/// An answer with tool calls ends with them, whatever the provider called it.
pub(crate) fn finish_reason(reason: FinishReason, n_calls: usize) -> &'static str {
    match reason {
        FinishReason::Stop | FinishReason::Unspecified if n_calls > 0 => "tool_calls",
        FinishReason::Stop | FinishReason::Unspecified => "stop",
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::ContentFilter => "content_filter",
    }
}

/// Raw JSON of a provider; nothing if it is not JSON.
pub(crate) fn raw(json: &str) -> Option<&RawValue> {
    if json.is_empty() { None } else { serde_json::from_str(json).ok() }
}

#[cfg(test)]
mod tests {
    use manifold_contract::ai::v1::{Part, Served, Usage};

    use super::*;

    fn answer(parts: Vec<Kind>, reason: FinishReason) -> ChatResponse {
        let parts = parts.into_iter().map(|kind| Part { kind: Some(kind), ..Part::default() }).collect();
        let choice = Choice { index: 0, parts, finish_reason: reason.into(), logprobs_json: String::new() };
        ChatResponse {
            id: "chatcmpl-1".to_owned(),
            created: 1_700_000_000,
            choices: vec![choice],
            usage: Some(Usage { input_tokens: 9, cached_tokens: 4, output_tokens: 12, reasoning_tokens: 2 }),
            served: Some(Served { provider: "groq".to_owned(), model: "llama".to_owned(), ..Served::default() }),
        }
    }

    fn printed(response: &ChatResponse, thinking: Thinking) -> serde_json::Value {
        serde_json::from_slice(&encode(response, thinking).unwrap()).unwrap()
    }

    #[test]
    fn an_answer_has_openais_shape() {
        let response = answer(vec![Kind::Text("Hel".to_owned()), Kind::Text("lo".to_owned())], FinishReason::Stop);

        insta::assert_json_snapshot!(printed(&response, Thinking::Hidden), @r#"
        {
          "choices": [
            {
              "finish_reason": "stop",
              "index": 0,
              "logprobs": null,
              "message": {
                "content": "Hello",
                "refusal": null,
                "role": "assistant"
              }
            }
          ],
          "created": 1700000000,
          "id": "chatcmpl-1",
          "model": "groq/llama",
          "object": "chat.completion",
          "usage": {
            "completion_tokens": 12,
            "completion_tokens_details": {
              "reasoning_tokens": 2
            },
            "prompt_tokens": 9,
            "prompt_tokens_details": {
              "cached_tokens": 4
            },
            "total_tokens": 21
          }
        }
        "#);
    }

    #[test]
    fn several_calls_are_a_list_and_fields_keep_openais_order() {
        let calls =
            ["a", "b"].map(|id| ToolCall { id: id.to_owned(), name: "f".to_owned(), arguments_json: "{}".to_owned() });
        let response = answer(calls.map(Kind::ToolCall).into(), FinishReason::ToolCalls);

        insta::assert_snapshot!(
            String::from_utf8(encode(&response, Thinking::Hidden).unwrap()).unwrap(),
            @r#"{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"groq/llama","choices":[{"index":0,"message":{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"a","type":"function","function":{"name":"f","arguments":"{}"}},{"id":"b","type":"function","function":{"name":"f","arguments":"{}"}}]},"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#
        );
    }

    #[test]
    fn tool_calls_leave_the_content_null_and_keep_their_arguments_as_written() {
        let arguments_json = "{\"b\":1, \"a\":12345678901234567890}".to_owned();
        let call = ToolCall { id: "call_1".to_owned(), name: "f".to_owned(), arguments_json: arguments_json.clone() };

        let printed = printed(&answer(vec![Kind::ToolCall(call)], FinishReason::Stop), Thinking::Hidden);

        let choice = &printed["choices"][0];
        assert_eq!(choice["message"]["content"], serde_json::Value::Null);
        assert_eq!(choice["message"]["tool_calls"][0]["function"]["arguments"], arguments_json);
        assert_eq!(choice["finish_reason"], "tool_calls");
    }

    #[test]
    fn thinking_is_shown_only_to_those_who_ask() {
        let response = answer(vec![Kind::Thinking("hm".to_owned()), Kind::Text("yes".to_owned())], FinishReason::Stop);

        assert_eq!(printed(&response, Thinking::Shown)["choices"][0]["message"]["reasoning_content"], "hm");
        assert_eq!(printed(&response, Thinking::Hidden)["choices"][0]["message"].get("reasoning_content"), None);
    }
}
