//! The account of one request: counted while it is answered, measured when the last byte of the answer is gone, and
//! also when the client left before.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use ::metrics::Gauge;
use axum::body::{Body, HttpBody};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body::{Frame, SizeHint};
use manifold_core::RequestId;
use manifold_runtime::telemetry::{self, Scope};
use tokio::time::Instant;
use tracing::Span;

use crate::guard::Line;
use crate::limit::Met;
use crate::measure::{self, Delivery};
use crate::routes::Operation;

/// Requests being answered: the number behind the cap, and the gauge that shows it.
#[derive(Debug)]
pub(crate) struct InFlight {
    count: AtomicUsize,
    gauge: Gauge,
}

impl InFlight {
    /// None yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), gauge: measure::in_flight() })
    }

    /// How many, this one included.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

/// The request in its trace.
pub(crate) struct Traced {
    pub(crate) method: Method,
    pub(crate) span: Span,
    pub(crate) scope: Scope,
}

/// The account of one request; closed when dropped.
pub(crate) struct Record {
    pub(crate) request: RequestId,
    pub(crate) client: IpAddr,
    pub(crate) started: Instant,
    pub(crate) operation: Option<Arc<Operation>>,
    pub(crate) delivery: Delivery,
    /// The limits that it met; it holds its places among requests at once to the end.
    pub(crate) met: Met,
    traced: Traced,
    status: Option<StatusCode>,
    in_flight: Arc<InFlight>,
    line: Arc<Line>,
}

impl Record {
    /// A request has come.
    pub(crate) fn open(
        request: RequestId,
        client: IpAddr,
        traced: Traced,
        in_flight: &Arc<InFlight>,
        line: &Arc<Line>,
    ) -> Self {
        line.begin();
        in_flight.count.fetch_add(1, Ordering::Relaxed);
        in_flight.gauge.increment(1.0);
        let started = Instant::now();
        let (in_flight, line) = (Arc::clone(in_flight), Arc::clone(line));
        Self {
            request,
            client,
            started,
            operation: None,
            delivery: Delivery::Whole,
            met: Met::default(),
            traced,
            status: None,
            in_flight,
            line,
        }
    }

    /// The answer stands; its body keeps the account open.
    pub(crate) fn follow(mut self, response: http::Response<Body>) -> http::Response<Tracked> {
        self.status = Some(response.status());
        response.map(|body| Tracked { body, _record: self })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.line.end();
        self.in_flight.count.fetch_sub(1, Ordering::Relaxed);
        self.in_flight.gauge.decrement(1.0);
        let took = self.started.elapsed();
        let status = self.status.map_or(measure::ABANDONED, |status| status.as_u16());
        match &self.operation {
            Some(operation) => operation.durations.record(status, self.delivery, took),
            None => measure::record_unmatched(status, took),
        }
        let route = self.operation.as_ref().map_or("", |operation| operation.route.as_str());
        let Traced { method, span, scope } = &self.traced;
        telemetry::end_request(span, method, route, status);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        scope.enter(|| tracing::debug!(client = %self.client, route, status, took_us, "request answered"));
    }
}

/// The body of an answer, with the account of its request.
pub(crate) struct Tracked {
    body: Body,
    _record: Record,
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
