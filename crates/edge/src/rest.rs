//! Our own resources: strict JSON in, problems out. One resource per file.

pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod batch;
pub(crate) mod document;
pub(crate) mod errors;
pub(crate) mod factors;
pub(crate) mod incidents;
pub(crate) mod invitations;
pub(crate) mod key_terms;
pub(crate) mod key_update;
pub(crate) mod key_verify;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod mail;
pub(crate) mod owners;
pub(crate) mod passwords;
pub(crate) mod probes;
pub(crate) mod roles;
pub(crate) mod rotation;
pub(crate) mod secrets;
pub(crate) mod sessions;
pub(crate) mod signing;
pub(crate) mod tenants;
pub(crate) mod tokens;
pub(crate) mod usage;
pub(crate) mod users;
pub(crate) mod vault;

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use manifold_core::Error;
use serde::Serialize;

/// JSON.
pub(crate) fn respond(status: StatusCode, body: &impl Serialize) -> Result<Response, Error> {
    let body = serde_json::to_vec(body).map_err(|error| Error::internal("print an answer").because(error))?;
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// 204.
pub(crate) fn nothing() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
