//! Whole answers in OpenAI's dialect.

use manifold_contract::ai::v1::{self as ai, FinishReason, part};
use serde::Deserialize;

use super::Compat;
use super::wire::{Body, Choice, Message, finish_reason, logprobs};
use crate::classify::{self, Class, Failure};
use crate::provider::wire::{Text, arguments, or_empty, read};
use crate::provider::{Answer, tool_id};

/// Reads a chat's answer. An error object in its place is classified, whatever the status was.
pub(super) fn chat(compat: &Compat, bytes: &[u8]) -> Result<Answer, Failure> {
    let body: Body<'_> = read(bytes).map_err(|_| classify::unreadable(bytes))?;
    if body.error.is_some() {
        return Err(classify::inside(bytes));
    }
    let id = or_empty(body.id.as_ref());
    let choices = body.choices.unwrap_or_default();
    if choices.is_empty() {
        return Err(match classify::unreadable(bytes) {
            failure if failure.class == Class::Malformed => {
                Failure::new(Class::Malformed, "the provider answered without a choice")
            }
            told => told,
        });
    }
    let choices = choices
        .iter()
        .enumerate()
        .map(|(position, choice)| self::choice(id, position, choice))
        .collect::<Result<_, _>>()?;
    let usage = body.usage.or_else(|| body.x_groq.and_then(|own| own.usage));
    Ok(Answer {
        id: id.to_owned(),
        created: body.created.seconds(),
        model: or_empty(body.model.as_ref()).to_owned(),
        choices,
        usage: usage.as_ref().and_then(super::wire::Usage::counted),
        reported_cost: usage.as_ref().and_then(|usage| usage.cost(compat.quirks.cost)),
    })
}

fn choice(id: &str, position: usize, choice: &Choice<'_>) -> Result<ai::Choice, Failure> {
    if let Some(error) = choice.error {
        return Err(classify::inside(error.get().as_bytes()));
    }
    let message = choice
        .message
        .as_ref()
        .ok_or_else(|| Failure::new(Class::Malformed, "the provider answered a choice without a message"))?;
    let index = choice.index.index().or_else(|| u32::try_from(position).ok()).unwrap_or_default();
    let parts = parts(id, index, message);
    let has_calls = parts.iter().any(|part| matches!(part.kind, Some(part::Kind::ToolCall(_))));
    let told = finish_reason(or_empty(choice.finish_reason.as_ref()))?;
    let reason = if has_calls { FinishReason::ToolCalls } else { told };
    Ok(ai::Choice { index, parts, finish_reason: reason.into(), logprobs_json: logprobs(choice.logprobs) })
}

fn part(kind: part::Kind) -> ai::Part {
    ai::Part { kind: Some(kind), ..ai::Part::default() }
}

fn parts(id: &str, index: u32, message: &Message<'_>) -> Vec<ai::Part> {
    let mut parts = Vec::new();
    let mut push = |kind| parts.push(part(kind));
    let thinking = message.thinking();
    if !thinking.is_empty() {
        push(part::Kind::Thinking(thinking.to_owned()));
    }
    if let Some(content) = &message.content {
        content.each(false, &mut |is_thinking, text| {
            let text = text.to_owned();
            push(if is_thinking { part::Kind::Thinking(text) } else { part::Kind::Text(text) });
        });
    }
    let refusal = or_empty(message.refusal.as_ref());
    if !refusal.is_empty() {
        push(part::Kind::Refusal(refusal.to_owned()));
    }
    for (position, call) in message.tool_calls.iter().flatten().enumerate() {
        let call_id = match call.id() {
            "" => tool_id::made(&[id, &index.to_string(), &position.to_string(), call.name()]),
            told => told.to_owned(),
        };
        let written = call.function.as_ref().and_then(|function| function.arguments);
        push(part::Kind::ToolCall(ai::ToolCall {
            id: call_id,
            name: call.name().to_owned(),
            arguments_json: arguments(written).into_owned(),
        }));
    }
    parts
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Models<'a> {
    Data {
        #[serde(borrow)]
        data: Vec<Model<'a>>,
    },
    #[serde(borrow)]
    Bare(Vec<Model<'a>>),
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow)]
    id: Text<'a>,
}

/// Names of models, from an object with `data` or a bare list.
pub(super) fn models(bytes: &[u8]) -> Result<Vec<String>, Failure> {
    let (Models::Data { data } | Models::Bare(data)) = read(bytes).map_err(|_| classify::unreadable(bytes))?;
    Ok(data.into_iter().map(|model| model.id.0.into_owned()).collect())
}
