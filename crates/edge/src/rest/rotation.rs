//! `/v1/keys/{id}/rotate`: a key gets a new secret while the old one is still used.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_core::{Error, Timestamp, parse_iso_duration};
use manifold_identity::{Finish, parse_key_id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};

use crate::call::{Call, Id};
use crate::edge::House;
use crate::json;
use crate::problem::Problem;
use crate::refusal::Answer;
use crate::rest::keys::{CreatedKey, Key};
use crate::rest::respond;

const DEFAULT_GRACE: Duration = Duration::from_secs(24 * 3_600);
/// 30 days in seconds, the longest.
const MAX_GRACE: u32 = 30 * 24 * 3_600;

/// A secret that is being replaced.
#[derive(Serialize, ToSchema)]
#[schema(as = KeyRotation)]
pub(crate) struct Rotation {
    /// Enough of the old secret to recognise it.
    #[schema(example = "mfk_live_0123456789")]
    old_prefix: String,
    /// When the old secret ends by itself.
    #[schema(value_type = String, format = DateTime)]
    old_ends_at: String,
    /// When the old secret was last used, a few seconds late.
    #[schema(value_type = Option<String>, format = DateTime)]
    old_used_at: Option<String>,
    /// When the new secret was first used, a few seconds late.
    #[schema(value_type = Option<String>, format = DateTime)]
    new_used_at: Option<String>,
}

impl From<manifold_identity::Rotation> for Rotation {
    fn from(rotation: manifold_identity::Rotation) -> Self {
        let time = |time: Timestamp| time.to_string();
        Self {
            old_prefix: rotation.old_prefix,
            old_ends_at: time(rotation.old_ends_at),
            old_used_at: rotation.old_used_at.map(time),
            new_used_at: rotation.new_used_at.map(time),
        }
    }
}

/// How long the old secret works on.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateKeyRequest {
    #[schema(schema_with = grace)]
    grace: Option<Grace>,
}

fn grace() -> impl Into<RefOr<Schema>> {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(MAX_GRACE));
    let text = ObjectBuilder::new().schema_type(Type::String).format(Some(SchemaFormat::Custom("duration".to_owned())));
    OneOfBuilder::new().item(seconds).item(text).item(ObjectBuilder::new().schema_type(Type::Null)).description(Some(
        "Seconds, or a length of time of ISO 8601 such as `PT12H` or `P7D`; at most 30 days. Default: one day.",
    ))
}

/// A length of time.
#[derive(Deserialize)]
#[serde(untagged)]
enum Grace {
    Seconds(u32),
    Text(String),
}

impl Grace {
    fn read(&self) -> Result<Duration, Error> {
        match self {
            Self::Seconds(seconds) => Ok(Duration::from_secs((*seconds).into())),
            Self::Text(text) => parse_iso_duration(text).ok_or_else(|| {
                Error::invalid("GRACE_INVALID", "grace is a number of seconds, or text such as PT12H or P7D")
                    .at("grace")
            }),
        }
    }
}

/// When the rotation may be finished.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FinishKeyRotationRequest {
    /// Also if nobody has used the new secret yet.
    force: bool,
}

/// Rotate an API key
///
/// The answer holds a new secret, which is shown here and nowhere else. The old one works on until the rotation is finished or
/// its grace is over, and never longer than the key. Needs all that the key may do.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    operation_id = "rotateKey",
    tag = "Keys",
    params(("id" = String, Path, description = "Id of the key", example = "key_01h455vb4pex5vsknk084sn02q")),
    request_body(content = Option<RotateKeyRequest>, example = json!({"grace": "P7D"})),
    responses((status = 200, description = "The key and its new secret", body = CreatedKey, example = json!({
        "id": "key_01h455vb4pex5vsknk084sn02q", "name": "website", "canary": false, "environment": "live", "permissions": ["ai.inference.run"],
        "state": "active", "prefix": "mfk_live_0123456789", "created_at": "2026-11-20T09:00:10Z", "expires_at": null,
        "last_used_at": "2026-11-21T09:00:10Z", "revoked_at": null, "rotation": {"old_prefix": "mfk_live_9876543210",
        "old_ends_at": "2026-11-28T09:00:10Z", "old_used_at": null, "new_used_at": null},
        "restrictions": {"ips": [], "origins": [], "methods": [], "apis": []}, "metadata": {}, "credits": null, "refill": null, "refill_at": null, "rotate_every": null,
        "rotation_due_at": null, "owner": null,
        "secret": "mfk_live_0123456789_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3qIAiy"
    }))),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("keys.key.write")))
)]
pub(crate) async fn rotate_key(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let body: RotateKeyRequest = json::read_optional(&call.body)?;
    let grace = body.grace.map_or(Ok(DEFAULT_GRACE), |grace| grace.read())?;
    let made = house.identity.rotate_key(&call.context, parse_key_id(&id)?, grace).await?;
    let body = CreatedKey { key: made.key.into(), secret: made.secret.expose().clone() };
    Ok(respond(StatusCode::OK, &body)?)
}

/// Finish a rotation
///
/// Ends the old secret of a key that is being rotated, everywhere and within seconds. Refused while nobody has used the new
/// secret, which may be known a few seconds late, unless forced.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate/finish",
    operation_id = "finishKeyRotation",
    tag = "Keys",
    params(("id" = String, Path, description = "Id of the key", example = "key_01h455vb4pex5vsknk084sn02q")),
    request_body(content = Option<FinishKeyRotationRequest>, example = json!({"force": false})),
    responses(
        (status = 200, description = "The key", body = Key, example = json!({
            "id": "key_01h455vb4pex5vsknk084sn02q", "name": "website", "canary": false, "environment": "live", "permissions": ["ai.inference.run"],
            "state": "active", "prefix": "mfk_live_0123456789", "created_at": "2026-11-20T09:00:10Z", "expires_at": null,
            "last_used_at": "2026-11-21T09:00:10Z", "revoked_at": null, "rotation": null,
        "restrictions": {"ips": [], "origins": [], "methods": [], "apis": []}, "metadata": {}, "credits": null, "refill": null, "refill_at": null, "rotate_every": null,
        "rotation_due_at": null, "owner": null
        })),
        (status = 412, description = "Nobody has used the new secret", content_type = "application/problem+json", body = Problem)
    ),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("keys.key.write")))
)]
pub(crate) async fn finish_key_rotation(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let body: FinishKeyRotationRequest = json::read_optional(&call.body)?;
    let finish = if body.force { Finish::Now } else { Finish::WhenUsed };
    let key = house.identity.finish_rotation(&call.context, parse_key_id(&id)?, finish).await?;
    Ok(respond(StatusCode::OK, &Key::from(key))?)
}

/// Cancel a rotation
///
/// Ends the new secret of a key that is being rotated, everywhere and within seconds; the old one goes on as before.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate/cancel",
    operation_id = "cancelKeyRotation",
    tag = "Keys",
    params(("id" = String, Path, description = "Id of the key", example = "key_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The key", body = Key, example = json!({
        "id": "key_01h455vb4pex5vsknk084sn02q", "name": "website", "canary": false, "environment": "live", "permissions": ["ai.inference.run"],
        "state": "active", "prefix": "mfk_live_9876543210", "created_at": "2026-11-20T09:00:10Z", "expires_at": null,
        "last_used_at": "2026-11-21T09:00:10Z", "revoked_at": null, "rotation": null,
        "restrictions": {"ips": [], "origins": [], "methods": [], "apis": []}, "metadata": {}, "credits": null, "refill": null, "refill_at": null, "rotate_every": null,
        "rotation_due_at": null, "owner": null
    }))),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("keys.key.write")))
)]
pub(crate) async fn cancel_key_rotation(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let key = house.identity.cancel_rotation(&call.context, parse_key_id(&id)?).await?;
    Ok(respond(StatusCode::OK, &Key::from(key))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_is_seconds_or_a_length_of_time() {
        let grace = |body: &str| {
            let body: RotateKeyRequest = json::read_optional(body.as_bytes()).ok()?;
            body.grace.map_or(Some(DEFAULT_GRACE), |grace| grace.read().ok()).map(|grace| grace.as_secs())
        };

        for (body, seconds) in [
            ("", Some(86_400)),
            ("{}", Some(86_400)),
            ("null", Some(86_400)),
            (r#"{"grace":90}"#, Some(90)),
            (r#"{"grace":"PT1H"}"#, Some(3_600)),
            (r#"{"grace":"1h"}"#, None),
            (r#"{"grace":-1}"#, None),
            (r#"{"grace":1.5}"#, None),
            (r#"{"seconds":1}"#, None),
        ] {
            assert_eq!(grace(body), seconds, "{body}");
        }
    }
}
