//! The events of an OpenAI stream as bytes. What may follow what is decided in `stream`.

use std::time::Duration;

use manifold_contract::ai::v1::{Served, Started, TextDelta, ToolDelta, ToolStart, Usage};

use super::stream::Show;
use super::{answer, print, served};

/// What all events of one stream have in common.
pub(crate) struct Chunks {
    /// `data: {"id":…,"object":…,"created":…,"model":…,"choices":[`
    prefix: Vec<u8>,
    /// What stands behind the choices.
    suffix: &'static [u8],
}

impl Chunks {
    /// Events of the answer that `started` opens. With usage wanted, every event but the last says `null`.
    pub(crate) fn new(started: &Started, served: &Served, show: &Show) -> Self {
        let mut prefix = Vec::with_capacity(128);
        prefix.extend_from_slice(b"data: {\"id\":");
        print::text(&mut prefix, &started.id);
        prefix.extend_from_slice(b",\"object\":\"chat.completion.chunk\",\"created\":");
        print::number(&mut prefix, started.created);
        prefix.extend_from_slice(b",\"model\":");
        print::text(&mut prefix, &served::model(served));
        prefix.extend_from_slice(b",\"choices\":[");
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
        print::text(out, &delta.text);
        out.push(b'}');
        self.close(&delta.logprobs_json, None, out);
    }

    /// A call begins.
    pub(crate) fn tool_start(&self, start: &ToolStart, out: &mut Vec<u8>) {
        self.open(start.choice, out);
        out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
        print::number(out, start.index);
        out.extend_from_slice(b",\"id\":");
        print::text(out, &start.id);
        out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
        print::text(out, &start.name);
        out.extend_from_slice(b",\"arguments\":\"\"}}]}");
        self.close("", None, out);
    }

    /// A piece of its arguments.
    pub(crate) fn tool_delta(&self, delta: &ToolDelta, out: &mut Vec<u8>) {
        self.open(delta.choice, out);
        out.extend_from_slice(b"{\"tool_calls\":[{\"index\":");
        print::number(out, delta.index);
        out.extend_from_slice(b",\"function\":{\"arguments\":");
        print::text(out, &delta.arguments_json);
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
        out.extend_from_slice(b"],\"usage\":");
        print::usage(out, usage);
        out.extend_from_slice(b",\"manifold\":{\"cost\":");
        print::text(out, &served::cost(served));
        out.extend_from_slice(b",\"attempts\":");
        print::number(out, served.n_attempts);
        out.extend_from_slice(b",\"overhead_ms\":");
        out.extend_from_slice(served::milliseconds(busy).as_bytes());
        out.extend_from_slice(b",\"degraded\":");
        print::text(out, degraded);
        out.extend_from_slice(b"}}\n\n");
    }

    fn open(&self, choice: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(b"{\"index\":");
        print::number(out, choice);
        out.extend_from_slice(b",\"delta\":");
    }

    fn close(&self, logprobs: &str, finish: Option<&'static str>, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"logprobs\":");
        out.extend_from_slice(answer::raw(logprobs).map_or("null", |raw| raw.get()).as_bytes());
        out.extend_from_slice(b",\"finish_reason\":");
        print::optional(out, finish);
        out.push(b'}');
        out.extend_from_slice(self.suffix);
    }
}
