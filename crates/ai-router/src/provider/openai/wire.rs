//! What answers in OpenAI's dialect look like: whole ones and chunks. Unknown fields are skipped without being read.

use manifold_contract::ai::v1::{self as ai, FinishReason};
use manifold_core::Nanos;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Cost;
use crate::classify::{Class, Failure};
use crate::provider::wire::{Content, Count, Text, nanos, or_empty, usage};

#[derive(Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(default)]
    pub created: Count,
    #[serde(borrow, default)]
    pub model: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub choices: Option<Vec<Choice<'a>>>,
    #[serde(borrow, default)]
    pub usage: Option<Usage<'a>>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub x_groq: Option<XGroq<'a>>,
}

/// Groq's own: usage and failures of streams.
#[derive(Deserialize)]
pub(super) struct XGroq<'a> {
    #[serde(borrow, default)]
    pub usage: Option<Usage<'a>>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Choice<'a> {
    #[serde(default)]
    pub index: Count,
    /// Of a whole answer.
    #[serde(borrow, default)]
    pub message: Option<Message<'a>>,
    /// Of a chunk.
    #[serde(borrow, default)]
    pub delta: Option<Message<'a>>,
    #[serde(borrow, default)]
    pub finish_reason: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub logprobs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub content: Option<Content<'a>>,
    #[serde(borrow, default)]
    pub reasoning_content: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub reasoning: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub refusal: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub tool_calls: Option<Vec<Call<'a>>>,
}

impl Message<'_> {
    /// Some vendors send their thinking under both names at once.
    pub fn thinking(&self) -> &str {
        match or_empty(self.reasoning_content.as_ref()) {
            "" => or_empty(self.reasoning.as_ref()),
            text => text,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(default)]
    pub index: Count,
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub function: Option<Function<'a>>,
}

impl Call<'_> {
    /// Mistral's clients write `null` as text where there is no id.
    pub fn id(&self) -> &str {
        Some(or_empty(self.id.as_ref())).filter(|id| *id != "null").unwrap_or_default()
    }

    pub fn name(&self) -> &str {
        self.function.as_ref().map_or("", |function| or_empty(function.name.as_ref()))
    }
}

#[derive(Deserialize)]
pub(super) struct Function<'a> {
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Usage<'a> {
    #[serde(default)]
    prompt_tokens: Count,
    #[serde(default)]
    completion_tokens: Count,
    #[serde(default)]
    total_tokens: Count,
    #[serde(default)]
    prompt_tokens_details: Option<InputDetails>,
    #[serde(default)]
    completion_tokens_details: Option<OutputDetails>,
    #[serde(default)]
    prompt_cache_hit_tokens: Count,
    #[serde(borrow, default)]
    cost: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Count,
}

#[derive(Default, Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Count,
}

impl Usage<'_> {
    /// In our terms. Vendors that count thinking beside the output show it by their total.
    pub fn counted(&self) -> Option<ai::Usage> {
        let reasoning = self.completion_tokens_details.as_ref().map_or(Count(None), |details| details.reasoning_tokens);
        let told = self.prompt_tokens_details.as_ref().map_or(Count(None), |details| details.cached_tokens);
        let cached = if told.0.is_some() { told } else { self.prompt_cache_hit_tokens };
        let parts = [self.prompt_tokens, self.completion_tokens, reasoning].map(Count::tokens);
        let output = match (parts, self.total_tokens.tokens()) {
            ([Some(input), Some(output), Some(thought)], Some(total))
                if thought > 0 && total == input + output + thought =>
            {
                Count(Some(output + thought))
            }
            _ => self.completion_tokens,
        };
        usage(self.prompt_tokens, cached, output, reasoning)
    }

    /// What the vendor says it cost, if its word is taken.
    pub fn cost(&self, cost: Cost) -> Option<Nanos> {
        self.cost.filter(|_| cost == Cost::Told).and_then(|raw| nanos(raw.get()))
    }
}

/// Why a choice ended. Some words mean that it did not.
pub(super) fn finish_reason(word: &str) -> Result<FinishReason, Failure> {
    Ok(match word {
        "length" | "max_tokens" | "model_length" => FinishReason::Length,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        "content_filter" => FinishReason::ContentFilter,
        "error" => {
            return Err(Failure::new(Class::Server, "the provider ended the answer with an error"));
        }
        "insufficient_system_resource" => {
            return Err(Failure::new(Class::Overloaded, "the provider had not enough resources to end the answer"));
        }
        _ => FinishReason::Stop,
    })
}

/// Log probabilities as the vendor wrote them; empty = none.
pub(super) fn logprobs(raw: Option<&RawValue>) -> String {
    raw.map(RawValue::get).filter(|text| *text != "null").unwrap_or_default().to_owned()
}
