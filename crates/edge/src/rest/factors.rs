//! `/v1/users/me/factors`: the caller's second factor and recovery codes; and removing those of somebody who lost them.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_core::Secret;
use manifold_identity::{FactorInfo, NewFactor, parse_factor_id, parse_user_id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{Call, Id};
use crate::edge::House;
use crate::json;
use crate::refusal::Answer;
use crate::rest::auth::{Session, enter, visitor};
use crate::rest::{nothing, respond};

/// A second factor.
#[derive(Serialize, ToSchema)]
pub(crate) struct Factor {
    #[schema(example = "fac_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// `totp`: an app that shows codes.
    #[schema(example = "totp")]
    kind: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    /// Null = nobody is asked for it yet.
    #[schema(value_type = Option<String>, format = DateTime)]
    confirmed_at: Option<String>,
}

/// Which kind of factor to begin.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateFactorRequest {
    #[expect(dead_code, reason = "there is one kind, and reading it refuses others")]
    kind: Kind,
}

/// Kinds of factors.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// An authenticator app (RFC 6238).
    Totp,
}

/// A factor that was begun, with what is shown here and nowhere else.
#[derive(Serialize, ToSchema)]
pub(crate) struct BegunFactor {
    #[serde(flatten)]
    factor: Factor,
    /// For typing into the app, in base32.
    #[schema(example = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")]
    secret: String,
    /// For a QR code.
    #[schema(example = "otpauth://totp/Manifold:ada%40example.org?secret=GEZDGNBV…&issuer=Manifold")]
    uri: String,
}

/// The first code of the app.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ConfirmFactorRequest {
    #[schema(value_type = String, example = "287082")]
    code: Secret<String>,
}

/// The factors of the caller.
#[derive(Serialize, ToSchema)]
pub(crate) struct Factors {
    /// At most two: the one that is asked for, and one that was begun.
    data: Vec<Factor>,
}

/// What works once each in place of the factor, shown here and nowhere else.
#[derive(Serialize, ToSchema)]
pub(crate) struct RecoveryCodes {
    #[schema(example = json!(["MZXW6YTBOJQWK3LQNRSXGLBA"]))]
    codes: Vec<String>,
}

impl From<FactorInfo> for Factor {
    fn from(factor: FactorInfo) -> Self {
        Self {
            id: factor.id.to_string(),
            kind: factor.kind,
            created_at: factor.created_at.to_string(),
            confirmed_at: factor.confirmed_at.map(|time| time.to_string()),
        }
    }
}

impl From<NewFactor> for BegunFactor {
    fn from(new: NewFactor) -> Self {
        Self { factor: new.factor.into(), secret: new.secret.expose().clone(), uri: new.uri.expose().clone() }
    }
}

/// Begin a second factor
///
/// The answer holds the secret for an authenticator app, once. Nobody is asked for it until its first code confirms it; one that
/// was begun before ends. Needs a proof of the last ten minutes, as everything here that changes something.
#[utoipa::path(
    post,
    path = "/v1/users/me/factors",
    operation_id = "createFactor",
    tag = "Users",
    request_body(content = CreateFactorRequest, example = json!({"kind": "totp"})),
    responses((status = 201, description = "The factor and its secret", body = BegunFactor, example = json!({
        "id": "fac_01h455vb4pex5vsknk084sn02q", "kind": "totp", "created_at": "2026-11-20T09:00:10Z", "confirmed_at": null,
        "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
        "uri": "otpauth://totp/Manifold:ada%40example.org?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Manifold\
                &algorithm=SHA1&digits=6&period=30"}))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)), ("x-factor-setup" = json!(true)))
)]
pub(crate) async fn create_factor(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    json::read_strictly::<CreateFactorRequest>(&call.body)?;
    let new = house.identity.create_factor(&call.context).await?;
    Ok(respond(StatusCode::CREATED, &BegunFactor::from(new))?)
}

/// List one's factors
///
/// The one that is asked for at login, and one that was begun, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/users/me/factors",
    operation_id = "listFactors",
    tag = "Users",
    responses((status = 200, description = "The factors", body = Factors, example = json!({"data": [{
        "id": "fac_01h455vb4pex5vsknk084sn02q", "kind": "totp", "created_at": "2026-11-20T09:00:10Z",
        "confirmed_at": "2026-11-20T09:01:00Z"}]}))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)), ("x-factor-setup" = json!(true)))
)]
pub(crate) async fn list_factors(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let data = house.identity.list_factors(&call.context).await?.into_iter().map(Factor::from).collect();
    Ok(respond(StatusCode::OK, &Factors { data })?)
}

/// Confirm a factor
///
/// By the code that the app shows. From now on logging in asks for it, and an earlier factor ends. All sessions of the caller
/// end, who goes on with a new one.
#[utoipa::path(
    post,
    path = "/v1/users/me/factors/{id}/confirm",
    operation_id = "confirmFactor",
    tag = "Users",
    params(("id" = String, Path, description = "Id of the factor", example = "fac_01h455vb4pex5vsknk084sn02q")),
    request_body(content = ConfirmFactorRequest, example = json!({"code": "287082"})),
    responses((status = 200, response = inline(Session))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)), ("x-factor-setup" = json!(true)))
)]
pub(crate) async fn confirm_factor(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let id = parse_factor_id(&id)?;
    let body: ConfirmFactorRequest = json::read_strictly(&call.body)?;
    let entered = house.identity.confirm_factor(&call.context, visitor(&call), id, &body.code).await?;
    enter(&house, StatusCode::OK, entered)
}

/// Remove a factor
///
/// Logging in asks for the password alone, and recovery codes end.
#[utoipa::path(
    delete,
    path = "/v1/users/me/factors/{id}",
    operation_id = "removeFactor",
    tag = "Users",
    params(("id" = String, Path, description = "Id of the factor", example = "fac_01h455vb4pex5vsknk084sn02q")),
    responses((status = 204, description = "It is asked for no more")),
    security(("session" = [])),
    extensions(("x-user" = json!(true)))
)]
pub(crate) async fn remove_factor(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    house.identity.remove_factor(&call.context, parse_factor_id(&id)?).await?;
    Ok(nothing())
}

/// Make recovery codes
///
/// Ten codes that work once each in place of the app's; earlier ones end. Keep them where the phone is not.
#[utoipa::path(
    post,
    path = "/v1/users/me/recovery-codes",
    operation_id = "createRecoveryCodes",
    tag = "Users",
    responses((status = 201, description = "The codes", body = RecoveryCodes, example = json!({"codes": ["MZXW6YTBOJQWK3LQNRSXGLBA"]}))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)))
)]
pub(crate) async fn create_recovery_codes(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let codes = house.identity.create_recovery_codes(&call.context).await?;
    let codes = codes.iter().map(|code| code.expose().clone()).collect();
    Ok(respond(StatusCode::CREATED, &RecoveryCodes { codes })?)
}

/// Remove a member's factors
///
/// For who lost the phone and the recovery codes. The person's sessions end, and the next login asks for the password alone.
#[utoipa::path(
    delete,
    path = "/v1/users/{id}/factors",
    operation_id = "resetFactors",
    tag = "Users",
    params(("id" = String, Path, description = "Id of the person", example = "usr_01h455vb4pex5vsknk084sn02q")),
    responses((status = 204, description = "The person has no factor")),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("users.user.write")))
)]
pub(crate) async fn reset_factors(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    house.identity.reset_factors(&call.context, parse_user_id(&id)?).await?;
    Ok(nothing())
}
