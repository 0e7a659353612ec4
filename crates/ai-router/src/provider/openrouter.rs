//! OpenRouter: OpenAI's dialect over many providers; tells the cost, and reports failures inside a 200.
//! <https://openrouter.ai/docs/api-reference/overview>

use manifold_contract::ai::v1::ChatRequest;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use super::openai::{Compat, Cost, Privacy, Quirks};
use super::tool_id::ToolIds;
use crate::classify::Limits;

pub(super) const OPENROUTER: Compat = Compat {
    id: "openrouter",
    // OpenRouter shows in its usage pages which application called.
    headers: &[("http-referer", "https://manifold.localhost"), ("x-title", "Manifold")],
    limits: Limits::Minute,
    quirks: Quirks {
        max_tokens: "max_tokens",
        tool_ids: ToolIds::Any,
        features: &[
            "seed",
            "top_k",
            "logit_bias",
            "penalties",
            "logprobs",
            "user",
            "parallel_tool_calls",
            "reasoning",
            "name",
        ],
        thinking: Some("reasoning"),
        cost: Cost::Told,
        privacy: Privacy::DataCollection,
        ..Quirks::NONE
    },
};

/// Labels that no provider behind it may train on.
const PRIVATE: &[&str] = &["confidential", "personal"];

/// The `provider` field with training denied, if the request carries such a label. What the client set stays.
pub(super) fn preferences(request: &ChatRequest) -> Option<Box<RawValue>> {
    let routing = request.routing.as_ref()?;
    if !routing.labels.iter().any(|label| PRIVATE.contains(&label.as_str())) {
        return None;
    }
    let told = request.extras.get("provider").and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok());
    let mut preferences = told.unwrap_or_default();
    preferences.insert("data_collection".to_owned(), "deny".into());
    to_raw_value(&preferences).ok()
}
