//! A whole answer of the contract as OpenAI's `chat.completion`.

use manifold_contract::ai::v1::part::Kind;
use manifold_contract::ai::v1::{ChatResponse, Choice, FinishReason, Usage};
use manifold_core::Error;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::served;

/// The answer of `POST /v1/chat/completions`.
#[derive(Serialize, ToSchema)]
pub(crate) struct ChatCompletion<'a> {
    /// Of the provider, or ours if it gave none.
    #[schema(example = "chatcmpl-9")]
    id: &'a str,
    /// `chat.completion`.
    object: &'static str,
    /// Seconds since 1970.
    created: i64,
    /// Who answered: `provider/model`.
    #[schema(example = "groq/llama-3.3-70b-versatile")]
    model: String,
    /// As many as asked for.
    choices: Vec<AnswerChoice<'a>>,
    /// Tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<TokenUsage>,
}

/// One of the answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnswerChoice<'a> {
    index: u32,
    message: AnswerMessage<'a>,
    /// As the provider wrote them.
    #[schema(value_type = Option<Object>)]
    logprobs: Option<&'a RawValue>,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    #[schema(example = "stop")]
    finish_reason: &'static str,
}

/// What the model said.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnswerMessage<'a> {
    /// `assistant`.
    role: &'static str,
    /// The text; null when there are only tool calls.
    content: Option<String>,
    /// Why the model declined.
    refusal: Option<String>,
    /// Its thinking, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    /// Tools that it wants called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<AnswerCall<'a>>,
}

/// A tool that the model wants called.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnswerCall<'a> {
    id: &'a str,
    /// `function`.
    #[serde(rename = "type")]
    type_: &'static str,
    function: AnswerFunction<'a>,
}

/// Which function with which arguments.
#[derive(Serialize, ToSchema)]
pub(crate) struct AnswerFunction<'a> {
    name: &'a str,
    /// JSON as the model wrote it.
    arguments: &'a str,
}

/// Tokens. Cached ones are part of the prompt, those of thinking part of the completion.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct TokenUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

/// Parts of the prompt.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct PromptDetails {
    cached_tokens: u64,
}

/// Parts of the completion.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct CompletionDetails {
    reasoning_tokens: u64,
}

impl From<&Usage> for TokenUsage {
    fn from(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens + usage.output_tokens,
            prompt_tokens_details: PromptDetails { cached_tokens: usage.cached_tokens },
            completion_tokens_details: CompletionDetails { reasoning_tokens: usage.reasoning_tokens },
        }
    }
}

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
    let completion = ChatCompletion {
        id: &response.id,
        object: "chat.completion",
        created: response.created,
        model: served::model(served),
        choices: response.choices.iter().map(|choice| self::choice(choice, thinking)).collect(),
        usage: response.usage.as_ref().map(TokenUsage::from),
    };
    let mut body = Vec::with_capacity(1_024);
    serde_json::to_writer(&mut body, &completion).map_err(|error| Error::internal("print an answer").because(error))?;
    Ok(body)
}

fn choice(choice: &Choice, thinking: Thinking) -> AnswerChoice<'_> {
    let message = message(choice, thinking);
    let finish_reason = finish_reason(choice.finish_reason(), message.tool_calls.len());
    let logprobs = raw(&choice.logprobs_json);
    AnswerChoice { index: choice.index, message, logprobs, finish_reason }
}

fn message(choice: &Choice, thinking: Thinking) -> AnswerMessage<'_> {
    let mut message = AnswerMessage {
        role: "assistant",
        content: None,
        refusal: None,
        reasoning_content: None,
        tool_calls: Vec::new(),
    };
    for part in &choice.parts {
        match &part.kind {
            Some(Kind::Text(text)) => message.content.get_or_insert_default().push_str(text),
            Some(Kind::Refusal(text)) => message.refusal.get_or_insert_default().push_str(text),
            Some(Kind::Thinking(text)) if thinking == Thinking::Shown => {
                message.reasoning_content.get_or_insert_default().push_str(text);
            }
            Some(Kind::ToolCall(call)) => message.tool_calls.push(AnswerCall {
                id: &call.id,
                type_: "function",
                function: AnswerFunction { name: &call.name, arguments: &call.arguments_json },
            }),
            _ => {}
        }
    }
    // Only an answer that says something else may leave the text out.
    if message.content.is_none() && message.tool_calls.is_empty() && message.refusal.is_none() {
        message.content = Some(String::new());
    }
    message
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
    use manifold_contract::ai::v1::{Part, Served, ToolCall};

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
