//! Which request the running code works for. A log line finds it here even when no span exists, at the price of two
//! writes to a thread-local cell per poll.

use std::cell::Cell;
use std::pin::pin;

use manifold_core::{RequestId, TraceContext};
use tracing::Span;

thread_local! {
    static CURRENT: Cell<Option<(u128, RequestId)>> = const { Cell::new(None) };
}

/// The trace and request of some work, and its span if anybody wants one.
#[derive(Clone, Debug)]
pub struct Scope {
    work: Option<(u128, RequestId)>,
    span: Span,
}

impl Scope {
    /// Work for a request.
    pub fn new(trace: &TraceContext, request: RequestId, span: Span) -> Self {
        Self { work: Some((trace.trace_id, request)), span }
    }

    /// Work for no request in particular; log lines keep what is current.
    pub(crate) fn none() -> Self {
        Self { work: None, span: Span::none() }
    }

    /// What the running code works for.
    pub(crate) fn current() -> Self {
        Self { work: CURRENT.get(), span: Span::current() }
    }

    /// Runs `work` inside.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(own) = self.work else { return work() };
        let _restore = Restore(CURRENT.replace(Some(own)));
        if self.span.is_disabled() {
            return work();
        }
        self.span.in_scope(work)
    }

    /// Runs a future inside.
    pub async fn run<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|ctx| self.enter(|| future.as_mut().poll(ctx))).await
    }

    /// Notes on the span how an rpc ended.
    pub(crate) fn end(&self, code: tonic::Code) {
        if self.span.is_disabled() {
            return;
        }
        self.span.record("rpc.grpc.status_code", code as i32);
        if code != tonic::Code::Ok {
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

/// The trace and request that the running code works for.
pub(crate) fn current() -> Option<(u128, RequestId)> {
    CURRENT.get()
}

/// Puts back what was current, also when the work panics.
struct Restore(Option<(u128, RequestId)>);

impl Drop for Restore {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_inside_work_gives_way_when_it_ends() {
        let request = |n| RequestId(uuid::Uuid::from_u128(n));
        let outer = Scope::new(&TraceContext::root(), request(1), Span::none());
        let inner = Scope::new(&TraceContext::root(), request(2), Span::none());

        let seen = outer.enter(|| (inner.enter(current), current()));

        assert_eq!(seen.0.map(|(_, request)| request), Some(request(2)));
        assert_eq!(seen.1.map(|(_, request)| request), Some(request(1)));
        assert_eq!(current(), None);
    }
}
