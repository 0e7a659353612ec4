//! The one way to call a service: the same client whether it lives in this process or in another.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::{Extensions, HeaderValue, Request, Response};
use manifold_contract::direct::DirectChannel;
use manifold_core::{Code, Error};
use tonic::Status;
use tonic::body::Body;
use tower::{Service, ServiceExt};

use crate::guard::Guard;
use crate::rpc::{Measure, Rpcs, Side};
use crate::status::to_status;
use crate::telemetry::{self, Scope};
use crate::{CallContext, Routes, wire};

/// What a generated client calls. Finds the service when it is called; in this process first.
#[derive(Clone, Debug)]
pub struct Channel {
    pub(crate) place: Arc<Place>,
    pub(crate) rpcs: Arc<Rpcs>,
}

/// Never made: a call that fails answers with a status. A concrete type, because a handler that calls a generated client
/// over `Box<dyn Error>` does not compile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelError {}

impl fmt::Display for ChannelError {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

impl std::error::Error for ChannelError {}

/// A service of another process and the secret that both share.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) transport: tonic::transport::Channel,
    pub(crate) secret: HeaderValue,
}

/// Where a service is. Its routes may be provided after the first channel was handed out.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) service: String,
    pub(crate) routes: OnceLock<Routes>,
    pub(crate) remote: OnceLock<Remote>,
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = ChannelError;
    type Future = BoxFuture<'static, Result<Response<Body>, ChannelError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ChannelError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { place, rpcs } = self.clone();
        Box::pin(async move {
            Ok(match (place.routes.get(), place.remote.get()) {
                (Some(routes), _) => serve(routes, &rpcs, request).await,
                (None, Some(remote)) => call(remote.clone(), &rpcs, request).await,
                (None, None) => absent(&place.service).into_http(),
            })
        })
    }
}

impl DirectChannel for Channel {
    type Layers = Guard;

    fn direct<S: Clone + 'static>(&self, name: &str) -> Option<S> {
        self.place.routes.get()?.direct(name)
    }

    fn enter(&self, path: &'static str, extensions: &mut Extensions) -> Guard {
        enter(Measure::start(self.rpcs.get(path), Side::Server), extensions)
    }
}

/// Serves an encoded call in this process.
pub(crate) async fn serve(routes: &Routes, rpcs: &Rpcs, mut request: Request<Body>) -> Response<Body> {
    let measure = Measure::start(rpcs.get(request.uri().path()), Side::Server);
    let guard = enter(measure, request.extensions_mut());
    let call = routes.call(request);
    guard.run(async { Ok(call.await) }).await
}

/// The layers of a call that is served in this process. Its context stands in the request's extensions, and goes on as
/// that of the service's own span.
fn enter(measure: Measure, extensions: &mut Extensions) -> Guard {
    let Some(context) = extensions.get_mut::<Arc<CallContext>>() else {
        return Guard::new(measure, Scope::none(), None);
    };
    let context = Arc::make_mut(context);
    let span = telemetry::rpc_span(measure.rpc().name(), &mut context.trace);
    let scope = Scope::new(&context.trace, context.request, span);
    Guard::new(measure, scope, Some(context.deadline))
}

/// Sends a call to another process.
async fn call(remote: Remote, rpcs: &Rpcs, mut request: Request<Body>) -> Response<Body> {
    let measure = Measure::start(rpcs.get(request.uri().path()), Side::Client);
    let context = request.extensions_mut().remove::<Arc<CallContext>>();
    wire::encode(request.headers_mut(), &remote.secret, context.as_deref());
    let call = async { remote.transport.oneshot(request).await.map_err(unreachable) };
    Guard::new(measure, Scope::none(), context.map(|context| context.deadline)).run(call).await
}

fn absent(service: &str) -> Status {
    to_status(Error::new(Code::Unavailable, "UNAVAILABLE", format!("the service {service} has not started")))
}

fn unreachable(source: tonic::transport::Error) -> Status {
    to_status(Error::new(Code::Unavailable, "UNAVAILABLE", "the service cannot be reached").because(source))
}
