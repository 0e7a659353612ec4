//! The way to other machines: names, TCP, TLS, and how long all of that may take.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::{BoxError, Service, ServiceExt};

use super::egress::{self, NotPublic, Way};
use super::{HttpConfig, Phase, SendError};

const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// What bytes go over.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Connects one way, within a time that covers TLS, too.
pub(super) struct Connector {
    connect: HttpsConnector<HttpConnector<Resolver>>,
    timeout: Duration,
}

/// Connecting took too long.
#[derive(Debug, thiserror::Error)]
#[error("connecting took too long")]
struct Slow;

impl Connector {
    pub(super) fn new(config: &HttpConfig, tls: &rustls::ClientConfig, way: Way) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(way));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEP_ALIVE));
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
        Self { connect: tls.enable_all_versions().wrap_connector(tcp), timeout: config.connect_timeout }
    }

    pub(super) async fn connect(&self, target: &Uri) -> Result<Stream, SendError> {
        let connecting = self.connect.clone().oneshot(target.clone());
        let connected = tokio::time::timeout(self.timeout, connecting).await;
        connected.unwrap_or_else(|_| Err(Slow.into())).map_err(explain)
    }
}

fn explain(error: BoxError) -> SendError {
    if let Some(denied) = find::<NotPublic>(&*error) {
        return SendError::Denied(denied.to_string());
    }
    match find::<Slow>(&*error) {
        Some(Slow) => SendError::Timeout(Phase::Connect),
        None => SendError::Connect(error),
    }
}

/// What lies at the bottom of an error of the HTTP library. An I/O error shows the source of its content, never the
/// content itself.
fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        let content = error.downcast_ref::<io::Error>().and_then(|error| error.get_ref()?.downcast_ref());
        if let Some(found) = error.downcast_ref().or(content) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Resolves names, and on the guarded way refuses those with any address that is not public.
#[derive(Clone)]
struct Resolver(Way);

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
