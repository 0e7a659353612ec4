//! Vectors of Ollama.

use manifold_contract::ai::v1::{self as ai, embed_input};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::classify::{self, Class, Failure};
use crate::provider::Vectors;
use crate::provider::outgoing::{degrade, json};
use crate::provider::wire::{Count, Values, read, usage};

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: Vec<&'a str>,
    /// A text that does not fit is refused, not cut.
    truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
}

/// The body, and the wishes that were left out.
pub(super) fn encode(model: &str, request: &ai::EmbedRequest) -> Result<(Vec<u8>, Vec<&'static str>), Failure> {
    let (mut input, mut degraded) = (Vec::with_capacity(request.inputs.len()), Vec::new());
    for item in &request.inputs {
        input.push(match &item.kind {
            Some(embed_input::Kind::Text(text)) => text.as_str(),
            Some(embed_input::Kind::Tokens(_)) => {
                return Err(Failure::new(Class::Unsupported, "this provider does not take tokens as input").at("input"));
            }
            None => return Err(Failure::new(Class::Invalid, "an input is empty").at("input")),
        });
    }
    if !request.user.is_empty() {
        degrade(&mut degraded, "user");
    }
    let size = input.iter().map(|text| text.len() + 8).sum();
    Ok((json(&Body { model, input, truncate: false, dimensions: request.dimensions }, size)?, degraded))
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    embeddings: Option<Vec<Values>>,
    /// The older form, for one text.
    #[serde(default)]
    embedding: Option<Values>,
    #[serde(default)]
    prompt_eval_count: Count,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

/// Reads vectors, in the order of their inputs.
pub(super) fn decode(bytes: &[u8]) -> Result<Vectors, Failure> {
    let answer: Answer<'_> = read(bytes).map_err(|_| classify::unreadable(bytes))?;
    if answer.error.is_some() {
        return Err(classify::inside(bytes));
    }
    let values = answer.embeddings.into_iter().flatten().chain(answer.embedding);
    let vectors: Vec<ai::Vector> = values.map(|Values(values)| ai::Vector { values }).collect();
    if vectors.is_empty() {
        return Err(Failure::new(Class::Malformed, "the provider answered without vectors"));
    }
    let none = Count(None);
    Ok(Vectors { vectors, usage: usage(answer.prompt_eval_count, none, none, none), reported_cost: None })
}
