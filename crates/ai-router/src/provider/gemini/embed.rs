//! Vectors of Gemini: one text in a call of its own, several in a batch.

use manifold_contract::ai::v1::{self as ai, embed_input};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::wire::Usage;
use crate::classify::{self, Class, Failure};
use crate::provider::Vectors;
use crate::provider::outgoing::{degrade, json};
use crate::provider::wire::{Values, read};

#[derive(Serialize)]
#[serde(untagged)]
enum Body<'a> {
    One(Item<'a>),
    Many { requests: Vec<Item<'a>> },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Item<'a> {
    model: String,
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_dimensionality: Option<u32>,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Part<'a> {
    text: &'a str,
}

/// The body, and the wishes that were left out.
pub(super) fn encode(model: &str, request: &ai::EmbedRequest) -> Result<(Vec<u8>, Vec<&'static str>), Failure> {
    let model = if model.contains('/') { model.to_owned() } else { format!("models/{model}") };
    let (mut items, mut degraded) = (Vec::with_capacity(request.inputs.len()), Vec::new());
    for input in &request.inputs {
        let text = match &input.kind {
            Some(embed_input::Kind::Text(text)) => text,
            Some(embed_input::Kind::Tokens(_)) => {
                return Err(Failure::new(Class::Unsupported, "this provider does not take tokens as input").at("input"));
            }
            None => return Err(Failure::new(Class::Invalid, "an input is empty").at("input")),
        };
        items.push(Item {
            model: model.clone(),
            content: Content { parts: [Part { text }] },
            output_dimensionality: request.dimensions,
        });
    }
    if !request.user.is_empty() {
        degrade(&mut degraded, "user");
    }
    let size = items.iter().map(|item| item.content.parts[0].text.len() + 128).sum();
    let body = match items.len() {
        1 => Body::One(items.remove(0)),
        _ => Body::Many { requests: items },
    };
    Ok((json(&body, size)?, degraded))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(default)]
    embedding: Option<Embedding>,
    #[serde(default)]
    embeddings: Option<Vec<Embedding>>,
    #[serde(default)]
    usage_metadata: Option<Usage>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Embedding {
    values: Values,
}

/// Reads vectors, in the order of their inputs.
pub(super) fn decode(bytes: &[u8]) -> Result<Vectors, Failure> {
    let answer: Answer<'_> = read(bytes).map_err(|_| classify::unreadable(bytes))?;
    if answer.error.is_some() {
        return Err(classify::inside(bytes));
    }
    let embeddings = answer.embedding.into_iter().chain(answer.embeddings.into_iter().flatten());
    let vectors: Vec<ai::Vector> = embeddings.map(|embedding| ai::Vector { values: embedding.values.0 }).collect();
    if vectors.is_empty() {
        return Err(Failure::new(Class::Malformed, "the provider answered without vectors"));
    }
    Ok(Vectors { vectors, usage: answer.usage_metadata.as_ref().and_then(Usage::counted), reported_cost: None })
}
