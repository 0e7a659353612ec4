//! What every request reads: made once at start, shared, never changed.

use std::sync::Arc;

use axum::Router;
use manifold_contract::ai::v1::inference;
use manifold_core::{Clock, Ids};
use manifold_identity::Identity;
use manifold_runtime::{Channel, Health, Tasks};

use crate::config::Checked;
use crate::cookie::Cookie;
use crate::limit::Limits;
use crate::record::InFlight;
use crate::rest::roles::Permission;
use crate::routes::Routes;

/// What handlers need of the house.
pub(crate) struct House {
    pub(crate) identity: Identity,
    pub(crate) inference: inference::Client<Channel>,
    pub(crate) health: Health,
    /// `/openapi.json` as it is sent.
    pub(crate) openapi: bytes::Bytes,
    /// All that can be granted.
    pub(crate) permissions: Vec<Permission>,
    /// How browsers keep sessions.
    pub(crate) cookie: Cookie,
    /// Where clients reach us, if it is told.
    pub(crate) public_url: Option<String>,
}

/// What the pipeline needs.
pub(crate) struct Edge {
    pub(crate) config: Checked,
    pub(crate) identity: Identity,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    pub(crate) limits: Limits,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) routes: Routes,
    pub(crate) router: Router,
    /// For what goes on when its client has gone.
    pub(crate) tasks: Tasks,
}
