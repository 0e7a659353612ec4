//! Streams of Ollama: lines until one says `done: true`.

use manifold_contract::ai::v1::{self as ai, chat_stream_response::Kind};

use super::wire::{Body, Call};
use crate::classify::{self, Failure};
use crate::ndjson;
use crate::provider::wire::{or_empty, read};
use crate::provider::{Decoder, Piece};

#[derive(Default)]
pub(super) struct Stream {
    lines: ndjson::Parser,
    state: State,
}

#[derive(Default)]
struct State {
    has_begun: bool,
    n_calls: u32,
    is_done: bool,
    is_closing: bool,
}

impl Decoder for Stream {
    fn feed(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        self.lines.feed(bytes, |line| self.state.line(line, pieces))
    }

    fn finish(&mut self, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        self.state.is_closing = true;
        self.lines.finish(|line| self.state.line(line, pieces))?;
        if self.state.is_done { Ok(()) } else { Err(classify::interrupted()) }
    }
}

impl State {
    fn line(&mut self, line: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        if self.is_done {
            return Ok(());
        }
        let body: Body<'_> = match read(line) {
            Ok(body) => body,
            // What the end of the stream cut off is broken off, not badly written.
            Err(_) if self.is_closing && line.starts_with(b"{") => return Err(classify::interrupted()),
            Err(_) => return Err(classify::unreadable(line)),
        };
        if body.error.is_some() {
            return Err(classify::inside(line));
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            let model = or_empty(body.model.as_ref()).to_owned();
            pieces.push(Piece::Head { id: String::new(), created: body.created(), model });
        }
        self.message(&body, pieces);
        if body.done {
            self.is_done = true;
            let finish_reason = body.finish_reason(self.n_calls).into();
            pieces.push(Piece::Content(Kind::ChoiceEnd(ai::ChoiceEnd { choice: 0, finish_reason })));
            pieces.extend(body.usage().map(Piece::Usage));
        }
        Ok(())
    }

    fn message(&mut self, body: &Body<'_>, pieces: &mut Vec<Piece>) {
        let Some(message) = &body.message else { return };
        let delta = |text: &str, logprobs_json| ai::TextDelta { choice: 0, text: text.to_owned(), logprobs_json };
        let (thinking, text, logprobs) = (message.thinking(), or_empty(message.content.as_ref()), body.logprobs());
        if !thinking.is_empty() {
            pieces.push(Piece::Content(Kind::ThinkingDelta(delta(thinking, String::new()))));
        }
        if !text.is_empty() || !logprobs.is_empty() {
            pieces.push(Piece::Content(Kind::TextDelta(delta(text, logprobs))));
        }
        for call in message.tool_calls.iter().flatten() {
            self.call(call, or_empty(body.created_at.as_ref()), pieces);
        }
    }

    fn call(&mut self, call: &Call<'_>, created_at: &str, pieces: &mut Vec<Piece>) {
        let index = self.n_calls;
        let start = ai::ToolStart {
            choice: 0,
            index,
            id: call.id(created_at, index),
            name: call.name().to_owned(),
            ..ai::ToolStart::default()
        };
        let delta = ai::ToolDelta { choice: 0, index, arguments_json: call.arguments() };
        pieces.extend([Piece::Content(Kind::ToolStart(start)), Piece::Content(Kind::ToolDelta(delta))]);
        self.n_calls += 1;
    }
}
