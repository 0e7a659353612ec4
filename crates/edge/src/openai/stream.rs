//! A streamed answer of the contract as OpenAI's server-sent events. A state machine without IO: messages in, bytes out.

use std::time::Duration;

use manifold_contract::ai::v1::chat_stream_response::Kind;
use manifold_contract::ai::v1::{ChatStreamResponse, ChoiceEnd, Failed, Served, Started, Usage};
use manifold_core::{Code, Error, RequestId};

use super::answer::Thinking;
use super::chunk::Chunks;
use super::{answer, error, served};
use crate::refusal::Refusal;

/// No provider gives more answers to one request.
const MAX_CHOICES: usize = 128;

/// What the client asked of the stream.
#[derive(Clone, Debug)]
pub(crate) struct Show {
    pub(crate) usage: bool,
    pub(crate) thinking: Thinking,
    pub(crate) declared: Vec<&'static str>,
    pub(crate) request: RequestId,
    /// Our own time before the call.
    pub(crate) busy: Duration,
}

/// Turns messages into events.
pub(crate) struct StreamEncoder {
    show: Show,
    state: State,
    choices: Vec<Choice>,
    usage: Usage,
}

enum State {
    New,
    Open(Chunks),
    /// Everything has been said.
    Over,
}

#[derive(Clone, Copy, Debug, Default)]
struct Choice {
    begun: bool,
    n_calls: usize,
    ended: bool,
}

impl StreamEncoder {
    /// Nothing said yet.
    pub(crate) fn new(show: Show) -> Self {
        Self { show, state: State::New, choices: Vec::new(), usage: Usage::default() }
    }

    /// Whether the last event has been said.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Appends the events of one message.
    pub(crate) fn push(&mut self, message: ChatStreamResponse, out: &mut Vec<u8>) -> Result<(), Error> {
        let kind = message.kind.ok_or_else(|| disorder("an empty message"))?;
        match kind {
            Kind::Failed(failed) if !self.is_over() => self.fail(&failure(failed), out),
            Kind::Started(started) => self.start(&started, out)?,
            Kind::Finished(served) => self.finish(&served, out)?,
            Kind::Usage(usage) => {
                self.chunks()?;
                self.usage = usage;
            }
            content => self.content(&content, out)?,
        }
        Ok(())
    }

    /// The last event of an answer that broke off: an error, and no end mark.
    pub(crate) fn fail(&mut self, refusal: &Refusal, out: &mut Vec<u8>) {
        self.state = State::Over;
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&error::body(refusal, self.show.request));
        out.extend_from_slice(b"\n\n");
    }

    fn start(&mut self, started: &Started, out: &mut Vec<u8>) -> Result<(), Error> {
        if !matches!(self.state, State::New) {
            return Err(disorder("a second start"));
        }
        let served = started.served.as_ref().ok_or_else(|| disorder("a start that does not say who answers"))?;
        self.state = State::Open(Chunks::new(started, served, &self.show));
        self.choice(0, out).map(|_| ())
    }

    fn content(&mut self, content: &Kind, out: &mut Vec<u8>) -> Result<(), Error> {
        match content {
            Kind::TextDelta(delta) => {
                self.choice(delta.choice, out)?;
                self.chunks()?.text("content", delta, out);
            }
            Kind::ThinkingDelta(delta) if self.show.thinking == Thinking::Shown => {
                self.choice(delta.choice, out)?;
                self.chunks()?.text("reasoning_content", delta, out);
            }
            Kind::RefusalDelta(delta) => {
                self.choice(delta.choice, out)?;
                self.chunks()?.text("refusal", delta, out);
            }
            Kind::ToolStart(start) => {
                self.choice(start.choice, out)?.n_calls += 1;
                self.chunks()?.tool_start(start, out);
            }
            Kind::ToolDelta(delta) => {
                if self.choice(delta.choice, out)?.n_calls == 0 {
                    return Err(disorder("arguments before their call"));
                }
                self.chunks()?.tool_delta(delta, out);
            }
            Kind::ChoiceEnd(end) => self.end(*end, out)?,
            _ => {
                self.chunks()?;
            }
        }
        Ok(())
    }

    /// A choice that is still open; its first mention opens it.
    fn choice(&mut self, index: u32, out: &mut Vec<u8>) -> Result<&mut Choice, Error> {
        let State::Open(chunks) = &self.state else { return Err(disorder("content outside the answer")) };
        let position = index as usize;
        if position >= MAX_CHOICES {
            return Err(disorder("too many choices"));
        }
        if self.choices.len() <= position {
            self.choices.resize(position + 1, Choice::default());
        }
        let choice = &mut self.choices[position];
        if choice.ended {
            return Err(disorder("content behind the end of its choice"));
        }
        if !choice.begun {
            choice.begun = true;
            chunks.role(index, out);
        }
        Ok(choice)
    }

    fn end(&mut self, end: ChoiceEnd, out: &mut Vec<u8>) -> Result<(), Error> {
        let choice = self.choice(end.choice, out)?;
        choice.ended = true;
        let reason = answer::finish_reason(end.finish_reason(), choice.n_calls);
        self.chunks()?.end(end.choice, reason, out);
        Ok(())
    }

    fn finish(&mut self, served: &Served, out: &mut Vec<u8>) -> Result<(), Error> {
        let chunks = self.chunks()?;
        if self.choices.iter().any(|choice| choice.begun && !choice.ended) {
            return Err(disorder("an answer finished in the middle of a choice"));
        }
        if self.show.usage {
            let degraded = served::degraded(served, &self.show.declared);
            let busy = self.show.busy + Duration::from_micros(served.overhead_us);
            chunks.usage(&self.usage, served, &degraded, busy, out);
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        self.state = State::Over;
        Ok(())
    }

    fn chunks(&self) -> Result<&Chunks, Error> {
        match &self.state {
            State::Open(chunks) => Ok(chunks),
            State::New | State::Over => Err(disorder("content outside the answer")),
        }
    }
}

/// The failure that a stream reports, as a refusal.
fn failure(failed: Failed) -> Refusal {
    let code = match failed.code {
        3 | 11 => Code::Invalid,
        4 => Code::Timeout,
        8 => Code::Exhausted,
        14 => Code::Unavailable,
        _ if matches!(failed.reason.as_str(), "" | "INTERNAL") => Code::Internal,
        _ => Code::Unavailable,
    };
    Error::new(code, failed.reason, failed.message).into()
}

fn disorder(what: &'static str) -> Error {
    Error::internal(format!("the stream is out of order: {what}"))
}

#[cfg(test)]
mod tests;
