//! Streams in OpenAI's dialect. Complete when every choice has told its finish reason; `[DONE]` alone proves nothing.

use manifold_contract::ai::v1::{self as ai, FinishReason, chat_stream_response::Kind};

use super::Cost;
use super::wire::{Body, Call, Choice, Message, finish_reason, logprobs};
use crate::classify::{self, Class, Failure};
use crate::provider::wire::{arguments, or_empty, read};
use crate::provider::{Decoder, Piece, tool_id};
use crate::sse::{self, Event};

/// More choices or tool calls than this are no answer.
const MAX_CHOICES: usize = 128;
const MAX_CALLS: usize = 1_024;

pub(super) struct Stream {
    events: sse::Parser,
    state: State,
}

struct State {
    cost: Cost,
    id: Option<String>,
    choices: Vec<ChoiceState>,
    is_done: bool,
    is_closing: bool,
}

#[derive(Default)]
struct ChoiceState {
    index: u32,
    calls: Vec<CallState>,
    is_finished: bool,
}

/// One tool call. It is announced when its name is known.
struct CallState {
    wire_index: Option<u32>,
    id: String,
    is_announced: bool,
    held_arguments: String,
}

impl Stream {
    pub fn new(cost: Cost) -> Self {
        let state = State { cost, id: None, choices: Vec::new(), is_done: false, is_closing: false };
        Self { events: sse::Parser::default(), state }
    }
}

impl Decoder for Stream {
    fn feed(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        self.events.feed(bytes, |event| self.state.event(event, pieces))
    }

    fn finish(&mut self, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        self.state.is_closing = true;
        self.events.finish(|event| self.state.event(event, pieces))?;
        let complete = !self.state.choices.is_empty() && self.state.choices.iter().all(|choice| choice.is_finished);
        match self.events.stray() {
            _ if complete => Ok(()),
            stray if self.state.choices.is_empty() && !stray.is_empty() => Err(classify::no_stream(stray)),
            _ => Err(classify::interrupted()),
        }
    }
}

impl State {
    fn event(&mut self, event: Event<'_>, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        let data = event.data.trim_ascii();
        if self.is_done || data.is_empty() {
            return Ok(());
        }
        if data == b"[DONE]" {
            self.is_done = true;
            return Ok(());
        }
        if event.name == b"error" {
            return Err(classify::inside(data));
        }
        let body: Body<'_> = match read(data) {
            Ok(body) => body,
            // What the end of the stream cut off is broken off, not badly written.
            Err(_) if self.is_closing => return Err(classify::interrupted()),
            Err(_) => return Err(classify::unreadable(data)),
        };
        let own_error = body.x_groq.as_ref().and_then(|own| own.error);
        if let Some(error) = own_error {
            return Err(classify::inside(error.get().as_bytes()));
        }
        if body.error.is_some() {
            return Err(classify::inside(data));
        }
        self.body(&body, pieces)
    }

    fn body(&mut self, body: &Body<'_>, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        let id = or_empty(body.id.as_ref());
        // Some vendors begin with a chunk that says nothing, not even its id.
        if self.id.is_none() && !(id.is_empty() && body.choices.as_ref().is_none_or(Vec::is_empty)) {
            let id = id.to_owned();
            let model = or_empty(body.model.as_ref()).to_owned();
            self.id = Some(id.clone());
            pieces.push(Piece::Head { id, created: body.created.seconds(), model });
        }
        for choice in body.choices.iter().flatten() {
            self.choice(choice, pieces)?;
        }
        let own_usage = body.x_groq.as_ref().and_then(|own| own.usage.as_ref());
        if let Some(usage) = body.usage.as_ref().or(own_usage) {
            pieces.extend(usage.counted().map(Piece::Usage));
            pieces.extend(usage.cost(self.cost).map(Piece::Cost));
        }
        Ok(())
    }

    fn choice(&mut self, choice: &Choice<'_>, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        if let Some(error) = choice.error {
            return Err(classify::inside(error.get().as_bytes()));
        }
        let index = choice.index.index().unwrap_or_default();
        let id = self.id.as_deref().unwrap_or_default();
        let position = self.choices.iter().position(|known| known.index == index);
        let position = position.unwrap_or_else(|| {
            self.choices.push(ChoiceState { index, ..ChoiceState::default() });
            self.choices.len() - 1
        });
        if self.choices.len() > MAX_CHOICES {
            return Err(Failure::new(Class::Malformed, "the provider streams more choices than were asked for"));
        }
        let state = &mut self.choices[position];
        if state.is_finished {
            return Ok(());
        }
        if let Some(delta) = &choice.delta {
            state.texts(delta, logprobs(choice.logprobs), pieces);
            for call in delta.tool_calls.iter().flatten() {
                state.call(id, call, pieces)?;
            }
        }
        match or_empty(choice.finish_reason.as_ref()) {
            "" => Ok(()),
            word => state.end(word, pieces),
        }
    }
}

impl ChoiceState {
    fn texts(&self, delta: &Message<'_>, logprobs_json: String, pieces: &mut Vec<Piece>) {
        let choice = self.index;
        let mut push = |kind: fn(ai::TextDelta) -> Kind, text: &str, logprobs_json: String| {
            if !text.is_empty() || !logprobs_json.is_empty() {
                pieces.push(Piece::Content(kind(ai::TextDelta { choice, text: text.to_owned(), logprobs_json })));
            }
        };
        push(Kind::ThinkingDelta, delta.thinking(), String::new());
        let mut logprobs_json = Some(logprobs_json);
        if let Some(content) = &delta.content {
            content.each(false, &mut |is_thinking, text| {
                if is_thinking {
                    push(Kind::ThinkingDelta, text, String::new());
                } else {
                    push(Kind::TextDelta, text, logprobs_json.take().unwrap_or_default());
                }
            });
        }
        push(Kind::TextDelta, "", logprobs_json.unwrap_or_default());
        push(Kind::RefusalDelta, or_empty(delta.refusal.as_ref()), String::new());
    }

    fn call(&mut self, answer_id: &str, call: &Call<'_>, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        let position = self.position(call);
        if position == MAX_CALLS {
            return Err(Failure::new(Class::Malformed, "the provider streams more tool calls than any model makes"));
        }
        if position == self.calls.len() {
            let id = call.id().to_owned();
            self.calls.push(CallState {
                wire_index: call.index.index(),
                id,
                is_announced: false,
                held_arguments: String::new(),
            });
        }
        let (choice, state) = (self.index, &mut self.calls[position]);
        let index = u32::try_from(position).expect("there are at most MAX_CALLS calls");
        let written = arguments(call.function.as_ref().and_then(|function| function.arguments));
        if state.is_announced {
            push_arguments(choice, index, &written, pieces);
            return Ok(());
        }
        state.held_arguments.push_str(&written);
        let name = call.name();
        if !name.is_empty() {
            if state.id.is_empty() {
                state.id = match call.id() {
                    "" => tool_id::made(&[answer_id, &choice.to_string(), &index.to_string(), name]),
                    told => told.to_owned(),
                };
            }
            state.is_announced = true;
            let start = ai::ToolStart {
                choice,
                index,
                id: state.id.clone(),
                name: name.to_owned(),
                ..ai::ToolStart::default()
            };
            pieces.push(Piece::Content(Kind::ToolStart(start)));
            push_arguments(choice, index, &std::mem::take(&mut state.held_arguments), pieces);
        }
        Ok(())
    }

    /// Which call a fragment belongs to. Some vendors give no index, and some give every call the index 0.
    fn position(&self, call: &Call<'_>) -> usize {
        let (id, name) = (call.id(), call.name());
        let is_other = |known: &CallState| !id.is_empty() && !known.id.is_empty() && known.id != id && !name.is_empty();
        let found = match call.index.index() {
            Some(index) => self
                .calls
                .iter()
                .rposition(|known| known.wire_index == Some(index))
                .filter(|at| !is_other(&self.calls[*at])),
            None if !id.is_empty() => self.calls.iter().rposition(|known| known.id == id),
            None if !name.is_empty() => None,
            None => self.calls.len().checked_sub(1),
        };
        found.unwrap_or(self.calls.len())
    }

    fn end(&mut self, word: &str, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        let told = finish_reason(word)?;
        if self.calls.iter().any(|call| !call.is_announced) {
            return Err(Failure::new(Class::ToolFormat, "the model wrote a tool call without a name"));
        }
        self.is_finished = true;
        let reason = if self.calls.is_empty() { told } else { FinishReason::ToolCalls };
        pieces
            .push(Piece::Content(Kind::ChoiceEnd(ai::ChoiceEnd { choice: self.index, finish_reason: reason.into() })));
        Ok(())
    }
}

fn push_arguments(choice: u32, index: u32, text: &str, pieces: &mut Vec<Piece>) {
    if !text.is_empty() {
        let delta = ai::ToolDelta { choice, index, arguments_json: text.to_owned() };
        pieces.push(Piece::Content(Kind::ToolDelta(delta)));
    }
}
