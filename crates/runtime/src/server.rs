//! The mesh listener: gRPC over h2c for other processes of the house. Opened only when there is a second process.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use manifold_contract::direct::Offer;
use manifold_core::{Code, Error, Result, ResultExt, Secret};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::util::service_fn;

use crate::rpc::Rpcs;
use crate::status::to_status;
use crate::wire::{self, Sender};
use crate::{CallContext, Routes, channel};

const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Calls at once over one connection: a whole edge talks to a service over one.
const MAX_CALLS: u32 = 65_536;

/// Serves until `shutdown`, then until running calls have ended.
pub(crate) async fn run(
    provided: Vec<(&str, Routes)>,
    secret: Secret<String>,
    rpcs: Arc<Rpcs>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<()> {
    let (health, health_server) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(Offer { server: health_server, direct: None });
    for (service, offered) in provided {
        health.set_service_status(service, tonic_health::ServingStatus::Serving).await;
        routes = routes.and(offered);
    }
    let service = service_fn(move |request: Request<Body>| {
        let (routes, rpcs, sender) = (routes.clone(), Arc::clone(&rpcs), wire::sender(request.headers(), &secret));
        async move { Ok::<_, Infallible>(admit(&routes, &rpcs, sender, request).await) }
    });
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_CALLS)
        // A crowd of callers that vanish at once is normal here, not the attack that the low default is against.
        .http2_max_pending_accept_reset_streams(Some(MAX_CALLS as usize))
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(5)))
        .serve_with_incoming_shutdown(service, TcpIncoming::from(listener).with_nodelay(Some(true)), async move {
            shutdown.cancelled().await;
            health.set_service_status("", tonic_health::ServingStatus::NotServing).await;
        })
        .await
        .or_err(Code::Internal, "serve the mesh")
}

/// Believes what members say about the caller. A stranger's call goes on without a caller, a wrong secret ends here.
async fn admit(routes: &Routes, rpcs: &Rpcs, sender: Sender, mut request: Request<Body>) -> Response<Body> {
    request.extensions_mut().remove::<Arc<CallContext>>();
    match sender {
        Sender::Member => {
            if let Some(context) = wire::decode(request.headers()) {
                request.extensions_mut().insert(Arc::new(context));
            }
        }
        Sender::Stranger => {}
        Sender::Impostor => {
            tracing::warn!("a call with a wrong mesh secret was refused: every process needs the same mesh.secret");
            let error = Error::new(Code::Unavailable, "UNAVAILABLE", "the service cannot be reached");
            return to_status(error).into_http();
        }
    }
    wire::strip(request.headers_mut());
    channel::serve(routes, rpcs, request).await
}
