//! The way to other machines: names, TCP, TLS, and how long all of that may take.

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tower::{BoxError, Service};

use super::HttpConfig;
use super::body::Tracked;
use super::egress::{self, Way};

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A client with connections of its own.
pub(super) type Transport = legacy::Client<Connector, Tracked>;

/// A client whose connections go this way.
#[expect(clippy::disallowed_methods, reason = "this is the home of the outbound client")]
pub(super) fn transport(config: &HttpConfig, tls: &rustls::ClientConfig, way: Way) -> Transport {
    let mut tcp = HttpConnector::new_with_resolver(Resolver(way));
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEP_ALIVE));
    let tls = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
    let connect = tls.enable_all_versions().wrap_connector(tcp);
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(KEEP_ALIVE)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(Duration::from_secs(15))
        .http2_keep_alive_timeout(Duration::from_secs(10))
        .build(Connector { connect, timeout: config.connect_timeout })
}

/// Connects within a time that covers TLS, too.
#[derive(Clone)]
pub(super) struct Connector {
    connect: HttpsConnector<HttpConnector<Resolver>>,
    timeout: Duration,
}

/// Connecting took too long.
#[derive(Debug, thiserror::Error)]
#[error("connecting took too long")]
pub(super) struct Slow;

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.connect.poll_ready(context)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connecting = tokio::time::timeout(self.timeout, self.connect.call(target));
        Box::pin(async move { connecting.await.unwrap_or_else(|_| Err(Slow.into())) })
    }
}

/// Resolves names, and on the guarded way refuses those with any address that is not public.
#[derive(Clone)]
pub(super) struct Resolver(Way);

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let way = self.0;
        Box::pin(async move {
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if way == Way::Guarded {
                egress::check(name.as_str(), &addresses).map_err(io::Error::other)?;
            }
            Ok(addresses.into_iter())
        })
    }
}
