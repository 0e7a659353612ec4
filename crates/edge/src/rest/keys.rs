//! `/v1/keys`: API keys of the caller's tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};
use manifold_core::{Error, IdempotencyKey, Timestamp};
use manifold_identity::{Environment, KeyInfo, NewKey, Refill, Terms, parse_key_id, read_owner_of_key};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::call::{Call, Id};
use crate::edge::House;
use crate::headers::value;
use crate::idempotency::{self, REPLAYED};
use crate::json;
use crate::page::List;
use crate::refusal::Answer;
use crate::rest::key_terms::{KeyRefill, KeyRestrictions, read_time};
use crate::rest::respond;
use crate::rest::rotation::Rotation;

/// What a new key shall be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateKeyRequest {
    /// What a person calls it, 1 to 100 characters.
    #[schema(
        example = "website",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
    /// Whether it is a trap, to be left where only a thief looks: whoever uses it is refused as with an unknown key, and makes a
    /// critical incident.
    #[serde(default)]
    canary: bool,
    /// `live` (default) or `test`.
    #[schema(example = "live", pattern = "^(live|test)$")]
    environment: Option<String>,
    /// Granted permissions, never more than the caller holds. Default: `ai.inference.run`.
    #[schema(example = json!(["ai.inference.run"]), max_items = 100, max_length = 100,
        pattern = r"^(\*|[a-z0-9_-]+\.(\*|[a-z0-9_-]+\.(\*|[a-z0-9_-]+)))(@(own|env:live|env:test|api:[a-z0-9_-]+)(,(own|env:live|env:test|api:[a-z0-9_-]+))*)?$")]
    permissions: Option<Vec<String>>,
    /// When it ends by itself (RFC 3339). Default: never.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<String>,
    /// From where and for what it may be used. Default: from everywhere and for everything.
    restrictions: Option<KeyRestrictions>,
    /// What shall be remembered with it, up to 4 KiB of JSON.
    #[schema(value_type = Option<Object>, example = json!({"plan": "free"}))]
    metadata: Option<Map<String, Value>>,
    /// How many calls it has: each costs one. Default: `refill.amount`, and without a refill as many as it wants.
    #[schema(example = 1_000, minimum = 0, maximum = 1_000_000_000_000_i64)]
    credits: Option<i64>,
    /// How credits are filled up. Default: not.
    refill: Option<KeyRefill>,
    /// How many days a secret of it shall live at most: then the event `identity.key.rotation_due` reminds. Default: no matter.
    #[schema(example = 90, minimum = 30, maximum = 365)]
    rotate_every: Option<u16>,
    /// For whom it is, see `POST /v1/owners`. Default: nobody in particular.
    #[schema(example = "own_01h455vb4pex5vsknk084sn02q")]
    owner: Option<String>,
}

/// An API key, without its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct Key {
    #[schema(example = "key_01h455vb4pex5vsknk084sn02q")]
    id: String,
    #[schema(example = "website")]
    name: String,
    /// Whether it is a trap that nobody should ever use.
    canary: bool,
    /// `live` or `test`.
    #[schema(example = "live")]
    environment: String,
    permissions: Vec<String>,
    /// `active`, `disabled`, `revoked` or `expired`.
    #[schema(example = "active")]
    state: &'static str,
    /// Enough of the secret to recognise it.
    #[schema(example = "mfk_live_0123456789")]
    prefix: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<String>,
    /// A few seconds late.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    revoked_at: Option<String>,
    /// Only while the secret is being replaced.
    rotation: Option<Rotation>,
    restrictions: KeyRestrictions,
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    /// How many calls it has left; null = as many as it wants.
    credits: Option<i64>,
    refill: Option<KeyRefill>,
    #[schema(value_type = Option<String>, format = DateTime)]
    refill_at: Option<String>,
    /// How many days a secret of it shall live at most.
    rotate_every: Option<u16>,
    #[schema(value_type = Option<String>, format = DateTime)]
    rotation_due_at: Option<String>,
    /// For whom it is.
    #[schema(example = "own_01h455vb4pex5vsknk084sn02q")]
    owner: Option<String>,
}

/// A key with a new secret, which is shown here and nowhere else.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedKey {
    #[serde(flatten)]
    pub(crate) key: Key,
    /// The whole key.
    #[schema(example = "mfk_live_0123456789_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3qIAiy")]
    pub(crate) secret: String,
}

/// A page of keys, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyPage {
    data: Vec<Key>,
    /// Pass it as `cursor` for the next page; null = this is the last.
    next_cursor: Option<String>,
    has_more: bool,
}

impl From<KeyInfo> for Key {
    fn from(info: KeyInfo) -> Self {
        let time = |time: Timestamp| time.to_string();
        Self {
            id: info.id.to_string(),
            name: info.name,
            canary: info.canary,
            environment: info.environment,
            permissions: info.permissions,
            state: info.state.name(),
            prefix: info.prefix,
            created_at: time(info.created_at),
            expires_at: info.expires_at.map(time),
            last_used_at: info.last_used_at.map(time),
            revoked_at: info.revoked_at.map(time),
            rotation: info.rotation.map(Rotation::from),
            restrictions: info.terms.restrictions.into(),
            metadata: info.terms.metadata,
            credits: info.terms.credits,
            refill: info.terms.refill.map(KeyRefill::from),
            refill_at: info.refill_at.map(time),
            rotate_every: info.terms.rotate_every,
            owner: info.terms.owner.map(|owner| owner.to_string()),
            rotation_due_at: info.rotation_due_at.map(time),
        }
    }
}

fn new_key(body: CreateKeyRequest, idempotency_key: Option<IdempotencyKey>) -> Answer<NewKey> {
    let environment = body.environment.as_deref().unwrap_or("live");
    let environment = Environment::parse(environment)
        .ok_or_else(|| Error::invalid("ENVIRONMENT_INVALID", "environment is live or test").at("environment"))?;
    let expires_at = body.expires_at.as_deref().map(read_time).transpose()?;
    let permissions = body.permissions.unwrap_or_default();
    let terms = Terms {
        restrictions: body.restrictions.unwrap_or_default().into(),
        metadata: body.metadata.unwrap_or_default(),
        credits: body.credits,
        refill: body.refill.map(Refill::from),
        rotate_every: body.rotate_every,
        owner: body.owner.as_deref().map(read_owner_of_key).transpose()?,
    };
    let (name, canary) = (body.name, body.canary);
    Ok(NewKey { name, environment, permissions, expires_at, terms, canary, idempotency_key })
}

/// Create an API key
///
/// The answer holds the secret, which is shown here and nowhere else. A key never holds more than its maker. Who repeats the
/// request with the same `Idempotency-Key` within 24 hours gets the same key and secret, and no second key is made.
#[utoipa::path(
    post,
    path = "/v1/keys",
    operation_id = "createKey",
    tag = "Keys",
    params(("Idempotency-Key" = Option<String>, Header, min_length = 1, max_length = 255,
        description = "Any text that is new for each new request, such as a UUID; the same for each repetition",
        example = "8e03978e-40d5-43e8-bc93-6894a57f9324")),
    request_body(content = CreateKeyRequest, example = json!({"name": "website", "permissions": ["ai.inference.run"]})),
    responses((status = 201, description = "The key and its secret", body = CreatedKey,
        headers(("Idempotent-Replayed" = String, description = "`true`: this is the answer to an earlier request")),
        example = json!({
            "id": "key_01h455vb4pex5vsknk084sn02q", "name": "website", "canary": false, "environment": "live", "permissions": ["ai.inference.run"],
            "state": "active", "prefix": "mfk_live_0123456789", "created_at": "2026-11-20T09:00:10Z", "expires_at": null, "last_used_at": null,
            "revoked_at": null, "rotation": null,
            "restrictions": {"ips": [], "origins": [], "methods": [], "apis": []}, "metadata": {}, "credits": null, "refill": null, "refill_at": null, "rotate_every": null,
        "rotation_due_at": null, "owner": null,
            "secret": "mfk_live_0123456789_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3qIAiy"
        })
    )),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("keys.key.write")), ("x-manifold-idempotency" = json!("key")))
)]
pub(crate) async fn create_key(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let new = new_key(json::read_strictly(&call.body)?, idempotency::key(&call.headers)?)?;
    let created = house.identity.create_key(&call.context, new).await?;
    let location = value(format!("/v1/keys/{}", created.key.id));
    let replayed = created.replayed;
    let body = CreatedKey { key: created.key.into(), secret: created.secret.expose().clone() };
    let mut response = respond(StatusCode::CREATED, &body)?;
    response.headers_mut().insert(LOCATION, location);
    if replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// List API keys
///
/// The keys of the caller's tenant, newest first, without their secrets.
#[utoipa::path(
    get,
    path = "/v1/keys",
    operation_id = "listKeys",
    tag = "Keys",
    params(
        ("limit" = Option<u32>, Query, description = "Keys per page, 1 to 200; default 50", example = 50, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses((status = 200, description = "A page of keys", body = KeyPage,
        example = json!({"data": [], "next_cursor": null, "has_more": false}))),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("keys.key.read")))
)]
pub(crate) async fn list_keys(State(house): State<Arc<House>>, list: List, call: Call) -> Answer<Response> {
    let page = house.identity.list_keys(&call.context, list.request()?).await?;
    list.respond(page, |rows, next_cursor, has_more| KeyPage {
        data: rows.into_iter().map(Key::from).collect(),
        next_cursor,
        has_more,
    })
}

/// Show an API key
///
/// One key of the caller's tenant, without its secret. Unknown and foreign ids are the same 404.
#[utoipa::path(
    get,
    path = "/v1/keys/{id}",
    operation_id = "getKey",
    tag = "Keys",
    params(("id" = String, Path, description = "Id of the key", example = "key_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The key", body = Key, example = json!({
        "id": "key_01h455vb4pex5vsknk084sn02q", "name": "website", "canary": false, "environment": "live", "permissions": ["ai.inference.run"],
        "state": "active", "prefix": "mfk_live_0123456789", "created_at": "2026-11-20T09:00:10Z", "expires_at": null,
        "last_used_at": null, "revoked_at": null, "rotation": null,
        "restrictions": {"ips": [], "origins": [], "methods": [], "apis": []}, "metadata": {}, "credits": null, "refill": null, "refill_at": null, "rotate_every": null,
        "rotation_due_at": null, "owner": null
    }))),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("keys.key.read")))
)]
pub(crate) async fn get_key(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let key = house.identity.get_key(&call.context, parse_key_id(&id)?).await?;
    Ok(respond(StatusCode::OK, &Key::from(key))?)
}

/// Revoke an API key
///
/// Ends a key for good, everywhere and within seconds. Repeating it changes nothing.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    operation_id = "revokeKey",
    tag = "Keys",
    params(("id" = String, Path, description = "Id of the key", example = "key_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The revoked key", body = Key, example = json!({
        "id": "key_01h455vb4pex5vsknk084sn02q", "name": "website", "canary": false, "environment": "live", "permissions": ["ai.inference.run"],
        "state": "revoked", "prefix": "mfk_live_0123456789", "created_at": "2026-11-20T09:00:10Z", "expires_at": null,
        "last_used_at": null, "revoked_at": "2026-11-20T09:00:11Z", "rotation": null,
        "restrictions": {"ips": [], "origins": [], "methods": [], "apis": []}, "metadata": {}, "credits": null, "refill": null, "refill_at": null, "rotate_every": null,
        "rotation_due_at": null, "owner": null
    }))),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("keys.key.write")))
)]
pub(crate) async fn revoke_key(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let key = house.identity.revoke_key(&call.context, parse_key_id(&id)?).await?;
    Ok(respond(StatusCode::OK, &Key::from(key))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_environments_are_checked() {
        let body = |environment: &str, expires_at: &str| CreateKeyRequest {
            canary: false,
            name: "a".to_owned(),
            environment: Some(environment.to_owned()),
            permissions: None,
            expires_at: Some(expires_at.to_owned()),
            restrictions: None,
            metadata: None,
            credits: None,
            refill: None,
            rotate_every: None,
            owner: None,
        };

        assert_eq!(
            new_key(body("prod", "2027-01-31T12:00:00Z"), None).unwrap_err().error.reason(),
            "ENVIRONMENT_INVALID"
        );
        assert_eq!(new_key(body("test", "tomorrow"), None).unwrap_err().error.reason(), "EXPIRY_INVALID");
        assert!(new_key(body("test", "2027-01-31T12:00:00Z"), None).is_ok());
    }
}
