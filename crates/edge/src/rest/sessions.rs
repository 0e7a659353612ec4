//! `/v1/sessions`: where the caller is logged in, or another member of the tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_identity::{SessionInfo, parse_session_id, parse_user_id};
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::{Call, Id, Query};
use crate::edge::House;
use crate::refusal::Answer;
use crate::rest::{nothing, respond};

/// Where somebody is logged in.
#[derive(Serialize, ToSchema)]
pub(crate) struct ListedSession {
    #[schema(example = "ses_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// Address at login.
    #[schema(example = "203.0.113.7")]
    ip: String,
    /// What the browser called itself.
    #[schema(example = "Mozilla/5.0 …")]
    agent: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    /// To the minute.
    #[schema(value_type = String, format = DateTime)]
    seen_at: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: String,
    /// Whether it is the one of this request.
    current: bool,
}

/// The sessions of a person, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Sessions {
    /// At most 200.
    data: Vec<ListedSession>,
}

/// How many sessions ended.
#[derive(Serialize, ToSchema)]
pub(crate) struct Revoked {
    #[schema(example = 2)]
    revoked: u64,
}

impl From<SessionInfo> for ListedSession {
    fn from(session: SessionInfo) -> Self {
        Self {
            id: session.id.to_string(),
            ip: session.ip,
            agent: session.agent,
            created_at: session.created_at.to_string(),
            seen_at: session.seen_at.to_string(),
            expires_at: session.expires_at.to_string(),
            current: session.current,
        }
    }
}

/// List sessions
///
/// Where the caller is logged in, the newest first. A session ends after 30 minutes without use, or after 12 hours. With `user`
/// those of that member in the tenant of the caller, who needs `users.session.revoke`.
#[utoipa::path(
    get,
    path = "/v1/sessions",
    operation_id = "listSessions",
    tag = "Sessions",
    params(("user" = Option<String>, Query, description = "Whose, if not the caller's", example = "usr_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The sessions", body = Sessions, example = json!({"data": [{
        "id": "ses_01h455vb4pex5vsknk084sn02q", "ip": "203.0.113.7", "agent": "Mozilla/5.0 …",
        "created_at": "2026-11-20T09:00:10Z", "seen_at": "2026-11-20T09:12:00Z", "expires_at": "2026-11-20T21:00:10Z",
        "current": true}]}))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)))
)]
pub(crate) async fn list_sessions(State(house): State<Arc<House>>, query: Query, call: Call) -> Answer<Response> {
    let sessions = match query.only("user")? {
        Some(user) => house.identity.list_sessions_of(&call.context, parse_user_id(user)?).await?,
        None => house.identity.list_sessions(&call.context).await?,
    };
    Ok(respond(StatusCode::OK, &Sessions { data: sessions.into_iter().map(ListedSession::from).collect() })?)
}

/// End sessions
///
/// Logs the caller out everywhere else, at once. Needs a proof of the last ten minutes. With `user` it is that member who is
/// logged out of the tenant of the caller, who needs `users.session.revoke` and all that the member's roles can do.
#[utoipa::path(
    delete,
    path = "/v1/sessions",
    operation_id = "revokeSessions",
    tag = "Sessions",
    params(("user" = Option<String>, Query, description = "Whose, if not the caller's", example = "usr_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "How many ended", body = Revoked, example = json!({"revoked": 2}))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)))
)]
pub(crate) async fn revoke_sessions(State(house): State<Arc<House>>, query: Query, call: Call) -> Answer<Response> {
    let revoked = match query.only("user")? {
        Some(user) => house.identity.revoke_sessions_of(&call.context, parse_user_id(user)?).await?,
        None => house.identity.revoke_other_sessions(&call.context).await?,
    };
    Ok(respond(StatusCode::OK, &Revoked { revoked })?)
}

/// End a session
///
/// Logs the caller out there, at once; elsewhere than here it needs a proof of the last ten minutes. Unknown and foreign ids
/// are the same 404.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{id}",
    operation_id = "revokeSession",
    tag = "Sessions",
    params(("id" = String, Path, description = "Id of the session", example = "ses_01h455vb4pex5vsknk084sn02q")),
    responses((status = 204, description = "It ended")),
    security(("session" = [])),
    extensions(("x-user" = json!(true)))
)]
pub(crate) async fn revoke_session(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    house.identity.revoke_session(&call.context, parse_session_id(&id)?).await?;
    Ok(nothing())
}
