//! Whole answers of Gemini.

use bytes::Bytes;
use manifold_contract::ai::v1::{self as ai, FinishReason, part};
use serde::Deserialize;

use super::wire::{Body, Candidate, Part, Usage, check_prompt, finish_reason};
use crate::classify::{self, Class, Failure};
use crate::provider::wire::{Text, or_empty, read};
use crate::provider::{Answer, tool_id};

/// Reads a chat's answer. An error object in its place is classified, whatever the status was.
pub(super) fn chat(bytes: &[u8]) -> Result<Answer, Failure> {
    let body: Body<'_> = read(bytes).map_err(|_| classify::unreadable(bytes))?;
    if body.error.is_some() {
        return Err(classify::inside(bytes));
    }
    check_prompt(&body)?;
    let id = or_empty(body.response_id.as_ref());
    let candidates = body.candidates.as_deref().unwrap_or_default();
    if candidates.is_empty() {
        return Err(Failure::new(Class::Malformed, "the provider answered without a candidate"));
    }
    let choices = candidates
        .iter()
        .enumerate()
        .map(|(position, candidate)| choice(id, position, candidate))
        .collect::<Result<_, _>>()?;
    Ok(Answer {
        id: id.to_owned(),
        created: 0,
        model: or_empty(body.model_version.as_ref()).to_owned(),
        choices,
        usage: body.usage_metadata.as_ref().and_then(Usage::counted),
        reported_cost: None,
    })
}

fn choice(id: &str, position: usize, candidate: &Candidate<'_>) -> Result<ai::Choice, Failure> {
    let index = candidate.index.index().or_else(|| u32::try_from(position).ok()).unwrap_or_default();
    let told = finish_reason(or_empty(candidate.finish_reason.as_ref()))?;
    let mut calls = 0;
    let written = candidate.content.as_ref().and_then(|content| content.parts.as_deref()).unwrap_or_default();
    let parts: Vec<ai::Part> = written.iter().filter_map(|part| self::part(id, index, part, &mut calls)).collect();
    let reason = if calls > 0 { FinishReason::ToolCalls } else { told };
    Ok(ai::Choice { index, parts, finish_reason: reason.into(), logprobs_json: String::new() })
}

fn part(id: &str, choice: u32, part: &Part<'_>, calls: &mut u32) -> Option<ai::Part> {
    let signature = or_empty(part.thought_signature.as_ref());
    let kind = match (&part.function_call, or_empty(part.text.as_ref())) {
        (Some(call), _) => {
            let name = or_empty(call.name.as_ref());
            let call_id = call_id(id, choice, *calls, or_empty(call.id.as_ref()), name);
            *calls += 1;
            part::Kind::ToolCall(ai::ToolCall {
                id: call_id,
                name: name.to_owned(),
                arguments_json: call.arguments().to_owned(),
            })
        }
        (None, "") if signature.is_empty() => return None,
        (None, text) if part.thought == Some(true) => part::Kind::Thinking(text.to_owned()),
        (None, text) => part::Kind::Text(text.to_owned()),
    };
    Some(ai::Part { opaque: Bytes::copy_from_slice(signature.as_bytes()), origin: String::new(), kind: Some(kind) })
}

/// Gemini's own id, or one made of the answer's id and the place of the call.
pub(super) fn call_id(answer_id: &str, choice: u32, position: u32, told: &str, name: &str) -> String {
    match told {
        "" => tool_id::made(&[answer_id, &choice.to_string(), &position.to_string(), name]),
        told => told.to_owned(),
    }
}

#[derive(Deserialize)]
struct Models<'a> {
    #[serde(borrow)]
    models: Vec<Model<'a>>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

/// Names of models, without their collection.
pub(super) fn models(bytes: &[u8]) -> Result<Vec<String>, Failure> {
    let Models { models } = read(bytes).map_err(|_| classify::unreadable(bytes))?;
    let bare = |name: &str| name.strip_prefix("models/").unwrap_or(name).to_owned();
    Ok(models.iter().map(|model| bare(model.name.as_str())).collect())
}
