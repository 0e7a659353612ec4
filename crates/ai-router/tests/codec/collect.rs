//! Puts the pieces of a stream together to a whole answer.

use manifold_ai_router::classify::Failure;
use manifold_ai_router::provider::{Answer, Piece, Provider};
use manifold_contract::ai::v1::{self as ai, chat_stream_response::Kind, part};

/// Decodes a stream that arrives in these chunks.
pub fn pieces<'a>(codec: &dyn Provider, chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Piece>, Failure> {
    let (mut decoder, mut pieces) = (codec.decoder(), Vec::new());
    for chunk in chunks {
        decoder.feed(chunk, &mut pieces)?;
    }
    decoder.finish(&mut pieces)?;
    Ok(pieces)
}

/// The answer that a stream amounts to. Neighbouring deltas of one kind are one part.
pub fn answer(pieces: &[Piece]) -> Answer {
    let mut answer = Answer::default();
    let mut heads = 0;
    for piece in pieces {
        match piece {
            Piece::Head { id, created, model } => {
                heads += 1;
                (answer.id, answer.created, answer.model) = (id.clone(), *created, model.clone());
            }
            Piece::Usage(usage) => answer.usage = Some(*usage),
            Piece::Cost(cost) => answer.reported_cost = Some(*cost),
            Piece::Content(kind) => {
                assert_eq!(heads, 1, "the head comes first, once");
                content(&mut answer.choices, kind);
            }
        }
    }
    answer.choices.sort_by_key(|choice| choice.index);
    answer
}

fn content(choices: &mut Vec<ai::Choice>, kind: &Kind) {
    match kind {
        Kind::TextDelta(delta) => {
            let choice = choice(choices, delta.choice);
            if !delta.logprobs_json.is_empty() {
                choice.logprobs_json.clone_from(&delta.logprobs_json);
            }
            match last(choice) {
                Some(part::Kind::Text(text)) => text.push_str(&delta.text),
                _ => push(choice, part::Kind::Text(delta.text.clone())),
            }
        }
        Kind::ThinkingDelta(delta) => match last(choice(choices, delta.choice)) {
            Some(part::Kind::Thinking(text)) => text.push_str(&delta.text),
            _ => push(choice(choices, delta.choice), part::Kind::Thinking(delta.text.clone())),
        },
        Kind::RefusalDelta(delta) => match last(choice(choices, delta.choice)) {
            Some(part::Kind::Refusal(text)) => text.push_str(&delta.text),
            _ => push(choice(choices, delta.choice), part::Kind::Refusal(delta.text.clone())),
        },
        Kind::ToolStart(start) => {
            let choice = choice(choices, start.choice);
            assert_eq!(calls(choice).count(), start.index as usize, "calls are numbered from 0");
            assert!(!start.id.is_empty() && !start.name.is_empty());
            let call = ai::ToolCall { id: start.id.clone(), name: start.name.clone(), arguments_json: String::new() };
            choice.parts.push(ai::Part {
                opaque: start.opaque.clone(),
                origin: String::new(),
                kind: Some(part::Kind::ToolCall(call)),
            });
        }
        Kind::ToolDelta(delta) => {
            let call = calls(choice(choices, delta.choice))
                .nth(delta.index as usize)
                .expect("a call starts before its arguments");
            call.arguments_json.push_str(&delta.arguments_json);
        }
        Kind::ChoiceEnd(end) => {
            let choice = choice(choices, end.choice);
            assert_eq!(choice.finish_reason, 0, "a choice ends once");
            choice.finish_reason = end.finish_reason;
        }
        other => panic!("{other:?} is not for decoders"),
    }
}

fn choice(choices: &mut Vec<ai::Choice>, index: u32) -> &mut ai::Choice {
    let position = choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
        choices.push(ai::Choice { index, ..ai::Choice::default() });
        choices.len() - 1
    });
    assert_eq!(choices[position].finish_reason, 0, "nothing comes after the end of a choice");
    &mut choices[position]
}

fn last(choice: &mut ai::Choice) -> Option<&mut part::Kind> {
    choice.parts.last_mut().and_then(|part| part.kind.as_mut())
}

fn push(choice: &mut ai::Choice, kind: part::Kind) {
    choice.parts.push(ai::Part { kind: Some(kind), ..ai::Part::default() });
}

fn calls(choice: &mut ai::Choice) -> impl Iterator<Item = &mut ai::ToolCall> {
    choice.parts.iter_mut().filter_map(|part| match &mut part.kind {
        Some(part::Kind::ToolCall(call)) => Some(call),
        _ => None,
    })
}
