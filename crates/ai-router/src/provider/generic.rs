//! Any vendor that speaks OpenAI's dialect. It is sent what most of them take; what one refuses is left out on repetition.

use super::openai::{Compat, Quirks};
use super::tool_id::ToolIds;
use crate::classify::Limits;

pub(super) const GENERIC: Compat = Compat {
    id: "generic",
    headers: &[],
    limits: Limits::Minute,
    quirks: Quirks {
        max_tokens: "max_tokens",
        tool_ids: ToolIds::Any,
        features: &[
            "seed",
            "top_k",
            "logit_bias",
            "penalties",
            "n",
            "logprobs",
            "user",
            "parallel_tool_calls",
            "reasoning",
            "name",
            "tokens",
        ],
        thinking: Some("reasoning_content"),
        ..Quirks::NONE
    },
};
