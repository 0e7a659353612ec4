//! `/v1/auth`: new passwords, and proving again by the password to be the person.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use manifold_core::Secret;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::call::{Call, Query};
use crate::edge::House;
use crate::json;
use crate::refusal::Answer;
use crate::rest::auth::{Entry, come_in, visitor};
use crate::rest::nothing;
use crate::rest::tokens::Mode;

/// A new password, and the proof that one knows the old one.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordRequest {
    #[schema(value_type = String, example = "correct horse battery staple")]
    current: Secret<String>,
    /// 8 to 128 characters that are not easily guessed.
    #[schema(value_type = String, example = "another four words here", min_length = 8, max_length = 128,
        format = Password)]
    new: Secret<String>,
    /// Of the app, or a recovery code, if the account has a second factor.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "287082")]
    code: Option<Secret<String>>,
}

/// Who forgot the password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResetRequest {
    /// From the mail that `POST /v1/auth/forgot` asks for, or from `POST /v1/users/{id}/reset-link`.
    #[schema(value_type = String, example = "mfr_2q7…")]
    token: Secret<String>,
    /// 8 to 128 characters that are not easily guessed.
    #[schema(value_type = String, example = "another four words here", min_length = 8, max_length = 128,
        format = Password)]
    password: Secret<String>,
}

/// The proof that the caller is still the person.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StepUpRequest {
    #[schema(value_type = String, example = "correct horse battery staple")]
    password: Secret<String>,
    /// Of the app, or a recovery code, if the account has a second factor.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "287082")]
    code: Option<Secret<String>>,
}

/// Choose a new password
///
/// With the token of a mail, or one that somebody with power over the account made. All sessions of the person end.
#[utoipa::path(
    post,
    path = "/v1/auth/reset",
    operation_id = "resetPassword",
    tag = "Sessions",
    request_body(content = ResetRequest, example = json!({"token": "mfr_2q7…", "password": "another four words here"})),
    responses((status = 204, description = "The new password works")),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn reset_password(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    come_in(&house, &call)?;
    let body: ResetRequest = json::read_strictly(&call.body)?;
    house.identity.reset_password(&call.context, &body.token, &body.password).await?;
    Ok(nothing())
}

/// Change one's password
///
/// Ends all sessions and tokens of the caller, who goes on with a new session, or with tokens as after logging in.
#[utoipa::path(
    post,
    path = "/v1/auth/password",
    operation_id = "changePassword",
    tag = "Sessions",
    params(("mode" = Option<String>, Query, description = "`token` for tokens instead of a cookie", example = "token", pattern = "^token$")),
    request_body(content = PasswordRequest,
        example = json!({"current": "correct horse battery staple", "new": "another four words here"})),
    responses((status = 200, response = inline(Entry))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)))
)]
pub(crate) async fn change_password(
    State(house): State<Arc<House>>,
    Query(query): Query,
    call: Call,
) -> Answer<Response> {
    let body: PasswordRequest = json::read_strictly(&call.body)?;
    let mode = Mode::read(&query)?;
    let visitor = visitor(&call);
    let entered = house.identity.change_password(&call.context, visitor, body.current, body.new, body.code).await?;
    mode.enter(&house, entered).await
}

/// Prove again to be the person
///
/// Keys, roles, invitations, new passwords and second factors are for who did so within ten minutes. The caller goes on with a
/// new session, and the old one ends.
#[utoipa::path(
    post,
    path = "/v1/auth/step-up",
    operation_id = "stepUp",
    tag = "Sessions",
    params(("mode" = Option<String>, Query, description = "`token` for tokens instead of a cookie", example = "token", pattern = "^token$")),
    request_body(content = StepUpRequest, example = json!({"password": "correct horse battery staple"})),
    responses((status = 200, response = inline(Entry))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)), ("x-factor-setup" = json!(true)))
)]
pub(crate) async fn step_up(State(house): State<Arc<House>>, Query(query): Query, call: Call) -> Answer<Response> {
    let body: StepUpRequest = json::read_strictly(&call.body)?;
    let mode = Mode::read(&query)?;
    let entered = house.identity.step_up(&call.context, visitor(&call), body.password, body.code).await?;
    mode.enter(&house, entered).await
}
