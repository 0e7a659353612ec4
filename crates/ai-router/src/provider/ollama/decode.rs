//! Whole answers of Ollama.

use manifold_contract::ai::v1::{self as ai, part};
use serde::Deserialize;

use super::wire::{Body, Message};
use crate::classify::{self, Class, Failure};
use crate::provider::Answer;
use crate::provider::wire::{Text, or_empty, read};

/// Reads a chat's answer. An error in its place is classified, whatever the status was.
pub(super) fn chat(bytes: &[u8]) -> Result<Answer, Failure> {
    let body: Body<'_> = read(bytes).map_err(|_| classify::unreadable(bytes))?;
    if body.error.is_some() {
        return Err(classify::inside(bytes));
    }
    let message = body
        .message
        .as_ref()
        .ok_or_else(|| Failure::new(Class::Malformed, "the provider answered without a message"))?;
    if !body.done {
        return Err(classify::interrupted());
    }
    let created_at = or_empty(body.created_at.as_ref());
    let mut n_calls = 0;
    let parts = parts(created_at, message, &mut n_calls);
    let choice = ai::Choice {
        index: 0,
        parts,
        finish_reason: body.finish_reason(n_calls).into(),
        logprobs_json: body.logprobs(),
    };
    Ok(Answer {
        id: String::new(),
        created: body.created(),
        model: or_empty(body.model.as_ref()).to_owned(),
        choices: vec![choice],
        usage: body.usage(),
        reported_cost: None,
    })
}

fn part(kind: part::Kind) -> ai::Part {
    ai::Part { kind: Some(kind), ..ai::Part::default() }
}

fn parts(created_at: &str, message: &Message<'_>, n_calls: &mut u32) -> Vec<ai::Part> {
    let mut parts = Vec::new();
    let mut push = |kind| parts.push(part(kind));
    let (thinking, text) = (message.thinking(), or_empty(message.content.as_ref()));
    if !thinking.is_empty() {
        push(part::Kind::Thinking(thinking.to_owned()));
    }
    if !text.is_empty() {
        push(part::Kind::Text(text.to_owned()));
    }
    for call in message.tool_calls.iter().flatten() {
        let id = call.id(created_at, *n_calls);
        push(part::Kind::ToolCall(ai::ToolCall { id, name: call.name().to_owned(), arguments_json: call.arguments() }));
        *n_calls += 1;
    }
    parts
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

/// Names of the models that are there.
pub(super) fn models(bytes: &[u8]) -> Result<Vec<String>, Failure> {
    let Models { models } = read(bytes).map_err(|_| classify::unreadable(bytes))?;
    Ok(models.into_iter().map(|model| model.name.0.into_owned()).collect())
}
