//! Vectors in OpenAI's dialect.

use manifold_contract::ai::v1::{self as ai, embed_input};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::Compat;
use super::wire::Usage;
use crate::classify::{self, Class, Failure};
use crate::provider::Vectors;
use crate::provider::outgoing::{degrade, json};
use crate::provider::wire::{Count, Values, read};

struct Body<'a> {
    model: &'a str,
    inputs: Vec<Input<'a>>,
    dimensions: Option<(&'static str, u32)>,
    user: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Input<'a> {
    Text(&'a str),
    Tokens(&'a [u32]),
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("input", &self.inputs)?;
        map.serialize_entry("encoding_format", "float")?;
        if let Some((name, length)) = self.dimensions {
            map.serialize_entry(name, &length)?;
        }
        if !self.user.is_empty() {
            map.serialize_entry("user", self.user)?;
        }
        map.end()
    }
}

/// The body, and the wishes that were left out.
pub(super) fn encode(
    compat: &Compat,
    model: &str,
    request: &ai::EmbedRequest,
) -> Result<(Vec<u8>, Vec<&'static str>), Failure> {
    let (quirks, mut degraded) = (&compat.quirks, Vec::new());
    let mut inputs = Vec::with_capacity(request.inputs.len());
    for input in &request.inputs {
        inputs.push(match &input.kind {
            Some(embed_input::Kind::Text(text)) => Input::Text(text),
            Some(embed_input::Kind::Tokens(tokens)) if quirks.has("tokens") => Input::Tokens(&tokens.ids),
            Some(embed_input::Kind::Tokens(_)) => {
                return Err(Failure::new(Class::Unsupported, "this provider does not take tokens as input").at("input"));
            }
            None => return Err(Failure::new(Class::Invalid, "an input is empty").at("input")),
        });
    }
    if !request.user.is_empty() && !quirks.has("user") {
        degrade(&mut degraded, "user");
    }
    let user = if quirks.has("user") { request.user.as_str() } else { "" };
    let body = Body { model, inputs, dimensions: request.dimensions.map(|length| (quirks.dimensions, length)), user };
    let size = request.inputs.len() * 64;
    Ok((json(&body, size)?, degraded))
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(default)]
    data: Option<Vec<Row>>,
    #[serde(borrow, default)]
    usage: Option<Usage<'a>>,
    #[serde(borrow, default)]
    error: Option<&'a serde_json::value::RawValue>,
}

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    index: Count,
    embedding: Values,
}

/// Reads vectors, in the order of their inputs.
pub(super) fn decode(compat: &Compat, bytes: &[u8]) -> Result<Vectors, Failure> {
    let answer: Answer<'_> = read(bytes).map_err(|_| classify::unreadable(bytes))?;
    if answer.error.is_some() {
        return Err(classify::inside(bytes));
    }
    let rows = answer.data.unwrap_or_default();
    if rows.is_empty() {
        return Err(Failure::new(Class::Malformed, "the provider answered without vectors"));
    }
    let mut vectors = Vec::with_capacity(rows.len());
    for (position, row) in rows.into_iter().enumerate() {
        vectors.push((row.index.0.unwrap_or(position as u64), row.embedding.0));
    }
    vectors.sort_by_key(|(index, _)| *index);
    Ok(Vectors {
        vectors: vectors.into_iter().map(|(_, values)| ai::Vector { values }).collect(),
        usage: answer.usage.as_ref().and_then(Usage::counted),
        reported_cost: answer.usage.as_ref().and_then(|usage| usage.cost(compat.quirks.cost)),
    })
}
