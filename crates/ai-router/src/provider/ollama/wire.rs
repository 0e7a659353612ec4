//! What Ollama's answers look like: a whole answer and a line of a stream are the same object.

use manifold_contract::ai::v1::{self as ai, FinishReason};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::provider::tool_id;
use crate::provider::wire::{Count, Text, or_empty, usage};

#[derive(Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow, default)]
    pub model: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub created_at: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub message: Option<Message<'a>>,
    #[serde(default)]
    pub done: bool,
    #[serde(borrow, default)]
    pub done_reason: Option<Text<'a>>,
    #[serde(default)]
    prompt_eval_count: Count,
    #[serde(default)]
    eval_count: Count,
    #[serde(borrow, default)]
    pub logprobs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub content: Option<Text<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Text<'a>>,
    #[serde(borrow, default)]
    reasoning_content: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub tool_calls: Option<Vec<Call<'a>>>,
}

impl Message<'_> {
    /// Thinking; servers that imitate Ollama use OpenAI's name for it.
    pub fn thinking(&self) -> &str {
        match or_empty(self.thinking.as_ref()) {
            "" => or_empty(self.reasoning_content.as_ref()),
            text => text,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub function: Option<Function<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<Text<'a>>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

impl Call<'_> {
    pub fn name(&self) -> &str {
        self.function.as_ref().map_or("", |function| or_empty(function.name.as_ref()))
    }

    /// The arguments as the model wrote them.
    pub fn arguments(&self) -> String {
        let written = self.function.as_ref().and_then(|function| function.arguments);
        match crate::provider::wire::arguments(written).as_ref() {
            "" => "{}".to_owned(),
            text => text.to_owned(),
        }
    }

    /// Ollama's own id, or one made of the time of the answer and the place of the call.
    pub fn id(&self, created_at: &str, position: u32) -> String {
        match or_empty(self.id.as_ref()) {
            "" => tool_id::made(&[created_at, &position.to_string(), self.name(), &self.arguments()]),
            told => told.to_owned(),
        }
    }
}

impl Body<'_> {
    /// Seconds since 1970; 0 = not told.
    pub fn created(&self) -> i64 {
        let told = or_empty(self.created_at.as_ref()).parse::<jiff::Timestamp>();
        told.map_or(0, jiff::Timestamp::as_second)
    }

    /// Counts. The prompt's count is missing where the prompt was cached.
    pub fn usage(&self) -> Option<ai::Usage> {
        usage(self.prompt_eval_count, Count(None), self.eval_count, Count(None))
    }

    /// In OpenAI's shape; empty = none.
    pub fn logprobs(&self) -> String {
        match self.logprobs.map(RawValue::get) {
            None | Some("null" | "[]") => String::new(),
            Some(list) => format!(r#"{{"content":{list}}}"#),
        }
    }

    /// Why the answer ended.
    pub fn finish_reason(&self, n_calls: u32) -> FinishReason {
        match or_empty(self.done_reason.as_ref()) {
            _ if n_calls > 0 => FinishReason::ToolCalls,
            "length" => FinishReason::Length,
            _ => FinishReason::Stop,
        }
    }
}
