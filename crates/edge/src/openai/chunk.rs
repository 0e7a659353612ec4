//! The events of an OpenAI stream as bytes. What may follow what is decided in `stream`.

use std::io::Write;
use std::time::Duration;

use manifold_contract::ai::v1::{Served, Started, TextDelta, ToolDelta, ToolStart, Usage};

use super::answer::{self, TokenUsage};
use super::served;
use super::stream::Show;

/// What all events of one stream have in common.
pub(crate) struct Chunks {
    /// `data: {"id":…,"object":…,"created":…,"model":…,`
    prefix: Vec<u8>,
    /// What stands behind the choices.
    suffix: &'static [u8],
}

impl Chunks {
    /// Events of the answer that `started` opens. With usage wanted, every event but the last says `null`.
    pub(crate) fn new(started: &Started, served: &Served, show: &Show) -> Self {
        let mut prefix = Vec::with_capacity(128);
        prefix.extend_from_slice(b"data: {\"id\":");
        json(&mut prefix, &started.id);
        prefix.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        write(&mut prefix, format_args!("{}", started.created));
        prefix.extend_from_slice(b",\"model\":");
        json(&mut prefix, &served::model(served));
        prefix.push(b',');
        let suffix: &[u8] = if show.usage { b"],\"usage\":null}\n\n" } else { b"]}\n\n" };
        Self { prefix, suffix }
    }

    /// The first event of a choice.
    pub(crate) fn role(&self, choice: u32, out: &mut Vec<u8>) {
        self.open(choice, out);
        out.extend_from_slice(b"{\"role\":\"assistant\",\"content\":\"\"}");
        self.close("", None, out);
    }

    /// A piece of text; `field` says of what.
    pub(crate) fn text(&self, field: &str, delta: &TextDelta, out: &mut Vec<u8>) {
        self.open(delta.choice, out);
        out.extend_from_slice(b"{\"");
        out.extend_from_slice(field.as_bytes());
        out.extend_from_slice(b"\":");
        json(out, &delta.text);
        out.push(b'}');
        self.close(&delta.logprobs_json, None, out);
    }

    /// A call begins.
    pub(crate) fn tool_start(&self, start: &ToolStart, out: &mut Vec<u8>) {
        self.open(start.choice, out);
        write(out, format_args!("{{\"tool_calls\":[{{\"index\":{},\"id\":", start.index));
        json(out, &start.id);
        out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
        json(out, &start.name);
        out.extend_from_slice(b",\"arguments\":\"\"}}]}");
        self.close("", None, out);
    }

    /// A piece of its arguments.
    pub(crate) fn tool_delta(&self, delta: &ToolDelta, out: &mut Vec<u8>) {
        self.open(delta.choice, out);
        write(out, format_args!("{{\"tool_calls\":[{{\"index\":{},\"function\":{{\"arguments\":", delta.index));
        json(out, &delta.arguments_json);
        out.extend_from_slice(b"}}]}");
        self.close("", None, out);
    }

    /// A choice ends.
    pub(crate) fn end(&self, choice: u32, reason: &'static str, out: &mut Vec<u8>) {
        self.open(choice, out);
        out.extend_from_slice(b"{}");
        self.close("", Some(reason), out);
    }

    /// The last event before the end mark: tokens, and what the answer cost.
    pub(crate) fn usage(&self, usage: &Usage, served: &Served, degraded: &str, busy: Duration, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"\"choices\":[],\"usage\":");
        serde_json::to_writer(&mut *out, &TokenUsage::from(usage)).expect("numbers always serialise");
        out.extend_from_slice(b",\"manifold\":{\"cost\":");
        json(out, &served::cost(served));
        write(out, format_args!(",\"attempts\":{},\"overhead_ms\":{}", served.n_attempts, served::milliseconds(busy)));
        out.extend_from_slice(b",\"degraded\":");
        json(out, degraded);
        out.extend_from_slice(b"}}\n\n");
    }

    fn open(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        write(out, format_args!("\"choices\":[{{\"index\":{choice},\"delta\":"));
    }

    fn close(&self, logprobs: &str, finish: Option<&'static str>, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"logprobs\":");
        out.extend_from_slice(answer::raw(logprobs).map_or("null", |raw| raw.get()).as_bytes());
        out.extend_from_slice(b",\"finish_reason\":");
        match finish {
            Some(reason) => json(out, reason),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b'}');
        out.extend_from_slice(self.suffix);
    }
}

/// Text as a JSON string: line ends and quotes inside it cannot break the framing.
fn json(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("text always serialises");
}

fn write(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("writing to memory does not fail");
}
