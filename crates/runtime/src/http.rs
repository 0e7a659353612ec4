//! The only code that sends bytes out: pooled, timed by phase, limited in size, safe against forged targets.
//! It never follows a redirect, never uses a proxy, never sends again what may have arrived.

mod body;
mod connect;
mod connection;
mod egress;
mod inbound;
mod pool;
mod tls;
mod wait;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::USER_AGENT;
use manifold_core::Result;
use tokio::time::Instant;
use tower::{BoxError, Service, service_fn};
use tower_http::decompression::Decompression;
use tracing::Instrument;

use crate::{lanes, telemetry};
use body::Tracked;
use connect::Connector;
use egress::{Egress, Way};
pub use inbound::Inbound;
use pool::Pool;
use wait::Timer;

const AGENT: HeaderValue = HeaderValue::from_static(concat!("manifold/", env!("CARGO_PKG_VERSION")));

/// What the client needs to know.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// `host:port` that untrusted URLs may name although the address is not public.
    pub allow: Vec<String>,
    /// How long a connection may take, TLS included.
    pub connect_timeout: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { allow: Vec::new(), connect_timeout: Duration::from_secs(5) }
    }
}

/// The outbound client. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    /// One per lane, so that a call never leaves the thread of its caller; the first is for all other threads.
    lanes: Arc<[Lane]>,
}

/// Connections of one lane.
#[derive(Debug)]
struct Lane {
    /// Connects wherever the operator says.
    direct: Pool,
    /// Connects to public addresses only; checked after DNS, with the very addresses that are then used.
    guarded: Pool,
    egress: Arc<Egress>,
}

/// One request on its way out.
#[derive(Debug)]
pub struct Outbound {
    /// Absolute URL, headers and body.
    pub request: http::Request<Bytes>,
    /// Who chose the URL.
    pub trust: Trust,
    /// When all has to be over, the body of the answer included.
    pub deadline: Instant,
    /// How long the head of the answer may take.
    pub first_byte: Duration,
    /// How long the body of the answer may pause.
    pub idle: Duration,
    /// How large the body of the answer may be, after decompression.
    pub max_body: u64,
    /// Tells whether the request may have reached the other side.
    pub sent: Sent,
}

/// Who chose the URL of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The operator, in file or environment: http and private addresses are fine.
    Operator,
    /// Somebody who calls an API: public addresses only, or those the operator allows.
    Untrusted,
}

/// Whether a request went out. Set when its body is asked for, which is when its head is being written; not set when no
/// connection came about. A request without body is never asked for it: it counts as sent until connecting fails.
#[derive(Clone, Debug, Default)]
pub struct Sent(Arc<AtomicU8>);

const WAITING: u8 = 0;
const SENT: u8 = 1;
const SETTLED: u8 = 2;

impl Sent {
    /// Not yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the request may have reached the other side.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire) == SENT
    }

    /// Whether the request went out, once and for all: one that did not cannot go out any more.
    pub fn settle(&self) -> bool {
        self.0.compare_exchange(WAITING, SETTLED, Ordering::AcqRel, Ordering::Acquire) == Err(SENT)
    }

    /// The request goes out now; false if it was settled before.
    fn set(&self) -> bool {
        self.0.compare_exchange(WAITING, SENT, Ordering::AcqRel, Ordering::Acquire) != Err(SETTLED)
    }

    fn clear(&self) {
        self.0.store(WAITING, Ordering::Release);
    }
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The connection.
    Connect,
    /// The head of the answer.
    FirstByte,
    /// The next part of the body.
    Idle,
    /// Everything together.
    Deadline,
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Connect => "the connection",
            Self::FirstByte => "the first byte",
            Self::Idle => "the next part of the body",
            Self::Deadline => "the whole answer",
        })
    }
}

/// Why there is no answer, or no end of it.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The URL may not be called.
    #[error("{0}")]
    Denied(String),
    /// No connection came about.
    #[error("no connection could be made")]
    Connect(#[source] BoxError),
    /// Something took too long.
    #[error("waiting for {0} took too long")]
    Timeout(Phase),
    /// The connection broke, or what came is not HTTP.
    #[error("the connection broke")]
    Broken(#[source] BoxError),
    /// The body is larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
}

impl Client {
    /// A client with its own connections.
    pub fn new(config: &HttpConfig) -> Result<Self> {
        let egress = Arc::new(Egress::new(&config.allow)?);
        let tls = tls::config()?;
        let pool = |way| Pool::new(Connector::new(config, &tls, way));
        let lane = |_| Lane { direct: pool(Way::Direct), guarded: pool(Way::Guarded), egress: Arc::clone(&egress) };
        Ok(Self { lanes: (0..=lanes::count()).map(lane).collect() })
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(&self, outbound: Outbound) -> Result<Inbound, SendError> {
        let Outbound { mut request, trust, deadline, first_byte, idle, max_body, sent } = outbound;
        let lane = &self.lanes[lanes::current() % self.lanes.len()];
        let pool = match lane.egress.admit(trust, request.uri_mut())? {
            Way::Direct => &lane.direct,
            Way::Guarded => &lane.guarded,
        };
        let span = telemetry::outbound_span(request.method(), request.uri());
        request.headers_mut().entry(USER_AGENT).or_insert(AGENT);
        if request.body().is_empty() {
            sent.set();
        }
        let request = request.map(|bytes| Tracked::new(bytes, sent.clone()));
        // Boxed, because it is moved with everything around it.
        let call = Decompression::new(service_fn(|request| Box::pin(pool.send(request)))).call(request);
        let until = deadline.min(Instant::now() + first_byte);
        let mut timer = Timer::new(until);
        let response = match timer.wait(until, call.instrument(span.clone())).await {
            Some(Ok(response)) => response,
            Some(Err(error)) => {
                if !matches!(error, SendError::Broken(_)) {
                    sent.clear();
                }
                return Err(error);
            }
            None if until == deadline => return Err(SendError::Timeout(Phase::Deadline)),
            None if sent.get() => return Err(SendError::Timeout(Phase::FirstByte)),
            None => return Err(SendError::Timeout(Phase::Connect)),
        };
        // An answer may come before the request was read to its end.
        sent.set();
        span.record("http.response.status_code", i64::from(response.status().as_u16()));
        let (head, body) = response.into_parts();
        Ok(Inbound::new(head, body, inbound::Limits { deadline, idle, max_body }, timer, span))
    }
}
