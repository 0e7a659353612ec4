//! `/v1/roles`: what can be given to people.

use axum::response::Response;
use http::StatusCode;
use manifold_identity::ROLES;
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::Call;
use crate::refusal::Answer;
use crate::rest::respond;

/// A role.
#[derive(Serialize, ToSchema)]
pub(crate) struct Role {
    #[schema(example = "developer")]
    name: &'static str,
    /// What its holder may do.
    permissions: &'static [&'static str],
}

/// All roles, the mightiest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Roles {
    data: Vec<Role>,
}

/// List roles
///
/// What can be given to people, the mightiest first, and what each of them may do.
#[utoipa::path(
    get,
    path = "/v1/roles",
    operation_id = "listRoles",
    tag = "Users",
    responses((status = 200, description = "The roles", body = Roles,
        example = json!({"data": [{"name": "owner", "permissions": ["*"]}]}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("roles.role.read")))
)]
pub(crate) async fn list_roles(_: Call) -> Answer<Response> {
    let data = ROLES.iter().map(|(name, permissions)| Role { name, permissions }).collect();
    Ok(respond(StatusCode::OK, &Roles { data })?)
}
