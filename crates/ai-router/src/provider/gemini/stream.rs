//! Streams of Gemini: the same object again and again. Complete when every candidate has told its finish reason.

use bytes::Bytes;
use manifold_contract::ai::v1::{self as ai, FinishReason, chat_stream_response::Kind};

use super::decode::call_id;
use super::wire::{Body, Candidate, Part, Usage, check_prompt, finish_reason};
use crate::classify::{self, Class, Failure};
use crate::provider::wire::{or_empty, read};
use crate::provider::{Decoder, Piece};
use crate::sse::{self, Event};

/// More candidates than this are no answer.
const MAX_CANDIDATES: usize = 128;

#[derive(Default)]
pub(super) struct Stream {
    events: sse::Parser,
    state: State,
}

#[derive(Default)]
struct State {
    id: Option<String>,
    candidates: Vec<CandidateState>,
    is_closing: bool,
}

#[derive(Default)]
struct CandidateState {
    index: u32,
    calls: u32,
    is_finished: bool,
}

impl Decoder for Stream {
    fn feed(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        self.events.feed(bytes, |event| self.state.event(event, pieces))
    }

    fn finish(&mut self, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        self.state.is_closing = true;
        self.events.finish(|event| self.state.event(event, pieces))?;
        let complete =
            !self.state.candidates.is_empty() && self.state.candidates.iter().all(|candidate| candidate.is_finished);
        match self.events.stray() {
            _ if complete => Ok(()),
            stray if self.state.id.is_none() && !stray.is_empty() => Err(classify::no_stream(stray)),
            _ => Err(classify::interrupted()),
        }
    }
}

impl State {
    fn event(&mut self, event: Event<'_>, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        let data = event.data.trim_ascii();
        if data.is_empty() || data == b"[DONE]" {
            return Ok(());
        }
        let body: Body<'_> = match read(data) {
            Ok(body) => body,
            // What the end of the stream cut off is broken off, not badly written.
            Err(_) if self.is_closing => return Err(classify::interrupted()),
            Err(_) => return Err(classify::unreadable(data)),
        };
        if body.error.is_some() {
            return Err(classify::inside(data));
        }
        check_prompt(&body)?;
        self.head(&body, pieces);
        for candidate in body.candidates.iter().flatten() {
            self.candidate(candidate, pieces)?;
        }
        pieces.extend(body.usage_metadata.as_ref().and_then(Usage::counted).map(Piece::Usage));
        Ok(())
    }

    fn head(&mut self, body: &Body<'_>, pieces: &mut Vec<Piece>) {
        if self.id.is_none() {
            let id = or_empty(body.response_id.as_ref()).to_owned();
            let model = or_empty(body.model_version.as_ref()).to_owned();
            self.id = Some(id.clone());
            pieces.push(Piece::Head { id, created: 0, model });
        }
    }

    fn candidate(&mut self, candidate: &Candidate<'_>, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        let index = candidate.index.index().unwrap_or_default();
        let position = self.candidates.iter().position(|known| known.index == index);
        let position = position.unwrap_or_else(|| {
            self.candidates.push(CandidateState { index, ..CandidateState::default() });
            self.candidates.len() - 1
        });
        if self.candidates.len() > MAX_CANDIDATES {
            return Err(Failure::new(Class::Malformed, "the provider streams more candidates than were asked for"));
        }
        let state = &mut self.candidates[position];
        if state.is_finished {
            return Ok(());
        }
        let answer_id = self.id.as_deref().unwrap_or_default();
        for part in candidate.content.iter().filter_map(|content| content.parts.as_ref()).flatten() {
            state.part(answer_id, part, pieces);
        }
        match or_empty(candidate.finish_reason.as_ref()) {
            "" | "FINISH_REASON_UNSPECIFIED" => Ok(()),
            word => state.end(word, pieces),
        }
    }
}

impl CandidateState {
    fn part(&mut self, answer_id: &str, part: &Part<'_>, pieces: &mut Vec<Piece>) {
        let choice = self.index;
        let text = or_empty(part.text.as_ref());
        if let Some(call) = &part.function_call {
            let (index, name) = (self.calls, or_empty(call.name.as_ref()));
            let id = call_id(answer_id, choice, index, or_empty(call.id.as_ref()), name);
            let opaque = Bytes::copy_from_slice(or_empty(part.thought_signature.as_ref()).as_bytes());
            let start = ai::ToolStart { choice, index, id, name: name.to_owned(), opaque };
            let delta = ai::ToolDelta { choice, index, arguments_json: call.arguments().to_owned() };
            pieces.extend([Piece::Content(Kind::ToolStart(start)), Piece::Content(Kind::ToolDelta(delta))]);
            self.calls += 1;
        } else if !text.is_empty() {
            let delta = ai::TextDelta { choice, text: text.to_owned(), logprobs_json: String::new() };
            let kind = if part.thought == Some(true) { Kind::ThinkingDelta(delta) } else { Kind::TextDelta(delta) };
            pieces.push(Piece::Content(kind));
        }
    }

    fn end(&mut self, word: &str, pieces: &mut Vec<Piece>) -> Result<(), Failure> {
        let told = finish_reason(word)?;
        self.is_finished = true;
        let reason = if self.calls > 0 { FinishReason::ToolCalls } else { told };
        pieces
            .push(Piece::Content(Kind::ChoiceEnd(ai::ChoiceEnd { choice: self.index, finish_reason: reason.into() })));
        Ok(())
    }
}
