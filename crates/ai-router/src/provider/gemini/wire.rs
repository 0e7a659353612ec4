//! What Gemini's answers look like: whole ones and chunks are the same object.

use manifold_contract::ai::v1::{self as ai, FinishReason};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::classify::{Class, Failure};
use crate::provider::wire::{Count, Text, or_empty, usage};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body<'a> {
    #[serde(borrow, default)]
    pub candidates: Option<Vec<Candidate<'a>>>,
    #[serde(borrow, default)]
    pub prompt_feedback: Option<PromptFeedback<'a>>,
    #[serde(default)]
    pub usage_metadata: Option<Usage>,
    #[serde(borrow, default)]
    pub model_version: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub response_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PromptFeedback<'a> {
    #[serde(borrow, default)]
    pub block_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate<'a> {
    #[serde(default)]
    pub index: Count,
    #[serde(borrow, default)]
    pub content: Option<Content<'a>>,
    #[serde(borrow, default)]
    pub finish_reason: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Content<'a> {
    #[serde(borrow, default)]
    pub parts: Option<Vec<Part<'a>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part<'a> {
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(default)]
    pub thought: Option<bool>,
    #[serde(borrow, default)]
    pub thought_signature: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub function_call: Option<Call<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Call<'a> {
    #[serde(borrow, default)]
    pub id: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub name: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub args: Option<&'a RawValue>,
}

impl Call<'_> {
    /// The arguments as the model wrote them.
    pub fn arguments(&self) -> &str {
        self.args.map_or("{}", RawValue::get)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Usage {
    #[serde(default)]
    prompt_token_count: Count,
    #[serde(default)]
    tool_use_prompt_token_count: Count,
    #[serde(default)]
    cached_content_token_count: Count,
    #[serde(default)]
    candidates_token_count: Count,
    #[serde(default)]
    thoughts_token_count: Count,
    #[serde(default)]
    total_token_count: Count,
}

impl Usage {
    /// In our terms. Thoughts are counted beside the candidates, unless the total says otherwise.
    pub fn counted(&self) -> Option<ai::Usage> {
        let of = |count: Count| count.tokens().unwrap_or(0);
        let input = of(self.prompt_token_count) + of(self.tool_use_prompt_token_count);
        let (answer, thoughts) = (of(self.candidates_token_count), of(self.thoughts_token_count));
        let inside = thoughts <= answer && of(self.total_token_count) == input + answer && thoughts > 0;
        let output = if inside { answer } else { answer + thoughts };
        usage(Count(Some(input)), self.cached_content_token_count, Count(Some(output)), self.thoughts_token_count)
    }
}

/// A blocked prompt has no candidates, only a reason.
pub(super) fn check_prompt(body: &Body<'_>) -> Result<(), Failure> {
    let reason = body.prompt_feedback.as_ref().map_or("", |feedback| or_empty(feedback.block_reason.as_ref()));
    if reason.is_empty() || reason == "BLOCKED_REASON_UNSPECIFIED" {
        return Ok(());
    }
    let mut failure = Failure::new(Class::Blocked, "the provider's content policy refuses this prompt");
    failure.code = Some(reason.chars().take(64).collect());
    Err(failure)
}

/// Why a candidate ended. A call that cannot be read is a failure of the model.
pub(super) fn finish_reason(word: &str) -> Result<FinishReason, Failure> {
    Ok(match word {
        "MAX_TOKENS" => FinishReason::Length,
        "SAFETY"
        | "RECITATION"
        | "PROHIBITED_CONTENT"
        | "BLOCKLIST"
        | "SPII"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => FinishReason::ContentFilter,
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" => {
            return Err(Failure::new(Class::ToolFormat, "the model wrote a tool call that cannot be read"));
        }
        _ => FinishReason::Stop,
    })
}
