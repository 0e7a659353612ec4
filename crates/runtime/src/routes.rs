//! What a service offers: generated servers, found by the name in the path, and what stands behind them.

use std::any::Any;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use manifold_contract::direct::Offer;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;
use tower::Service;

/// The generated servers of a service. Cheap to clone.
#[derive(Clone, Default)]
pub struct Routes(Vec<Server>);

#[derive(Clone)]
struct Server {
    name: &'static str,
    call: Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Response<Body>> + Send + Sync>,
    direct: Option<Arc<dyn Any + Send + Sync>>,
}

impl Routes {
    /// One service, as `offer` of its generated module gives it.
    pub fn new<S>(offer: Offer<S>) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + NamedService + Clone,
        S: Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        let Offer { server, direct } = offer;
        // Generated servers are always ready.
        let call = move |request| server.clone().call(request).map(|Ok(response)| response).boxed();
        Self(vec![Server { name: S::NAME, call: Arc::new(call), direct }])
    }

    /// These and those.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        self.0.append(&mut other.0);
        self
    }

    /// Calls the server that the path names: `/package.Service/Method`.
    pub(crate) fn call(&self, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        let name = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
        match self.0.iter().find(|server| server.name == name) {
            Some(server) => (server.call)(request),
            None => futures::future::ready(Status::unimplemented("there is no such service").into_http()).boxed(),
        }
    }

    /// The service `package.Service` itself, in the form that its generated client knows.
    pub(crate) fn direct<S: Clone + 'static>(&self, name: &str) -> Option<S> {
        let server = self.0.iter().find(|server| server.name == name)?;
        server.direct.as_ref()?.downcast_ref::<S>().cloned()
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.0.iter().map(|server| server.name)).finish()
    }
}
