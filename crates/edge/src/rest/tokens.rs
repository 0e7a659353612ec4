//! Access tokens: what a program is logged in by, in a person's name, instead of a cookie.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_core::Secret;
use manifold_identity::{self as identity, Entered};
use serde::{Deserialize, Serialize};
use utoipa::{ToResponse, ToSchema};

use crate::call::Call;
use crate::edge::House;
use crate::json;
use crate::refusal::{Answer, Refusal};
use crate::rest::auth::{self, Entrance, Entry};
use crate::rest::respond;

/// A session that goes on.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefreshRequest {
    /// From the last answer with tokens.
    #[schema(value_type = String, example = "mfrt_2q7…")]
    refresh_token: Secret<String>,
}

/// What a program is logged in by.
#[derive(Serialize, ToSchema, ToResponse)]
#[response(example = json!({"access_token": "eyJhbGciOiJFZERTQSIs…", "token_type": "Bearer", "expires_in": 600,
    "refresh_token": "mfrt_2q7…"}))]
pub(crate) struct Tokens {
    /// To be sent as `Authorization: Bearer …`.
    #[schema(example = "eyJhbGciOiJFZERTQSIs…")]
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// How long the access token works, in seconds.
    #[schema(example = 600)]
    expires_in: u64,
    /// For `POST /v1/auth/refresh`, once. It works for 30 days.
    #[schema(example = "mfrt_2q7…")]
    refresh_token: String,
}

impl From<identity::Tokens> for Tokens {
    fn from(tokens: identity::Tokens) -> Self {
        Self {
            access_token: tokens.access.expose().clone(),
            token_type: "Bearer",
            expires_in: tokens.expires_in.as_secs(),
            refresh_token: tokens.refresh.expose().clone(),
        }
    }
}

/// Get new tokens
///
/// For the refresh token of the last answer, which works once. Whoever uses one again ends the session: one of the two has
/// stolen it. A session that is not renewed for 30 days is over, and any after 90 days.
#[utoipa::path(
    post,
    path = "/v1/auth/refresh",
    operation_id = "refreshTokens",
    tag = "Sessions",
    request_body(content = RefreshRequest, example = json!({"refresh_token": "mfrt_2q7…"})),
    responses((status = 200, response = inline(Tokens))),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn refresh(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    auth::come_in(&house, &call)?;
    let body: RefreshRequest = json::read_strictly(&call.body)?;
    let tokens = house.identity.refresh_tokens(&call.context, auth::visitor(&call), &body.refresh_token).await?;
    Ok(respond(StatusCode::OK, &Tokens::from(tokens))?)
}

/// How somebody wants to be known from now on.
pub(crate) enum Mode {
    Cookie,
    Token,
}

impl Mode {
    /// Reads `mode`; anything else is refused.
    pub(crate) fn read(query: &str) -> Answer<Self> {
        match query {
            "" => Ok(Self::Cookie),
            "mode=token" => Ok(Self::Token),
            _ => Err(Refusal::bad("PARAMETER_UNKNOWN", "the only parameter is mode=token")),
        }
    }

    /// Lets somebody in.
    pub(crate) async fn enter(self, house: &House, entered: Entered) -> Answer<Response> {
        match self {
            Self::Cookie => auth::enter(house, StatusCode::OK, entered),
            Self::Token => {
                let tokens = house.identity.issue_tokens(entered).await?;
                Ok(respond(StatusCode::OK, &Entry(Entrance::Tokens(tokens.into())))?)
            }
        }
    }
}
