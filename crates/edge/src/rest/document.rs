//! `/openapi.json`: the contract of this door.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::edge::House;

/// Show the contract
///
/// The OpenAPI 3.1 document of every operation served here, made from the code that serves it.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "getOpenapi",
    tag = "Documents",
    responses((status = 200, description = "The document", body = Object, content_type = "application/json",
        example = json!({"openapi": "3.1.0"}))),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn get_openapi(State(house): State<Arc<House>>) -> Response {
    let mut response = Response::new(Body::from(house.openapi.clone()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}
