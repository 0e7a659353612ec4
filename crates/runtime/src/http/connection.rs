//! One connection and the exchanges on it. HTTP/1.1 carries one at a time, and its caller polls the connection: no task
//! stands between the caller and the socket. HTTP/2 carries many, and a task polls it.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::Executor;
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::task::coop::unconstrained;
use tracing::debug;

use super::body::Tracked;
use super::connect::Stream;

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) enum Connection {
    Single(Box<Single>),
    Shared(http2::SendRequest<Tracked>),
}

/// HTTP/1.1.
pub(super) struct Single {
    sender: http1::SendRequest<Tracked>,
    /// None once it has ended.
    io: Option<http1::Connection<Stream, Tracked>>,
    host: HeaderValue,
}

impl Connection {
    /// Speaks what both sides agreed on.
    pub(super) async fn open(stream: Stream, target: &Uri) -> hyper::Result<Self> {
        if !stream.connected().is_negotiated_h2() {
            let (sender, io) = http1::handshake(stream).await?;
            return Ok(Self::Single(Box::new(Single { sender, io: Some(io), host: host(target) })));
        }
        let (sender, io) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(stream)
            .await?;
        TokioExecutor::new().execute(async move {
            if let Err(error) = io.await {
                debug!(%error, "a shared connection broke");
            }
        });
        Ok(Self::Shared(sender))
    }

    /// Sends a request and waits for the head of the answer. What was not begun comes back with the error.
    pub(super) async fn exchange(
        &mut self,
        mut request: Request<Tracked>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Tracked>>> {
        match self {
            Self::Shared(sender) => sender.try_send_request(request).await,
            Self::Single(single) => {
                request.headers_mut().entry(HOST).or_insert_with(|| single.host.clone());
                let path = request.uri().path_and_query().cloned();
                *request.uri_mut() = path.unwrap_or_else(|| PathAndQuery::from_static("/")).into();
                // It has no waker of its own, so it may not stop only because it was polled often.
                let mut answer = pin!(unconstrained(single.sender.try_send_request(request)));
                std::future::poll_fn(|context| single.poll_for(context, |quiet| answer.as_mut().poll(quiet))).await
            }
        }
    }
}

impl Single {
    /// Polls the connection until `take` has what it waits for. What the connection hands over is taken at once, so that
    /// wakes nobody; only with nothing left to do the caller is registered.
    pub(super) fn poll_for<T>(
        &mut self,
        context: &Context<'_>,
        mut take: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let mut quiet = Context::from_waker(Waker::noop());
        for waker in [Waker::noop(), context.waker()] {
            if let ready @ Poll::Ready(_) = take(&mut quiet) {
                return ready;
            }
            self.poll(waker);
        }
        take(&mut quiet)
    }

    /// Whether the last exchange is over and another one may follow.
    pub(super) fn is_free(&mut self) -> bool {
        if !self.sender.is_ready() {
            self.poll(Waker::noop());
        }
        self.sender.is_ready()
    }

    fn poll(&mut self, waker: &Waker) {
        if let Some(io) = &mut self.io
            && Pin::new(io).poll(&mut Context::from_waker(waker)).is_ready()
        {
            self.io = None;
        }
    }
}

pub(super) fn is_secure(target: &Uri) -> bool {
    target.scheme() == Some(&Scheme::HTTPS)
}

/// The server's name without user, and without the port that everybody assumes.
fn host(target: &Uri) -> HeaderValue {
    let (host, assumed) = (target.host().unwrap_or_default(), if is_secure(target) { 443 } else { 80 });
    let text = match target.port_u16().filter(|port| *port != assumed) {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    HeaderValue::try_from(text).expect("an authority is visible ASCII")
}
