//! Requests that another request carries: each of them goes the way of all requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::response::Response;
use bytes::Bytes;
use http::request::Parts;
use manifold_core::Error;
use tokio::time::Instant;

use crate::edge::Edge;
use crate::listen::Peer;
use crate::pipeline;
use crate::record::Tracked;
use crate::refusal::Refusal;

/// Time to put the answers together: what is carried ends so long before what carries it.
const SLACK: Duration = Duration::from_secs(1);

/// Where a handler hands in the requests that its own one carries.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) edge: Arc<Edge>,
    /// The socket at the other end.
    pub(crate) address: SocketAddr,
    /// When all of them must be answered.
    pub(crate) deadline: Instant,
}

impl Door {
    /// For a request that must be answered by `deadline`.
    pub(crate) fn new(edge: &Arc<Edge>, peer: &Peer, deadline: Instant) -> Self {
        let deadline = deadline.checked_sub(SLACK).unwrap_or(deadline);
        Self { edge: Arc::clone(edge), address: peer.address, deadline }
    }

    /// Answers a request as if it had come alone.
    pub(crate) async fn ask(&self, parts: Parts, body: Bytes) -> Response<Tracked> {
        pipeline::answer_carried(self, parts, body).await
    }
}

impl<S: Sync> FromRequestParts<S> for Door {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let missing = || Refusal::from(Error::internal("a handler asks for the door of a request that carries none"));
        parts.extensions.remove::<Self>().ok_or_else(missing)
    }
}
