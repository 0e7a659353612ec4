//! `/v1/auth`, as far as it goes on by mail: proofs of addresses and forgotten passwords.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_core::Secret;
use serde::{Deserialize, Serialize};
use utoipa::{ToResponse, ToSchema};

use crate::call::Call;
use crate::edge::House;
use crate::json;
use crate::refusal::Answer;
use crate::rest::auth::{come_in, visitor};
use crate::rest::{nothing, respond};

/// Who proves an address.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyRequest {
    /// From the mail.
    #[schema(value_type = String, example = "mfv_2q7…")]
    token: Secret<String>,
    /// Of who registers: the password of the new account, 8 to 128 characters that are not easily guessed.
    #[schema(value_type = Option<String>, example = "correct horse battery staple", min_length = 8, max_length = 128,
        format = Password)]
    password: Option<Secret<String>>,
}

/// Who cannot log in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForgotRequest {
    #[schema(example = "ada@example.org", format = Email)]
    email: String,
}

/// What happens next happens by mail.
#[derive(Serialize, ToSchema, ToResponse)]
#[response(example = json!({"message": "the rest is in the mail"}))]
pub(crate) struct Posted {
    #[schema(example = "the rest is in the mail")]
    message: &'static str,
}

/// Prove an address
///
/// With the token of a mail. Who registers chooses the password here, gets an account with a tenant of its own, and then logs
/// in; who changes the address of an account sends no password.
#[utoipa::path(
    post,
    path = "/v1/auth/verify-email",
    operation_id = "verifyEmail",
    tag = "Sessions",
    request_body(content = VerifyRequest, example = json!({"token": "mfv_2q7…", "password": "correct horse battery staple"})),
    responses((status = 204, description = "The address is proven")),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn verify_email(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    come_in(&house, &call)?;
    let body: VerifyRequest = json::read_strictly(&call.body)?;
    house.identity.verify_email(&call.context, &body.token, body.password.as_ref()).await?;
    Ok(nothing())
}

/// Ask for a new password
///
/// Mails a link for `POST /v1/auth/reset` that works for an hour, if the address has an account; the answer is the same.
#[utoipa::path(
    post,
    path = "/v1/auth/forgot",
    operation_id = "forgotPassword",
    tag = "Sessions",
    request_body(content = ForgotRequest, example = json!({"email": "ada@example.org"})),
    responses((status = 202, response = inline(Posted))),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn forgot_password(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    come_in(&house, &call)?;
    let body: ForgotRequest = json::read_strictly(&call.body)?;
    house.identity.forgot_password(&visitor(&call), &body.email).await?;
    posted()
}

/// The same for every address.
pub(crate) fn posted() -> Answer<Response> {
    Ok(respond(StatusCode::ACCEPTED, &Posted { message: "the rest is in the mail" })?)
}
