//! `/v1/secrets`: what a tenant keeps in the vault. Values are written and never shown.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_core::Secret as Hidden;
use manifold_identity::SecretInfo;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{Call, Id};
use crate::edge::House;
use crate::json;
use crate::page::List;
use crate::refusal::Answer;
use crate::rest::{nothing, respond};

/// A new value.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PutSecretRequest {
    /// 1 to 65536 bytes.
    #[schema(value_type = String, example = "sk_live_4eC39HqLyjWDarjtT1zdp7dc", min_length = 1, max_length = 65_536)]
    value: Hidden<String>,
}

/// A secret, without its value.
#[derive(Serialize, ToSchema)]
pub(crate) struct Secret {
    #[schema(example = "sec_01h455vb4pex5vsknk084sn02q")]
    id: String,
    #[schema(example = "stripe.live", max_length = 100, pattern = "^[a-z0-9][a-z0-9._-]*$")]
    name: String,
    /// It has a value.
    #[schema(example = true)]
    set: bool,
    /// The last four characters; null for values of fewer than 16.
    #[schema(example = "p7dc")]
    last4: Option<String>,
    /// How many values it has had.
    #[schema(example = 3)]
    version: i32,
    #[schema(value_type = String, format = DateTime)]
    updated_at: String,
    /// The person or key that wrote the value.
    #[schema(example = "usr_01h455vb4pex5vsknk084sn02q")]
    updated_by: String,
}

/// A page of secrets, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct SecretPage {
    data: Vec<Secret>,
    /// Pass it as `cursor` for the next page; null = this is the last.
    next_cursor: Option<String>,
    has_more: bool,
}

impl From<SecretInfo> for Secret {
    fn from(info: SecretInfo) -> Self {
        Self {
            id: info.id.to_string(),
            name: info.name,
            set: true,
            last4: info.last4,
            version: info.version,
            updated_at: info.updated_at.to_string(),
            updated_by: info.updated_by,
        }
    }
}

/// List secrets
///
/// Those of the caller's tenant, the newest first, without their values.
#[utoipa::path(
    get,
    path = "/v1/secrets",
    operation_id = "listSecrets",
    tag = "Secrets",
    params(
        ("limit" = Option<u32>, Query, description = "Secrets per page, 1 to 200; default 50", example = 50, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses((status = 200, description = "A page of secrets", body = SecretPage,
        example = json!({"data": [], "next_cursor": null, "has_more": false}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("vault.secret.read")))
)]
pub(crate) async fn list_secrets(State(house): State<Arc<House>>, list: List, call: Call) -> Answer<Response> {
    let page = house.identity.list_secrets(&call.context, list.request()?).await?;
    list.respond(page, |rows, next_cursor, has_more| SecretPage {
        data: rows.into_iter().map(Secret::from).collect(),
        next_cursor,
        has_more,
    })
}

/// Show a secret
///
/// When and by whom it was written. Its value is never shown. Unknown, malformed and foreign names are the same 404.
#[utoipa::path(
    get,
    path = "/v1/secrets/{name}",
    operation_id = "getSecret",
    tag = "Secrets",
    params(("name" = String, Path, description = "Name of the secret", example = "stripe.live", max_length = 100, pattern = "^[a-z0-9][a-z0-9._-]*$")),
    responses((status = 200, description = "The secret, without its value", body = Secret, example = json!({
        "id": "sec_01h455vb4pex5vsknk084sn02q", "name": "stripe.live", "set": true, "last4": "p7dc", "version": 3,
        "updated_at": "2026-11-20T09:00:10Z", "updated_by": "usr_01h455vb4pex5vsknk084sn02q"
    }))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("vault.secret.read")))
)]
pub(crate) async fn get_secret(State(house): State<Arc<House>>, Id(name): Id, call: Call) -> Answer<Response> {
    let secret = house.identity.get_secret(&call.context, &name).await?;
    Ok(respond(StatusCode::OK, &Secret::from(secret))?)
}

/// Write a secret
///
/// Makes it, or puts a new value in the place of the old one. A person needs a login or step-up of the last ten minutes. A name
/// is 1 to 100 of `a-z 0-9 . _ -` and begins with a letter or digit.
#[utoipa::path(
    put,
    path = "/v1/secrets/{name}",
    operation_id = "putSecret",
    tag = "Secrets",
    params(("name" = String, Path, description = "Name of the secret", example = "stripe.live", max_length = 100, pattern = "^[a-z0-9][a-z0-9._-]*$")),
    request_body(content = PutSecretRequest, example = json!({"value": "sk_live_4eC39HqLyjWDarjtT1zdp7dc"})),
    responses((status = 200, description = "The secret, without its value", body = Secret, example = json!({
        "id": "sec_01h455vb4pex5vsknk084sn02q", "name": "stripe.live", "set": true, "last4": "p7dc", "version": 1,
        "updated_at": "2026-11-20T09:00:10Z", "updated_by": "usr_01h455vb4pex5vsknk084sn02q"
    }))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("vault.secret.write")))
)]
pub(crate) async fn put_secret(State(house): State<Arc<House>>, Id(name): Id, call: Call) -> Answer<Response> {
    let body: PutSecretRequest = json::read_strictly(&call.body)?;
    let secret = house.identity.put_secret(&call.context, &name, &body.value).await?;
    Ok(respond(StatusCode::OK, &Secret::from(secret))?)
}

/// Delete a secret
///
/// Its value is gone for good, and whoever needs it fails within a minute. Unknown, malformed and foreign names are the same 404.
#[utoipa::path(
    delete,
    path = "/v1/secrets/{name}",
    operation_id = "deleteSecret",
    tag = "Secrets",
    params(("name" = String, Path, description = "Name of the secret", example = "stripe.live", max_length = 100, pattern = "^[a-z0-9][a-z0-9._-]*$")),
    responses((status = 204, description = "It is gone")),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("vault.secret.write")))
)]
pub(crate) async fn delete_secret(State(house): State<Arc<House>>, Id(name): Id, call: Call) -> Answer<Response> {
    house.identity.delete_secret(&call.context, &name).await?;
    Ok(nothing())
}
