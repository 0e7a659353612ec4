//! `/v1/users`: the person who calls, and the members of the caller's tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use http::header::SET_COOKIE;
use manifold_core::Secret;
use manifold_identity::{Member as MemberInfo, OneTime, ProfileChange, UserInfo, parse_user_id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{Call, Id};
use crate::edge::House;
use crate::json;
use crate::page::List;
use crate::refusal::Answer;
use crate::rest::auth::visitor;
use crate::rest::mail::{Posted, posted};
use crate::rest::{nothing, respond};

/// A person.
#[derive(Serialize, ToSchema)]
pub(crate) struct User {
    #[schema(example = "usr_01h455vb4pex5vsknk084sn02q")]
    id: String,
    #[schema(example = "ada@example.org")]
    email: String,
    #[schema(example = "Ada")]
    name: String,
    /// Language (RFC 5646).
    #[schema(example = "pt-BR")]
    locale: Option<String>,
    /// Time zone (IANA).
    #[schema(example = "Europe/Lisbon")]
    zone: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
}

/// What a person changes about oneself. What is not given stays; an empty text removes what may be missing.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateMeRequest {
    /// What the person is called, 1 to 100 characters.
    #[schema(
        example = "Ada Lovelace",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: Option<String>,
    /// Language (RFC 5646).
    #[schema(example = "pt-BR", max_length = 64, pattern = "^([A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*)?$")]
    locale: Option<String>,
    /// Time zone (IANA).
    #[schema(example = "Europe/Lisbon", max_length = 64, pattern = "^([A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*)?$")]
    zone: Option<String>,
}

/// Another address of the caller.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeEmailRequest {
    #[schema(example = "ada@lovelace.example", format = Email)]
    email: String,
    /// That the caller has.
    #[schema(value_type = String, example = "correct horse battery staple")]
    password: Secret<String>,
}

/// A person in a tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct Member {
    #[serde(flatten)]
    user: User,
    roles: Vec<String>,
    #[schema(value_type = String, format = DateTime)]
    joined_at: String,
}

/// A page of members, in the order in which their accounts were made.
#[derive(Serialize, ToSchema)]
pub(crate) struct MemberPage {
    data: Vec<Member>,
    /// Pass it as `cursor` for the next page; null = this is the last.
    next_cursor: Option<String>,
    has_more: bool,
}

/// What a member may do.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateUserRequest {
    /// These and no others; see `GET /v1/roles`.
    #[schema(example = json!(["developer"]), format = "role")]
    roles: Vec<String>,
}

/// A token that works once, shown here and nowhere else.
#[derive(Serialize, ToSchema)]
pub(crate) struct OneTimeToken {
    #[schema(example = "mfr_2q7…")]
    token: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: String,
}

impl From<MemberInfo> for Member {
    fn from(member: MemberInfo) -> Self {
        Self { user: member.user.into(), roles: member.roles, joined_at: member.joined_at.to_string() }
    }
}

impl From<OneTime> for OneTimeToken {
    fn from(made: OneTime) -> Self {
        Self { token: made.token.expose().clone(), expires_at: made.expires_at.to_string() }
    }
}

impl From<UserInfo> for User {
    fn from(user: UserInfo) -> Self {
        let UserInfo { id, email, name, locale, zone, created_at } = user;
        Self { id: id.to_string(), email, name, locale, zone, created_at: created_at.to_string() }
    }
}

/// Show the caller
///
/// The person who is logged in. Keys are no persons and get 403.
#[utoipa::path(
    get,
    path = "/v1/users/me",
    operation_id = "getMe",
    tag = "Users",
    responses((status = 200, description = "The person", body = User, example = json!({
        "id": "usr_01h455vb4pex5vsknk084sn02q", "email": "ada@example.org", "name": "Ada",
        "locale": "pt-BR", "zone": "Europe/Lisbon", "created_at": "2026-11-20T09:00:10Z"}))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)), ("x-factor-setup" = json!(true)))
)]
pub(crate) async fn get_me(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    Ok(respond(StatusCode::OK, &User::from(house.identity.me(&call.context).await?))?)
}

/// Change the caller
///
/// What the person who is logged in is called, speaks, and lives in.
#[utoipa::path(
    patch,
    path = "/v1/users/me",
    operation_id = "updateMe",
    tag = "Users",
    request_body(content = UpdateMeRequest, example = json!({"name": "Ada Lovelace"})),
    responses((status = 200, description = "The person", body = User, example = json!({
        "id": "usr_01h455vb4pex5vsknk084sn02q", "email": "ada@example.org", "name": "Ada Lovelace",
        "locale": "pt-BR", "zone": "Europe/Lisbon", "created_at": "2026-11-20T09:00:10Z"}))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)))
)]
pub(crate) async fn update_me(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let body: UpdateMeRequest = json::read_strictly(&call.body)?;
    let change = ProfileChange { name: body.name, locale: body.locale, zone: body.zone };
    Ok(respond(StatusCode::OK, &User::from(house.identity.update_me(&call.context, change).await?))?)
}

/// Delete the caller
///
/// The account, its address, name and password are gone at once, and so are memberships and sessions; ids stay where they
/// stand. The last owner of a tenant gets 409 `last_owner`. Needs a proof of the last ten minutes.
#[utoipa::path(
    delete,
    path = "/v1/users/me",
    operation_id = "deleteMe",
    tag = "Users",
    responses((status = 204, description = "There is no such account any more")),
    security(("session" = [])),
    extensions(("x-user" = json!(true)))
)]
pub(crate) async fn delete_me(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    house.identity.delete_me(&call.context).await?;
    let mut response = nothing();
    response.headers_mut().insert(SET_COOKIE, house.cookie.clear());
    Ok(response)
}

/// Change the caller's address
///
/// Mails a link for `POST /v1/auth/verify-email` to the new address; when it is followed, the address changes and both are told.
#[utoipa::path(
    post,
    path = "/v1/users/me/email",
    operation_id = "changeEmail",
    tag = "Users",
    request_body(content = ChangeEmailRequest,
        example = json!({"email": "ada@lovelace.example", "password": "correct horse battery staple"})),
    responses((status = 202, response = inline(Posted))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)))
)]
pub(crate) async fn change_email(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let body: ChangeEmailRequest = json::read_strictly(&call.body)?;
    house.identity.change_email(&call.context, &visitor(&call), &body.email, body.password).await?;
    posted()
}

/// List members
///
/// The people of the caller's tenant and their roles.
#[utoipa::path(
    get,
    path = "/v1/users",
    operation_id = "listUsers",
    tag = "Users",
    params(
        ("limit" = Option<u32>, Query, description = "People per page, 1 to 200; default 50", example = 50, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses((status = 200, description = "A page of people", body = MemberPage,
        example = json!({"data": [], "next_cursor": null, "has_more": false}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("users.user.read")))
)]
pub(crate) async fn list_users(State(house): State<Arc<House>>, list: List, call: Call) -> Answer<Response> {
    let page = house.identity.list_members(&call.context, list.request()?).await?;
    list.respond(page, |rows, next_cursor, has_more| MemberPage {
        data: rows.into_iter().map(Member::from).collect(),
        next_cursor,
        has_more,
    })
}

/// Show a member
///
/// Somebody in the caller's tenant. Whoever is not in it is the same 404 as who does not exist.
#[utoipa::path(
    get,
    path = "/v1/users/{id}",
    operation_id = "getUser",
    tag = "Users",
    params(("id" = String, Path, description = "Id of the person", example = "usr_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The person", body = Member, example = json!({"id": "usr_01h455vb4pex5vsknk084sn02q", "email": "ada@example.org", "name": "Ada",
        "locale": "pt-BR", "zone": "Europe/Lisbon", "created_at": "2026-11-20T09:00:10Z", "roles": ["developer"], "joined_at": "2026-11-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("users.user.read")))
)]
pub(crate) async fn get_user(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let member = house.identity.get_member(&call.context, parse_user_id(&id)?).await?;
    Ok(respond(StatusCode::OK, &Member::from(member))?)
}

/// Change the roles of a member
///
/// At once, in open sessions, too. Nobody gives or takes a role that can do more than the own; the last owner stays one.
#[utoipa::path(
    patch,
    path = "/v1/users/{id}",
    operation_id = "updateUser",
    tag = "Users",
    params(("id" = String, Path, description = "Id of the person", example = "usr_01h455vb4pex5vsknk084sn02q")),
    request_body(content = UpdateUserRequest, example = json!({"roles": ["developer"]})),
    responses((status = 200, description = "The person", body = Member, example = json!({"id": "usr_01h455vb4pex5vsknk084sn02q", "email": "ada@example.org", "name": "Ada",
        "locale": "pt-BR", "zone": "Europe/Lisbon", "created_at": "2026-11-20T09:00:10Z", "roles": ["developer"], "joined_at": "2026-11-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("users.user.write")))
)]
pub(crate) async fn update_user(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let user = parse_user_id(&id)?;
    let body: UpdateUserRequest = json::read_strictly(&call.body)?;
    let member = house.identity.set_roles(&call.context, user, body.roles).await?;
    Ok(respond(StatusCode::OK, &Member::from(member))?)
}

/// Remove a member
///
/// The person leaves the tenant, and is logged out of it. The account and the tenant's keys stay.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}",
    operation_id = "removeUser",
    tag = "Users",
    params(("id" = String, Path, description = "Id of the person", example = "usr_01h455vb4pex5vsknk084sn02q")),
    responses((status = 204, description = "The person is no member any more")),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("users.user.write")))
)]
pub(crate) async fn remove_user(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    house.identity.remove_member(&call.context, parse_user_id(&id)?).await?;
    Ok(nothing())
}

/// Make a reset token
///
/// Give it to the person, who chooses a new password with `POST /v1/auth/reset`. It works once, for a day; earlier ones end.
#[utoipa::path(
    post,
    path = "/v1/users/{id}/reset-link",
    operation_id = "createResetLink",
    tag = "Users",
    params(("id" = String, Path, description = "Id of the person", example = "usr_01h455vb4pex5vsknk084sn02q")),
    responses((status = 201, description = "The token", body = OneTimeToken,
        example = json!({"token": "mfr_2q7…", "expires_at": "2026-11-21T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("users.user.write")))
)]
pub(crate) async fn create_reset_link(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let made = house.identity.make_reset_link(&call.context, parse_user_id(&id)?).await?;
    Ok(respond(StatusCode::CREATED, &OneTimeToken::from(made))?)
}
