//! Fields of the client's dialect that the contract does not know: passed on to a provider of the same dialect, else named.

use manifold_contract::ai::v1::ChatRequest;
use serde_json::value::RawValue;

use super::outgoing::{degrade, raw};
use crate::classify::Failure;

/// Which unknown fields a provider of the same dialect is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extras {
    /// All of them.
    All,
    /// These, because it refuses every field it does not know.
    Only(&'static [&'static str]),
}

/// Names that the contract itself covers: whoever puts them here as well would write a field twice.
const COVERED: &[&str] = &[
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "random_seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "n",
    "logprobs",
    "top_logprobs",
    "logit_bias",
    "reasoning_effort",
    "user",
    "stream",
    "stream_options",
    "input",
    "encoding_format",
    "dimensions",
];

/// Feature words of the usual fields; any other is `extra`.
const WORDS: &[(&str, &str)] = &[
    ("audio", "extra:audio"),
    ("metadata", "extra:metadata"),
    ("min_p", "extra:min_p"),
    ("modalities", "extra:modalities"),
    ("prediction", "extra:prediction"),
    ("prompt_cache_key", "extra:prompt_cache_key"),
    ("provider", "extra:provider"),
    ("reasoning", "extra:reasoning"),
    ("repetition_penalty", "extra:repetition_penalty"),
    ("safety_identifier", "extra:safety_identifier"),
    ("service_tier", "extra:service_tier"),
    ("store", "extra:store"),
    ("verbosity", "extra:verbosity"),
    ("web_search_options", "extra:web_search_options"),
];

/// The fields to pass on, in the order of their names.
pub(super) fn forwarded<'a>(
    request: &'a ChatRequest,
    extras: Extras,
    degraded: &mut Vec<&'static str>,
) -> Result<Vec<(&'a str, &'a RawValue)>, Failure> {
    let mut fields = Vec::new();
    for (name, text) in uncovered(request) {
        let known = match extras {
            Extras::All => true,
            Extras::Only(names) => names.contains(&name),
        };
        if known && request.dialect == "openai" {
            fields.push((name, raw(text, "extras")?));
        } else {
            degrade(degraded, word(name));
        }
    }
    Ok(fields)
}

/// Names every extra field as left out.
pub(super) fn declare(request: &ChatRequest, degraded: &mut Vec<&'static str>) {
    for (name, _) in uncovered(request) {
        degrade(degraded, word(name));
    }
}

fn uncovered(request: &ChatRequest) -> Vec<(&str, &str)> {
    let fields = request.extras.iter().map(|(name, text)| (name.as_str(), text.as_str()));
    let mut fields: Vec<_> = fields.filter(|(name, _)| !COVERED.contains(name)).collect();
    fields.sort_unstable();
    fields
}

fn word(name: &str) -> &'static str {
    WORDS.iter().find(|(known, _)| *known == name).map_or("extra", |(_, word)| *word)
}
