//! What a handler is given: who calls, the body, the headers and how long it took to get here.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path};
use bytes::Bytes;
use http::HeaderMap;
use http::request::Parts;
use manifold_core::{Code, Error};
use manifold_runtime::CallContext;
use tokio::time::Instant;

use crate::refusal::{Answer, Refusal};

/// One authenticated request.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) context: CallContext,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) stopwatch: Stopwatch,
    /// Address of the client.
    pub(crate) client: IpAddr,
}

/// How long the house itself has been busy with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    pub(crate) started: Instant,
    /// Time spent waiting for the client's body.
    pub(crate) waited: Duration,
}

impl Stopwatch {
    /// Our own time so far: all of it, without the wait for the client.
    pub(crate) fn busy(&self) -> Duration {
        self.started.elapsed().saturating_sub(self.waited)
    }
}

impl<S: Sync> FromRequestParts<S> for Call {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let missing = || Refusal::from(Error::internal("a handler asks for a caller on a public route"));
        parts.extensions.remove::<Self>().ok_or_else(missing)
    }
}

/// The last part of a path, decoded.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            Err(rejection) => Err(Error::new(Code::NotFound, "ROUTE_NOT_FOUND", "there is nothing at this address")
                .because(rejection)
                .into()),
        }
    }
}

/// The query of a request, not decoded: our parameters are numbers and ids.
pub(crate) struct Query(pub(crate) String);

impl Query {
    /// The value of the only parameter that there is; anything else, and anything twice, is refused.
    pub(crate) fn only(&self, name: &str) -> Answer<Option<&str>> {
        let mut found = None;
        for pair in self.0.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if key != name {
                return Err(Refusal::bad("PARAMETER_UNKNOWN", format!("the only parameter is {name}")));
            }
            if found.replace(value).is_some() {
                return Err(Refusal::bad("PARAMETER_REPEATED", "a parameter was given twice"));
            }
        }
        Ok(found)
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        Ok(Self(parts.uri.query().unwrap_or_default().to_owned()))
    }
}
