//! `/healthz` and `/readyz`: whether the process lives, and whether it can serve.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use manifold_runtime::Health;
use serde::Serialize;
use utoipa::ToSchema;

use crate::edge::House;

/// How the process is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready` or `unready`.
    #[schema(example = "ready")]
    status: &'static str,
    /// Without these the process cannot serve.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failing: Vec<Reason>,
    /// The process serves in spite of these.
    degraded: Vec<Reason>,
}

/// One part that does not work.
#[derive(Serialize, ToSchema)]
pub(crate) struct Reason {
    #[schema(example = "store")]
    component: &'static str,
    #[schema(example = "starting")]
    reason: String,
}

/// Tell whether the process lives
///
/// Answers as long as the process can answer at all; touches neither store nor network.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "getHealth",
    tag = "Probes",
    responses((status = 200, description = "It lives", body = String, content_type = "text/plain", example = json!("ok"))),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn get_health() -> Response {
    health()
}

/// Tell whether the process can serve
///
/// 200 with what is degraded, or 503 with the reasons. Load balancers send traffic only to those that answer 200.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "getReadiness",
    tag = "Probes",
    responses(
        (status = 200, description = "It can serve", body = Readiness, example = json!({"status": "ready", "degraded": []})),
        (status = 503, description = "It cannot serve", body = Readiness, example = json!({
            "status": "unready", "failing": [{"component": "store", "reason": "starting"}], "degraded": []
        }))
    ),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn get_readiness(State(house): State<Arc<House>>) -> Response {
    readiness(&house.health)
}

/// The answer of `/healthz`.
pub(crate) fn health() -> Response {
    respond(StatusCode::OK, "text/plain; charset=utf-8", "ok".to_owned())
}

/// The answer of `/readyz`.
pub(crate) fn readiness(health: &Health) -> Response {
    let report = health.report();
    let ready = report.is_ready();
    let reasons = |list: Vec<(&'static str, String)>| {
        list.into_iter().map(|(component, reason)| Reason { component, reason }).collect()
    };
    let status = if ready { "ready" } else { "unready" };
    let body = Readiness { status, failing: reasons(report.failing), degraded: reasons(report.degraded) };
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    respond(code, "application/json", serde_json::to_string(&body).expect("strings always serialise"))
}

/// An answer that no cache keeps.
pub(crate) fn respond(status: StatusCode, content_type: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
