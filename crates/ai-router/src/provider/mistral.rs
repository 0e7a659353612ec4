//! Mistral: OpenAI's dialect, strict about unknown fields and about ids of tool calls. <https://docs.mistral.ai/api>

use super::extras::Extras;
use super::openai::{Compat, MediaForm, Quirks, StreamUsage};
use super::tool_id::ToolIds;
use crate::classify::Limits;

pub(super) const MISTRAL: Compat = Compat {
    id: "mistral",
    headers: &[],
    limits: Limits::Minute,
    quirks: Quirks {
        max_tokens: "max_tokens",
        seed: "random_seed",
        dimensions: "output_dimension",
        required: "any",
        stream_usage: StreamUsage::Unasked,
        tool_ids: ToolIds::Exactly9,
        features: &["seed", "penalties", "n", "parallel_tool_calls", "reasoning"],
        efforts: &["none", "minimal", "low", "medium", "high", "xhigh"],
        extras: Extras::Only(&[
            "guardrails",
            "metadata",
            "prediction",
            "prompt_cache_key",
            "prompt_mode",
            "safe_prompt",
            "service_tier",
        ]),
        media: MediaForm::Mistral,
        ..Quirks::NONE
    },
};
