//! Where traces begin and the three kinds of span: a public request, an rpc, an outbound call.
//! A span is made only if an exporter wants this trace or debug logging is on; otherwise it costs a comparison.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use manifold_core::TraceContext;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use tracing::{Span, debug_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Spans that go to the exporter. Those of other traces have the target `manifold::span` and are for debug logs only.
pub(crate) const EXPORTED: &str = "manifold::trace";

/// How many traces per second may be recorded only because the client asked.
const MAX_HINTS: u64 = 10;

static SAMPLER: OnceLock<Sampler> = OnceLock::new();

/// Makes one span of the three kinds; the target has to be a literal, hence a macro.
macro_rules! span {
    ($exported:expr, $($fields:tt)*) => {
        match $exported {
            true => debug_span!(target: "manifold::trace", $($fields)*),
            false => debug_span!(target: "manifold::span", $($fields)*),
        }
    };
}

/// Which traces are recorded.
#[derive(Debug)]
pub(crate) struct Sampler {
    /// Of 2^63.
    threshold: u64,
    started_at: Instant,
    /// Seconds since the start in the upper half, hints honoured in that second in the lower.
    hints: AtomicU64,
}

impl Sampler {
    pub(crate) fn new(ratio: f64) -> Self {
        let threshold = (ratio.clamp(0.0, 1.0) * (1u64 << 63) as f64) as u64;
        Self { threshold, started_at: Instant::now(), hints: AtomicU64::new(0) }
    }

    /// Decides for all traces that begin in this process. The first call stays.
    pub(crate) fn install(self) {
        SAMPLER.get_or_init(|| self);
    }

    /// The same choice in every process for the same trace, as OpenTelemetry's ratio sampler makes it.
    fn chooses(&self, trace_id: u128) -> bool {
        ((trace_id as u64) >> 1) < self.threshold
    }

    fn honours_hint(&self) -> bool {
        let second = self.started_at.elapsed().as_secs();
        let updated =
            self.hints.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |hints| match hints >> 32 == second {
                true if hints & 0xffff_ffff >= MAX_HINTS => None,
                true => Some(hints + 1),
                false => Some(second << 32 | 1),
            });
        updated.is_ok()
    }
}

/// The trace of a public request: the client's own if it named one. Whether it is recorded is our decision; the client's
/// wish is a hint that is honoured a few times per second.
pub fn start_trace(incoming: Option<TraceContext>) -> TraceContext {
    let trace = incoming.unwrap_or_else(TraceContext::root);
    let sampled = match SAMPLER.get() {
        Some(sampler) => sampler.chooses(trace.trace_id) || (trace.sampled && sampler.honours_hint()),
        None => false,
    };
    TraceContext { sampled, ..trace }
}

/// The span of a public request. `trace` becomes the span's own position.
pub fn request_span(method: &http::Method, trace: &mut TraceContext) -> Span {
    let span = span!(
        trace.sampled,
        "request",
        otel.kind = "server",
        otel.name = method.as_str(),
        otel.status_code = tracing::field::Empty,
        http.request.method = method.as_str(),
        http.route = tracing::field::Empty,
        http.response.status_code = tracing::field::Empty,
    );
    adopt(&span, trace);
    span
}

/// Notes on the span of a public request how it ended. The route is the matched pattern, never the path.
pub fn end_request(span: &Span, method: &http::Method, route: &str, status: u16) {
    if span.is_disabled() {
        return;
    }
    span.context().span().update_name(format!("{method} {route}"));
    span.record("http.route", route);
    span.record("http.response.status_code", i64::from(status));
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// The span of an rpc where it runs. `trace` becomes the span's own position.
pub fn rpc_span(rpc: &str, trace: &mut TraceContext) -> Span {
    let span = span!(
        trace.sampled,
        "rpc",
        otel.kind = "server",
        otel.name = rpc,
        otel.status_code = tracing::field::Empty,
        rpc.system = "grpc",
        rpc.grpc.status_code = tracing::field::Empty,
    );
    adopt(&span, trace);
    span
}

/// The span of an outbound call, below the span that is current. Only the host is told: paths and queries hold secrets.
pub fn outbound_span(method: &http::Method, target: &http::Uri) -> Span {
    let parent = Span::current();
    let exported = parent.metadata().is_some_and(|metadata| metadata.target() == EXPORTED);
    span!(
        exported,
        parent: &parent,
        "outbound",
        otel.kind = "client",
        otel.name = method.as_str(),
        otel.status_code = tracing::field::Empty,
        http.request.method = method.as_str(),
        server.address = target.host().unwrap_or_default(),
        http.response.status_code = tracing::field::Empty,
    )
}

/// Puts the span below its parent, which may be in another process, and moves the position to the span.
fn adopt(span: &Span, trace: &mut TraceContext) {
    if span.is_disabled() || !trace.sampled {
        return;
    }
    let parent = Context::new().with_remote_span_context(to_otel(trace));
    if span.set_parent(parent).is_err() {
        return;
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    if own.is_valid() {
        trace.span_id = u64::from_be_bytes(own.span_id().to_bytes());
    }
}

fn to_otel(trace: &TraceContext) -> SpanContext {
    let (trace_id, span_id) = (TraceId::from(trace.trace_id), SpanId::from(trace.span_id));
    SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, true, TraceState::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_chooses_by_trace_id() {
        let sampler = Sampler::new(0.5);

        assert!(sampler.chooses(1));
        assert!(!sampler.chooses(u128::from(u64::MAX)));
    }

    #[test]
    fn all_and_nothing_are_exact() {
        for id in [0, 1, u128::from(u64::MAX), u128::MAX] {
            assert!(Sampler::new(1.0).chooses(id));
            assert!(!Sampler::new(0.0).chooses(id));
        }
    }

    #[test]
    fn a_flood_of_hints_is_not_honoured() {
        let sampler = Sampler::new(0.0);

        let n_honoured = (0..1_000).filter(|_| sampler.honours_hint()).count();

        // A second may pass while the test runs.
        assert!((10..=20).contains(&n_honoured), "{n_honoured}");
    }

    #[test]
    fn a_span_nobody_wants_is_no_span_and_leaves_the_trace_alone() {
        let mut trace = TraceContext::root();
        let before = trace;

        let span = rpc_span("x.Y/Z", &mut trace);

        assert!(span.is_disabled());
        assert_eq!(trace, before);
    }
}
