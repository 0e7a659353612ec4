//! `POST /v1/keys/verify`: for programs to which keys of this tenant are presented.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_core::Secret;
use manifold_identity::{LimitState, Question, Verified, VerifyCode, parse_ip};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::{RefOr, Schema};

use crate::call::Call;
use crate::edge::House;
use crate::json;
use crate::problem::seconds_up;
use crate::refusal::Answer;
use crate::rest::respond;

/// What is asked about a key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VerifyKeyRequest {
    /// The key as it was presented.
    #[schema(value_type = String, example = "mfk_live_0123456789_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3qIAiy")]
    key: Secret<String>,
    /// What it must be allowed: permissions, `AND`, `OR` and brackets. At most 100 permissions, and 10 brackets inside each other.
    #[schema(example = "keys.key.read AND (keys.key.write OR keys.key.verify)", format = "permission-query")]
    permissions: Option<String>,
    /// Credits to spend if all else holds. Default: none.
    #[schema(example = 1, minimum = 0, maximum = 1_000_000_000_000_i64)]
    credits: Option<i64>,
    /// Address from which it was presented. Who leaves it out is refused by keys that are restricted to networks; so it is
    /// with the next three.
    #[schema(example = "192.0.2.7", format = "ip")]
    ip: Option<String>,
    /// Origin of the page that presented it.
    #[schema(example = "https://app.example")]
    origin: Option<String>,
    /// Method of the request that it came with.
    #[schema(example = "GET")]
    method: Option<String>,
    /// API for which it came.
    #[schema(example = "ai")]
    api: Option<String>,
    #[schema(schema_with = tags)]
    tags: Option<BTreeMap<String, String>>,
}

fn tags() -> impl Into<RefOr<Schema>> {
    let text = |min, max| ObjectBuilder::new().schema_type(Type::String).min_length(Some(min)).max_length(Some(max));
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some(
            "What the log of the server shall say about this question: at most 10, names of at most 32, values of at most \
             128 characters.",
        ))
        .property_names(Some(text(1, 32)))
        .additional_properties(Some(Schema::from(text(0, 128))))
        .max_properties(Some(10))
}

/// Whether a key holds. Everything but `valid` and `code` is null if the tenant has no such key.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyVerdict {
    valid: bool,
    /// The first that is wrong, in this order: `not_found`, `disabled`, `expired`, `forbidden`, `insufficient_permissions`,
    /// `rate_limited`, `usage_exceeded`; else `valid`.
    #[schema(example = "valid")]
    code: &'static str,
    #[schema(example = "key_01h455vb4pex5vsknk084sn02q")]
    key_id: Option<String>,
    #[schema(example = "website")]
    name: Option<String>,
    /// For whom it is.
    #[schema(example = "own_01h455vb4pex5vsknk084sn02q")]
    owner: Option<String>,
    /// `live` or `test`.
    #[schema(example = "live")]
    environment: Option<String>,
    permissions: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<String>,
    /// What it has left; null = it needs none, or nothing was spent.
    #[schema(example = 999)]
    credits_remaining: Option<i64>,
    /// The limits of the key and of its owner that the question was charged to, up to the one that refuses.
    limits: Option<Vec<LimitLeft>>,
}

/// What is left of a limit that was given to a key or its owner.
#[derive(Serialize, ToSchema)]
pub(crate) struct LimitLeft {
    /// As headers show it.
    #[schema(example = "key/minute")]
    name: String,
    /// Uses that may follow at once.
    #[schema(example = 59)]
    remaining: u64,
    /// Seconds until everything has come back; of a limit that refuses, until the next use passes.
    #[schema(example = 30)]
    reset_s: u64,
}

impl From<LimitState> for LimitLeft {
    fn from(state: LimitState) -> Self {
        let LimitState { name, remaining, reset } = state;
        Self { name, remaining, reset_s: seconds_up(reset) }
    }
}

impl From<(VerifyCode, Option<Verified>)> for KeyVerdict {
    fn from((code, key): (VerifyCode, Option<Verified>)) -> Self {
        let nothing = Self {
            valid: code == VerifyCode::Valid,
            code: code.name(),
            key_id: None,
            name: None,
            owner: None,
            environment: None,
            permissions: None,
            metadata: None,
            expires_at: None,
            credits_remaining: None,
            limits: None,
        };
        let Some(key) = key else { return nothing };
        Self {
            key_id: Some(key.id.to_string()),
            name: Some(key.name),
            owner: key.owner.map(|owner| owner.to_string()),
            environment: Some(key.environment),
            permissions: Some(key.permissions),
            metadata: Some(key.metadata),
            expires_at: key.expires_at.map(|time| time.to_string()),
            credits_remaining: key.credits,
            limits: Some(key.limits.into_iter().map(LimitLeft::from).collect()),
            ..nothing
        }
    }
}

/// Verify an API key
///
/// For programs to which keys of this tenant are presented: tells whether a key holds, may be used so and may do something. If
/// all of it is so, the question is charged to the limits of the key and of its owner, like one of its requests, and spends
/// credits. Always 200; a key of another tenant is `not_found`.
#[utoipa::path(
    post,
    path = "/v1/keys/verify",
    operation_id = "verifyKey",
    tag = "Keys",
    request_body(content = VerifyKeyRequest, example = json!({
        "key": "mfk_live_0123456789_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3qIAiy", "permissions": "ai.inference.run"})),
    responses((status = 200, description = "Whether it holds", body = KeyVerdict, example = json!({
        "valid": true, "code": "valid", "key_id": "key_01h455vb4pex5vsknk084sn02q", "name": "website", "owner": null,
        "environment": "live",
        "permissions": ["ai.inference.run"], "metadata": {"plan": "free"}, "expires_at": null, "credits_remaining": 999, "limits": [{"name": "key/minute", "remaining": 59, "reset_s": 1}]
    }))),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("keys.key.verify")))
)]
pub(crate) async fn verify_key(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let body: VerifyKeyRequest = json::read_strictly(&call.body)?;
    let question = Question {
        key: body.key,
        permissions: body.permissions,
        credits: body.credits.unwrap_or_default(),
        ip: body.ip.as_deref().map(parse_ip).transpose()?,
        origin: body.origin,
        method: body.method,
        api: body.api,
        tags: body.tags.unwrap_or_default(),
    };
    let verdict = KeyVerdict::from(house.identity.verify_key(&call.context, &question).await?);
    Ok(respond(StatusCode::OK, &verdict)?)
}
