//! `/v1/roles`: what can be given to people.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use http::header::LOCATION;
use manifold_identity::{RoleGrant, RoleInfo};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{Call, Id};
use crate::edge::House;
use crate::headers::value;
use crate::json;
use crate::refusal::Answer;
use crate::rest::{nothing, respond};

/// What a role permits.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grant {
    /// See `GET /v1/roles/permissions`. The last part may be `*`, which stands for everything below.
    #[schema(
        example = "keys.key.*",
        max_length = 100,
        pattern = r"^(\*|[a-z0-9_-]+\.(\*|[a-z0-9_-]+\.(\*|[a-z0-9_-]+)))$"
    )]
    permission: String,
    /// For things with these labels: `own`, `env:live`, `env:test`, `api:<name>`; of each kind one will do. Default: for all.
    #[serde(default)]
    #[schema(example = json!(["own"]), max_items = 10, max_length = 100, pattern = "^(own|env:live|env:test|api:[a-z0-9_-]+)$")]
    on: Vec<String>,
    /// A condition in CEL over `principal.{id, kind, mfa}` and `request.{ip, time, hour, weekday}`, in UTC; it may call
    /// `inNetwork(request.ip, "10.0.0.0/8")`, `contains`, `startsWith`, `endsWith`, `size`, `int` and `string`. What is
    /// permitted under a condition cannot be given to others. Default: always.
    #[schema(example = "request.hour >= 8 && request.hour < 18", format = "cel")]
    when: Option<String>,
}

/// A new role.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateRoleRequest {
    /// 1 to 100 characters, new in the tenant.
    #[schema(
        example = "support",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
    /// What its holders may do: 1 to 100 grants, none of more than the caller has.
    #[schema(min_items = 1, max_items = 100)]
    grants: Vec<Grant>,
}

/// What shall change. What is not given stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateRoleRequest {
    /// 1 to 100 characters, new in the tenant.
    #[schema(
        example = "support",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: Option<String>,
    /// All of them.
    #[schema(min_items = 1, max_items = 100)]
    grants: Option<Vec<Grant>>,
}

/// A role.
#[derive(Serialize, ToSchema)]
pub(crate) struct Role {
    /// What people are given it by: the name of a built-in role, or `rol_…`.
    #[schema(example = "rol_01h455vb4pex5vsknk084sn02q")]
    id: String,
    #[schema(example = "support")]
    name: String,
    /// Whether every tenant has it, and none changes it.
    built_in: bool,
    grants: Vec<Grant>,
    /// Null = it is built in.
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<String>,
}

/// All roles, the built-in ones first.
#[derive(Serialize, ToSchema)]
pub(crate) struct Roles {
    data: Vec<Role>,
}

/// A permission that can be granted.
#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct Permission {
    #[schema(example = "keys.key.read")]
    permission: String,
    /// What asks for it, by `operationId`.
    #[schema(example = json!(["listKeys", "getKey"]))]
    operations: Vec<String>,
}

/// All permissions, by name.
#[derive(Serialize, ToSchema)]
pub(crate) struct Permissions {
    data: Vec<Permission>,
}

impl Permission {
    /// What an operation asks for.
    pub(crate) fn new(permission: String, operations: Vec<String>) -> Self {
        Self { permission, operations }
    }
}

impl From<Grant> for RoleGrant {
    fn from(grant: Grant) -> Self {
        Self { permission: grant.permission, on: grant.on, when: grant.when }
    }
}

impl From<RoleGrant> for Grant {
    fn from(grant: RoleGrant) -> Self {
        Self { permission: grant.permission, on: grant.on, when: grant.when }
    }
}

impl From<RoleInfo> for Role {
    fn from(role: RoleInfo) -> Self {
        Self {
            id: role.id,
            name: role.name,
            built_in: role.built_in,
            grants: role.grants.into_iter().map(Grant::from).collect(),
            created_at: role.created_at.map(|time| time.to_string()),
        }
    }
}

/// List roles
///
/// What can be given to people, the built-in roles first, and what each of them may do.
#[utoipa::path(
    get,
    path = "/v1/roles",
    operation_id = "listRoles",
    tag = "Roles",
    responses((status = 200, description = "The roles", body = Roles, example = json!({"data": [{"id": "owner",
        "name": "owner", "built_in": true, "grants": [{"permission": "*", "on": [], "when": null}], "created_at": null}]}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("roles.role.read")))
)]
pub(crate) async fn list_roles(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let roles = house.identity.list_roles(&call.context).await?;
    Ok(respond(StatusCode::OK, &Roles { data: roles.into_iter().map(Role::from).collect() })?)
}

/// List permissions
///
/// All that can be granted by roles and keys, and which operations ask for it.
#[utoipa::path(
    get,
    path = "/v1/roles/permissions",
    operation_id = "listPermissions",
    tag = "Roles",
    responses((status = 200, description = "The permissions", body = Permissions,
        example = json!({"data": [{"permission": "roles.role.read", "operations": ["getRole", "listRoles"]}]}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("roles.role.read")))
)]
pub(crate) async fn list_permissions(State(house): State<Arc<House>>, _: Call) -> Answer<Response> {
    Ok(respond(StatusCode::OK, &Permissions { data: house.permissions.clone() })?)
}

/// Create a role
///
/// A name for what some people may do. Nobody grants more than the own; people get it with `PATCH /v1/users/{id}`.
#[utoipa::path(
    post,
    path = "/v1/roles",
    operation_id = "createRole",
    tag = "Roles",
    request_body(content = CreateRoleRequest,
        example = json!({"name": "support", "grants": [{"permission": "keys.key.read"}, {"permission": "users.user.read"}]})),
    responses((status = 201, description = "The role", body = Role, example = json!({"id": "rol_01h455vb4pex5vsknk084sn02q",
        "name": "support", "built_in": false, "grants": [{"permission": "keys.key.read", "on": [], "when": null}],
        "created_at": "2026-11-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("roles.role.write")))
)]
pub(crate) async fn create_role(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let body: CreateRoleRequest = json::read_strictly(&call.body)?;
    let grants = body.grants.into_iter().map(RoleGrant::from).collect();
    let role = house.identity.create_role(&call.context, &body.name, grants).await?;
    let location = value(format!("/v1/roles/{}", role.id));
    let mut response = respond(StatusCode::CREATED, &Role::from(role))?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// Show a role
///
/// A built-in one by its name, one of the caller's tenant by its id. All others are the same 404.
#[utoipa::path(
    get,
    path = "/v1/roles/{id}",
    operation_id = "getRole",
    tag = "Roles",
    params(("id" = String, Path, description = "Id of the role", example = "rol_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The role", body = Role, example = json!({"id": "rol_01h455vb4pex5vsknk084sn02q",
        "name": "support", "built_in": false, "grants": [{"permission": "keys.key.read", "on": [], "when": null}],
        "created_at": "2026-11-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("roles.role.read")))
)]
pub(crate) async fn get_role(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    Ok(respond(StatusCode::OK, &Role::from(house.identity.get_role(&call.context, &id).await?))?)
}

/// Change a role
///
/// At once for all who hold it. The caller needs all that it can do, before and after. Built-in roles stay as they are.
#[utoipa::path(
    patch,
    path = "/v1/roles/{id}",
    operation_id = "updateRole",
    tag = "Roles",
    params(("id" = String, Path, description = "Id of the role", example = "rol_01h455vb4pex5vsknk084sn02q")),
    request_body(content = UpdateRoleRequest, example = json!({"grants": [{"permission": "keys.key.*", "on": ["own"]}]})),
    responses((status = 200, description = "The role", body = Role, example = json!({"id": "rol_01h455vb4pex5vsknk084sn02q",
        "name": "support", "built_in": false, "grants": [{"permission": "keys.key.*", "on": ["own"], "when": null}],
        "created_at": "2026-11-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("roles.role.write")))
)]
pub(crate) async fn update_role(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let body: UpdateRoleRequest = json::read_strictly(&call.body)?;
    let grants = body.grants.map(|grants| grants.into_iter().map(RoleGrant::from).collect());
    let role = house.identity.update_role(&call.context, &id, body.name.as_deref(), grants).await?;
    Ok(respond(StatusCode::OK, &Role::from(role))?)
}

/// Delete a role
///
/// Only one that nobody holds. Invitations that promise it end.
#[utoipa::path(
    delete,
    path = "/v1/roles/{id}",
    operation_id = "deleteRole",
    tag = "Roles",
    params(("id" = String, Path, description = "Id of the role", example = "rol_01h455vb4pex5vsknk084sn02q")),
    responses((status = 204, description = "There is no such role any more")),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("roles.role.write")))
)]
pub(crate) async fn delete_role(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    house.identity.delete_role(&call.context, &id).await?;
    Ok(nothing())
}
