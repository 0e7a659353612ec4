//! The settle guard of one request. Whatever happens to the caller, dropping it hands the finished rows and their event to
//! the writer, without awaiting; the rows land in one transaction or not at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use manifold_bus::Cause;
use manifold_contract::ai::v1::{self as ai, chat_stream_response::Kind};
use manifold_core::{Error, Nanos, Timestamp};
use manifold_runtime::CallContext;
use manifold_runtime::http::Sent;
use manifold_store::Group;

use crate::Router;
use crate::classify::{Class, Failure};
use crate::events;
use crate::plan::Needs;
use crate::price::{self, PriceState, estimate_tokens};
use crate::provider::Mode;
use crate::store::{AttemptRow, RequestRow};
use crate::view::Candidate;

/// Characters of a model's name that are kept: callers write there what they like.
const MAX_NAME: usize = 256;

/// What is being asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// `chat` or `embed`.
    pub operation: &'static str,
    /// The model as the caller named it.
    pub model: &'a str,
    /// Whether the answer is streamed.
    pub stream: bool,
    /// Tokens of the prompt, estimated.
    pub input_tokens: u64,
}

impl<'a> Asked<'a> {
    /// A chat, whole or streamed.
    pub fn chat(request: &'a ai::ChatRequest, needs: &Needs, mode: Mode) -> Self {
        let stream = mode == Mode::Stream;
        Self { operation: "chat", model: &request.model, stream, input_tokens: needs.input_tokens }
    }
}

/// The guard. One per request, from validation to the last byte.
pub struct Ledger {
    router: Router,
    context: Arc<CallContext>,
    row: RequestRow,
    attempts: Vec<AttemptRow>,
    current: Option<Current>,
    /// Whose turn it is or was last.
    last: Option<Candidate>,
    began: Instant,
    upstream: Duration,
    input_estimate: u64,
    state: PriceState,
}

/// The attempt that is under way.
struct Current {
    sent: Sent,
    at: Timestamp,
    began: Instant,
    status: Option<u16>,
    usage: Option<ai::Usage>,
    reported: Option<Nanos>,
    output_bytes: usize,
    ttft: Option<Duration>,
}

impl Ledger {
    /// Opens the account of a request.
    pub fn open(router: &Router, context: &Arc<CallContext>, asked: Asked<'_>) -> Self {
        let row = RequestRow {
            id: context.request.0,
            tenant_id: context.principal.tenant.0,
            created_at: router.clock.now(),
            key_id: context.principal.key.map(|key| key.0),
            dialect: "openai",
            operation: asked.operation,
            requested: shorten(asked.model),
            stream: asked.stream,
            outcome: "cancelled",
            class: String::new(),
            n_attempts: 0,
            input_tokens: 0,
            output_tokens: 0,
            cost_nanos: Some(0),
            price_state: PriceState::Free.as_str(),
            ttft_us: None,
            duration_us: 0,
            overhead_us: 0,
            trace_id: context.trace.hex_id(),
        };
        Self {
            router: router.clone(),
            context: Arc::clone(context),
            row,
            attempts: Vec::new(),
            current: None,
            last: None,
            began: Instant::now(),
            upstream: Duration::ZERO,
            input_estimate: asked.input_tokens,
            state: PriceState::Free,
        }
    }

    /// An attempt is about to be sent; `sent` tells whether it was.
    pub fn begin(&mut self, candidate: &Candidate, sent: Sent) {
        self.last = Some(candidate.clone());
        self.current = Some(Current {
            sent,
            at: self.router.clock.now(),
            began: Instant::now(),
            status: None,
            usage: None,
            reported: None,
            output_bytes: 0,
            ttft: None,
        });
    }

    /// A pause before the next attempt, which is not our own time.
    pub fn paused(&mut self, pause: Duration) {
        self.upstream += pause;
    }

    /// The provider answered with this status.
    pub fn status(&mut self, status: u16) {
        if let Some(current) = &mut self.current {
            current.status = Some(status);
        }
    }

    /// The provider told its usage and perhaps its cost.
    pub fn usage(&mut self, usage: Option<ai::Usage>, reported: Option<Nanos>) {
        if let Some(current) = &mut self.current {
            current.usage = usage.or(current.usage.take());
            current.reported = reported.or(current.reported);
        }
    }

    /// Content arrived; counted in case the provider never tells its usage.
    pub fn content(&mut self, kind: &Kind) {
        if let Some(current) = &mut self.current {
            current.ttft.get_or_insert_with(|| current.began.elapsed());
            current.output_bytes += content_bytes(kind);
        }
    }

    /// The whole content arrived.
    pub fn whole(&mut self, choices: &[ai::Choice]) {
        if let Some(current) = &mut self.current {
            current.ttft.get_or_insert_with(|| current.began.elapsed());
            current.output_bytes += choices.iter().flat_map(|choice| &choice.parts).map(part_bytes).sum::<usize>();
        }
    }

    /// The attempt answered completely.
    pub fn succeed(&mut self) {
        self.close(None);
        self.row.outcome = "ok";
        self.row.class.clear();
    }

    /// The attempt failed.
    pub fn fail(&mut self, failure: &Failure) {
        self.close(Some(failure.class));
        self.row.outcome = "failed";
        self.row.class = failure.class.as_str().to_owned();
    }

    /// The request failed without a failing attempt.
    pub fn refuse(&mut self, error: &Error) {
        self.row.outcome = "failed";
        self.row.class = error.reason().to_ascii_lowercase();
    }

    /// Who answered and what it took so far, for the caller.
    pub fn served(&self, degraded: &[&'static str]) -> ai::Served {
        let running = self.current.as_ref().map_or(Duration::ZERO, |current| current.began.elapsed());
        let overhead = self.began.elapsed().saturating_sub(self.upstream + running);
        let (provider, model, data_use) = match &self.last {
            Some(candidate) => (
                String::from(&*candidate.endpoint.id),
                String::from(&*candidate.model.name),
                if candidate.endpoint.trains { "trains".to_owned() } else { String::new() },
            ),
            None => (String::new(), String::new(), String::new()),
        };
        ai::Served {
            provider,
            model,
            n_attempts: u32::try_from(self.attempts.len()).unwrap_or(u32::MAX) + u32::from(self.current.is_some()),
            cost_nanos: self.row.cost_nanos,
            price_state: self.state.as_str().to_owned(),
            overhead_us: micros(overhead).unsigned_abs(),
            degraded: degraded.iter().map(|word| (*word).to_owned()).collect(),
            data_use,
        }
    }

    /// Usage of the last closed attempt, as it was settled.
    pub fn settled_usage(&self) -> ai::Usage {
        self.attempts.last().map_or_else(ai::Usage::default, |row| ai::Usage {
            input_tokens: row.input_tokens.unsigned_abs(),
            cached_tokens: row.cached_tokens.unsigned_abs(),
            output_tokens: row.output_tokens.unsigned_abs(),
            reasoning_tokens: row.reasoning_tokens.unsigned_abs(),
        })
    }

    /// Closes the current attempt. One that never reached the wire and did not fail leaves no trace.
    fn close(&mut self, failed: Option<Class>) {
        let (Some(current), Some(candidate)) = (self.current.take(), self.last.clone()) else {
            return;
        };
        let duration = current.began.elapsed();
        self.upstream += duration;
        if failed == Some(Class::Cancelled) && !current.sent.settle() {
            return;
        }
        let (usage, source) = settle(&current, failed, self.input_estimate);
        let (cost, state) = match source {
            "none" => (Some(Nanos(0)), PriceState::Free),
            _ => price::cost(&candidate.model.prices, candidate.endpoint.tier, &usage, current.reported),
        };
        self.add(&usage, cost, state);
        candidate.model.meters.count(failed, duration, &usage, cost);
        self.row.ttft_us = current.ttft.map(micros).or(self.row.ttft_us);
        self.attempts.push(AttemptRow {
            request_id: self.row.id,
            n: self.attempts.len() as i64 + 1,
            tenant_id: self.row.tenant_id,
            created_at: current.at,
            provider: candidate.endpoint.id.clone(),
            model: candidate.model.name.clone(),
            tier: candidate.endpoint.tier.as_str(),
            class: failed.map_or("ok", Class::as_str),
            status: current.status.map(i64::from),
            input_tokens: tokens(usage.input_tokens),
            cached_tokens: tokens(usage.cached_tokens),
            output_tokens: tokens(usage.output_tokens),
            reasoning_tokens: tokens(usage.reasoning_tokens),
            usage_source: source,
            cost_nanos: cost.map(|nanos| nanos.0),
            price_state: state.as_str(),
            ttft_us: current.ttft.map(micros),
            duration_us: micros(duration),
        });
    }

    fn add(&mut self, usage: &ai::Usage, cost: Option<Nanos>, state: PriceState) {
        self.row.input_tokens += tokens(usage.input_tokens);
        self.row.output_tokens += tokens(usage.output_tokens);
        self.row.cost_nanos = match (self.row.cost_nanos, cost) {
            (Some(sum), Some(cost)) => Some(Nanos(sum).plus(cost).0),
            _ => None,
        };
        if self.row.cost_nanos.is_none() {
            self.state = PriceState::Unpriced;
        } else if state != PriceState::Free {
            self.state = state;
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        self.close(Some(Class::Cancelled));
        let duration = self.began.elapsed();
        self.row.n_attempts = self.attempts.len() as i64;
        self.row.price_state = self.state.as_str();
        self.row.duration_us = micros(duration);
        self.row.overhead_us = micros(duration.saturating_sub(self.upstream));
        let (provider, model) = self.last.as_ref().map_or(("", ""), |last| (&*last.endpoint.id, &*last.model.name));
        let draft = events::request_completed(&self.row, provider, model);
        let cause = Cause::Request {
            principal: &self.context.principal,
            request: self.context.request,
            trace: &self.context.trace,
        };
        let mut group = Group::new().with(std::mem::take(&mut self.row));
        for attempt in self.attempts.drain(..) {
            group.add(attempt);
        }
        match self.router.outbox.row(draft, &cause) {
            Ok(event) => group.add(event),
            Err(error) => tracing::error!(error = %error.chain(), "usage event cannot be written"),
        }
        self.router.rows.push(group);
    }
}

/// The usage to settle and where it comes from. What broke off after it was sent is settled by our own count; what the
/// provider refused costs nothing.
fn settle(current: &Current, failed: Option<Class>, input_estimate: u64) -> (ai::Usage, &'static str) {
    match current.usage {
        // Ollama leaves out the prompt when it had it in its cache.
        Some(usage) if usage.input_tokens == 0 => {
            return (ai::Usage { input_tokens: input_estimate, ..usage }, "counted");
        }
        Some(usage) => return (usage, "provider"),
        None => {}
    }
    let counted = match failed {
        None => true,
        Some(Class::Interrupted | Class::Cancelled | Class::Timeout | Class::Malformed) => current.sent.get(),
        Some(_) => false,
    };
    if !counted {
        return (ai::Usage::default(), "none");
    }
    let usage = ai::Usage {
        input_tokens: input_estimate,
        output_tokens: estimate_tokens(current.output_bytes),
        ..Default::default()
    };
    (usage, "counted")
}

/// As much of a name as is worth keeping.
fn shorten(name: &str) -> String {
    let end = name.char_indices().nth(MAX_NAME).map_or(name.len(), |(end, _)| end);
    name[..end].to_owned()
}

fn content_bytes(kind: &Kind) -> usize {
    match kind {
        Kind::TextDelta(delta) | Kind::ThinkingDelta(delta) | Kind::RefusalDelta(delta) => delta.text.len(),
        Kind::ToolStart(start) => start.name.len(),
        Kind::ToolDelta(delta) => delta.arguments_json.len(),
        _ => 0,
    }
}

fn part_bytes(part: &ai::Part) -> usize {
    match &part.kind {
        Some(ai::part::Kind::Text(text) | ai::part::Kind::Thinking(text) | ai::part::Kind::Refusal(text)) => text.len(),
        Some(ai::part::Kind::ToolCall(call)) => call.name.len() + call.arguments_json.len(),
        _ => 0,
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn tokens(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
