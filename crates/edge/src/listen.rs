//! The accept loop: sockets, caps, hyper's HTTP/1.1 per connection, and the end of it all. Protocols are never guessed.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::HttpBody;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1::Builder;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use manifold_core::{Code, Error, Result};
use manifold_runtime::{Lanes, Tasks};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::caps::Caps;
use crate::guard::{Guarded, Line, Timers};

const BACKLOG: i32 = 4_096;
/// What hyper may hold per connection and direction.
const BUFFER: usize = 128 << 10;
/// hyper parses this many headers without allocating.
const HEADERS_ON_STACK: usize = 100;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The socket's address, which may be a proxy's.
    pub(crate) address: SocketAddr,
    /// What the guard of this connection has to know.
    pub(crate) line: Arc<Line>,
}

/// How a listener treats its connections.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    pub(crate) caps: Arc<Caps>,
    pub(crate) timers: Timers,
    pub(crate) max_head: usize,
    pub(crate) max_headers: usize,
    pub(crate) drain: Duration,
}

/// Opens the listening socket.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpListener> {
    open(address).map_err(|source| {
        let reason = if source.kind() == io::ErrorKind::AddrInUse { "ADDRESS_IN_USE" } else { "LISTEN_FAILED" };
        Error::new(Code::Unavailable, reason, format!("cannot listen on {address}: {source}")).because(source)
    })
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until shutdown. Each connection is a task of its own on one of the lanes, which finishes what it answers within
/// `drain`.
pub(crate) async fn accept<H, F, B>(listener: TcpListener, manners: Manners, handler: H, lanes: Lanes, tasks: Tasks)
where
    H: Fn(Arc<Peer>, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: HttpBody<Data = bytes::Bytes, Error = axum::Error> + Send + 'static,
{
    let shutdown = tasks.token();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        // The socket changes its scheduler, so it travels as what it is to the kernel.
        match accepted.and_then(|(stream, address)| Ok((stream.into_std()?, address))) {
            Ok((stream, address)) => match manners.caps.enter(address.ip()) {
                Ok(place) => {
                    let connection = serve(stream, address, manners.clone(), handler.clone(), shutdown.clone());
                    lanes.spawn(&tasks, "edge connection", async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(full) => metrics::counter!("manifold_rate_limited_total", "scope" => full.label()).increment(1),
            },
            Err(error) => pause(&error).await,
        }
    }
}

/// Out of file descriptors: those in use come back, so wait a little. Everything else is over with this connection.
async fn pause(error: &io::Error) {
    metrics::counter!("manifold_accept_errors_total").increment(1);
    let (process, system) = (24, 23);
    if matches!(error.raw_os_error(), Some(code) if code == process || code == system) {
        tracing::warn!(%error, "out of file descriptors, accepting again in a moment");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn serve<H, F, B>(
    stream: std::net::TcpStream,
    address: SocketAddr,
    manners: Manners,
    handler: H,
    shutdown: CancellationToken,
) where
    H: Fn(Arc<Peer>, Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: HttpBody<Data = bytes::Bytes, Error = axum::Error> + 'static,
{
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => return pause(&error).await,
    };
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let line = Arc::new(Line::default());
    let io = TokioIo::new(Guarded::new(stream, Arc::clone(&line), manners.timers));
    let peer = Arc::new(Peer { address, line });
    let service = service_fn(move |request| {
        let answer = handler(Arc::clone(&peer), request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(builder(&manners).serve_connection(io, service));
    tokio::select! {
        ended = connection.as_mut() => return debug(ended),
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    match tokio::time::timeout(manners.drain, connection).await {
        Ok(ended) => debug(ended),
        Err(_) => tracing::warn!("request cut off by shutdown"),
    }
}

/// hyper with its own head timer off: the guard below it knows first byte, head and idle apart. A client that closes
/// its half is taken to be gone, which is how abandoned calls are noticed.
fn builder(manners: &Manners) -> Builder {
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(None).half_close(false);
    builder.max_header_size(manners.max_head).max_buf_size(BUFFER.max(manners.max_head));
    if manners.max_headers != HEADERS_ON_STACK {
        builder.max_headers(manners.max_headers);
    }
    builder
}

fn debug(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
