//! The only code that sends bytes out: pooled, timed by phase, limited in size, safe against forged targets.
//! It never follows a redirect, never uses a proxy, never retries.

mod body;
mod egress;
mod inbound;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use manifold_core::{Code, Result, ResultExt};
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

use crate::{lanes, telemetry};
use body::Tracked;
use egress::{Egress, PublicOnly, Way};
pub use inbound::Inbound;

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

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
    pools: Arc<[Pool]>,
    egress: Arc<Egress>,
}

/// Connections of one lane.
#[derive(Debug)]
struct Pool {
    /// Connects wherever the operator says.
    direct: reqwest::Client,
    /// Connects to public addresses only; checked after DNS, with the very addresses that are then used.
    guarded: reqwest::Client,
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
    Connect(#[source] reqwest::Error),
    /// Something took too long.
    #[error("waiting for {0} took too long")]
    Timeout(Phase),
    /// The connection broke, or what came is not HTTP.
    #[error("the connection broke")]
    Broken(#[source] reqwest::Error),
    /// The body is larger than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
}

impl Client {
    /// A client with its own connections.
    pub fn new(config: &HttpConfig) -> Result<Self> {
        let egress = Arc::new(Egress::new(&config.allow)?);
        let tls = tls::config()?;
        let pools = (0..=lanes::count()).map(|_| Pool::new(config, &tls)).collect::<Result<_>>()?;
        Ok(Self { pools, egress })
    }

    /// Sends a request and waits for the head of the answer.
    pub async fn send(&self, outbound: Outbound) -> Result<Inbound, SendError> {
        let Outbound { request, trust, deadline, first_byte, idle, max_body, sent } = outbound;
        let empty = request.body().is_empty();
        let request = request.map(|bytes| reqwest::Body::wrap(Tracked::new(bytes, sent.clone())));
        let request = reqwest::Request::try_from(request)
            .map_err(|error| SendError::Denied(format!("the URL cannot be read: {}", error.without_url())))?;
        let pool = &self.pools[lanes::current() % self.pools.len()];
        let client = match self.egress.way(trust, request.url())? {
            Way::Direct => &pool.direct,
            Way::Guarded => &pool.guarded,
        };
        let span = telemetry::outbound_span(request.method(), request.url().host_str().unwrap_or_default());
        if empty {
            sent.set();
        }
        let until = deadline.min(Instant::now() + first_byte);
        let answer = timeout_at(until, client.execute(request).instrument(span.clone())).await;
        let response = match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                if error.is_connect() {
                    sent.clear();
                }
                return Err(explain(error));
            }
            Err(_) if until == deadline => return Err(SendError::Timeout(Phase::Deadline)),
            Err(_) if sent.get() => return Err(SendError::Timeout(Phase::FirstByte)),
            Err(_) => return Err(SendError::Timeout(Phase::Connect)),
        };
        // An answer may come before the request was read to its end.
        sent.set();
        span.record("http.response.status_code", i64::from(response.status().as_u16()));
        let (head, body) = http::Response::<reqwest::Body>::from(response).into_parts();
        Ok(Inbound::new(head, body, inbound::Limits { deadline, idle, max_body }, span))
    }
}

impl Pool {
    fn new(config: &HttpConfig, tls: &rustls::ClientConfig) -> Result<Self> {
        let direct = builder(config, tls.clone()).build().or_err(Code::Internal, "make the http client")?;
        let guarded = builder(config, tls.clone()).dns_resolver(PublicOnly);
        let guarded = guarded.build().or_err(Code::Internal, "make the http client")?;
        Ok(Self { direct, guarded })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the home of the outbound client")]
fn builder(config: &HttpConfig, tls: rustls::ClientConfig) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .user_agent(concat!("manifold/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(config.connect_timeout)
        .pool_idle_timeout(Duration::from_secs(30))
        .tcp_keepalive(Duration::from_secs(30))
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(10))
}

/// URLs are taken out of every error: they may hold keys.
fn explain(error: reqwest::Error) -> SendError {
    if let Some(denied) = egress::denied(&error) {
        return SendError::Denied(denied);
    }
    match (error.is_connect(), error.is_timeout()) {
        (true, true) => SendError::Timeout(Phase::Connect),
        (true, false) => SendError::Connect(error.without_url()),
        (false, _) => SendError::Broken(error.without_url()),
    }
}
