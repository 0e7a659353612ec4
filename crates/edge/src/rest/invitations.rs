//! `/v1/invitations`: who may join the caller's tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_identity::{Invitation as InvitationInfo, OneTime, parse_invitation_id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{Call, Id};
use crate::edge::House;
use crate::json;
use crate::page::List;
use crate::refusal::Answer;
use crate::rest::{nothing, respond};

/// Whom to invite.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InviteRequest {
    #[schema(example = "grace@example.org", format = Email)]
    email: String,
    /// What the person will be; see `GET /v1/roles`.
    #[schema(example = "developer", format = "role")]
    role: String,
}

/// An invitation, without its token.
#[derive(Serialize, ToSchema)]
pub(crate) struct Invitation {
    #[schema(example = "inv_01h455vb4pex5vsknk084sn02q")]
    id: String,
    #[schema(example = "grace@example.org")]
    email: String,
    #[schema(example = "developer")]
    role: String,
    /// The person or key that invited.
    #[schema(example = "usr_01h455vb4pex5vsknk084sn02q")]
    invited_by: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: String,
}

/// A new invitation, with its token if nobody mails it. It is shown here and nowhere else.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedInvitation {
    #[serde(flatten)]
    invitation: Invitation,
    /// For `POST /v1/auth/register`; null = it was mailed to the address, whose owner alone shall have it.
    #[schema(example = "mfi_2q7…")]
    token: Option<String>,
}

/// A page of invitations, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct InvitationPage {
    data: Vec<Invitation>,
    /// Pass it as `cursor` for the next page; null = this is the last.
    next_cursor: Option<String>,
    has_more: bool,
}

impl From<InvitationInfo> for Invitation {
    fn from(info: InvitationInfo) -> Self {
        Self {
            id: info.id.to_string(),
            email: info.email,
            role: info.role,
            invited_by: info.invited_by,
            created_at: info.created_at.to_string(),
            expires_at: info.expires_at.to_string(),
        }
    }
}

impl From<(InvitationInfo, Option<OneTime>)> for CreatedInvitation {
    fn from((invitation, made): (InvitationInfo, Option<OneTime>)) -> Self {
        Self { invitation: invitation.into(), token: made.map(|made| made.token.expose().clone()) }
    }
}

/// Invite somebody
///
/// With a mail server the person gets the token by mail; otherwise it is in the answer, to be given to the person, who joins
/// with `POST /v1/auth/register`. It works once, for a week; an earlier invitation of the same address ends.
#[utoipa::path(
    post,
    path = "/v1/invitations",
    operation_id = "createInvitation",
    tag = "Users",
    request_body(content = InviteRequest, example = json!({"email": "grace@example.org", "role": "developer"})),
    responses((status = 201, description = "The invitation and its token", body = CreatedInvitation, example = json!({
        "id": "inv_01h455vb4pex5vsknk084sn02q", "email": "grace@example.org", "role": "developer",
        "invited_by": "usr_01h455vb4pex5vsknk084sn02q", "created_at": "2026-11-20T09:00:10Z",
        "expires_at": "2026-11-27T09:00:10Z", "token": "mfi_2q7…"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("users.user.write")))
)]
pub(crate) async fn create_invitation(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let body: InviteRequest = json::read_strictly(&call.body)?;
    let made = house.identity.invite(&call.context, &body.email, &body.role).await?;
    Ok(respond(StatusCode::CREATED, &CreatedInvitation::from(made))?)
}

/// List invitations
///
/// Those into the caller's tenant that still work, the newest first, without their tokens.
#[utoipa::path(
    get,
    path = "/v1/invitations",
    operation_id = "listInvitations",
    tag = "Users",
    params(
        ("limit" = Option<u32>, Query, description = "Invitations per page, 1 to 200; default 50", example = 50, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses((status = 200, description = "A page of invitations", body = InvitationPage,
        example = json!({"data": [], "next_cursor": null, "has_more": false}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("users.user.read")))
)]
pub(crate) async fn list_invitations(State(house): State<Arc<House>>, list: List, call: Call) -> Answer<Response> {
    let page = house.identity.list_invitations(&call.context, list.request()?).await?;
    list.respond(page, |rows, next_cursor, has_more| InvitationPage {
        data: rows.into_iter().map(Invitation::from).collect(),
        next_cursor,
        has_more,
    })
}

/// Take an invitation back
///
/// Its token does not work any more. Used and unknown invitations are the same 404.
#[utoipa::path(
    delete,
    path = "/v1/invitations/{id}",
    operation_id = "revokeInvitation",
    tag = "Users",
    params(("id" = String, Path, description = "Id of the invitation", example = "inv_01h455vb4pex5vsknk084sn02q")),
    responses((status = 204, description = "It does not work any more")),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("users.user.write")))
)]
pub(crate) async fn revoke_invitation(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    house.identity.revoke_invitation(&call.context, parse_invitation_id(&id)?).await?;
    Ok(nothing())
}
