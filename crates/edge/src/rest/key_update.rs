//! `PATCH /v1/keys/{id}`: what is called otherwise, may do otherwise, or pauses.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_identity::{KeyChange, Refill, parse_key_id, read_owner_of_key};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::call::{Call, Id};
use crate::edge::House;
use crate::json;
use crate::refusal::Answer;
use crate::rest::key_terms::{KeyRefill, KeyRestrictions, read_time};
use crate::rest::keys::Key;
use crate::rest::respond;

/// What shall be different; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateKeyRequest {
    /// What a person calls it, 1 to 100 characters.
    #[schema(
        example = "website",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: Option<String>,
    /// These and no others, never more than the caller holds.
    #[schema(example = json!(["ai.inference.run"]), min_items = 1, max_items = 100, max_length = 100,
        pattern = r"^(\*|[a-z0-9_-]+\.(\*|[a-z0-9_-]+\.(\*|[a-z0-9_-]+)))(@(own|env:live|env:test|api:[a-z0-9_-]+)(,(own|env:live|env:test|api:[a-z0-9_-]+))*)?$")]
    permissions: Option<Vec<String>>,
    /// When it ends by itself (RFC 3339); null = never.
    #[serde(default, deserialize_with = "json::nullable")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<Option<String>>,
    /// Whether it works.
    #[schema(example = true)]
    enabled: Option<bool>,
    /// From where and for what it may be used. These and no others.
    restrictions: Option<KeyRestrictions>,
    /// What shall be remembered with it, up to 4 KiB of JSON. This and nothing else.
    #[schema(value_type = Option<Object>, example = json!({"plan": "free"}))]
    metadata: Option<Map<String, Value>>,
    /// How many calls it has left; null = as many as it wants, and no refill.
    #[serde(default, deserialize_with = "json::nullable")]
    #[schema(value_type = Option<i64>, example = 1_000, minimum = 0, maximum = 1_000_000_000_000_i64)]
    credits: Option<Option<i64>>,
    /// How credits are filled up; null = not.
    #[serde(default, deserialize_with = "json::nullable")]
    #[schema(value_type = Option<KeyRefill>)]
    refill: Option<Option<KeyRefill>>,
    /// How many days a secret of it shall live at most; null = no matter.
    #[serde(default, deserialize_with = "json::nullable")]
    #[schema(value_type = Option<u16>, example = 90, minimum = 30, maximum = 365)]
    rotate_every: Option<Option<u16>>,
    /// For whom it is; null = nobody in particular.
    #[serde(default, deserialize_with = "json::nullable")]
    #[schema(value_type = Option<String>, example = "own_01h455vb4pex5vsknk084sn02q")]
    owner: Option<Option<String>>,
}

fn change(body: UpdateKeyRequest) -> Answer<KeyChange> {
    let expires_at = body.expires_at.map(|text| text.as_deref().map(read_time).transpose()).transpose()?;
    let refill = body.refill.map(|refill| refill.map(Refill::from));
    let owner = body.owner.map(|id| id.as_deref().map(read_owner_of_key).transpose()).transpose()?;
    Ok(KeyChange {
        name: body.name,
        permissions: body.permissions,
        expires_at,
        enabled: body.enabled,
        restrictions: body.restrictions.map(Into::into),
        metadata: body.metadata,
        credits: body.credits,
        refill,
        rotate_every: body.rotate_every,
        owner,
    })
}

/// Change an API key
///
/// What is left out stays as it is. Needs all that the key may do before and after; a key does not change itself. Everywhere
/// within seconds.
#[utoipa::path(
    patch,
    path = "/v1/keys/{id}",
    operation_id = "updateKey",
    tag = "Keys",
    params(("id" = String, Path, description = "Id of the key", example = "key_01h455vb4pex5vsknk084sn02q")),
    request_body(content = UpdateKeyRequest, example = json!({"enabled": false})),
    responses((status = 200, description = "The key", body = Key, example = json!({
        "id": "key_01h455vb4pex5vsknk084sn02q", "name": "website", "canary": false, "environment": "live", "permissions": ["ai.inference.run"],
        "state": "disabled", "prefix": "mfk_live_0123456789", "created_at": "2026-11-20T09:00:10Z", "expires_at": null,
        "last_used_at": null, "revoked_at": null, "rotation": null,
        "restrictions": {"ips": ["10.0.0.0/8"], "origins": [], "methods": [], "apis": []}, "metadata": {}, "credits": 1000,
        "refill": {"amount": 1000, "every": "day", "at": 0}, "refill_at": "2026-11-21T00:00:00Z",
        "rotate_every": 90, "rotation_due_at": "2027-02-18T09:00:10Z", "owner": null
    }))),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("keys.key.write")))
)]
pub(crate) async fn update_key(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let change = change(json::read_strictly(&call.body)?)?;
    let key = house.identity.update_key(&call.context, parse_key_id(&id)?, change).await?;
    Ok(respond(StatusCode::OK, &Key::from(key))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Option<KeyChange> {
        change(json::read_strictly(body.as_bytes()).ok()?).ok()
    }

    #[test]
    fn null_is_not_the_same_as_nothing() {
        let nothing = read("{}").unwrap();
        let null = read(r#"{"expires_at":null,"credits":null,"refill":null}"#).unwrap();
        let some = read(r#"{"credits":7,"refill":{"amount":9,"every":"month"}}"#).unwrap();

        assert_eq!((nothing.expires_at, nothing.credits, nothing.refill), (None, None, None));
        assert_eq!((null.expires_at, null.credits, null.refill), (Some(None), Some(None), Some(None)));
        assert_eq!((some.credits, some.refill.unwrap().unwrap().at), (Some(Some(7)), 1));
    }

    #[test]
    fn what_is_unknown_or_malformed_is_refused() {
        for body in [
            r#"{"tenant_id":"x"}"#,
            r#"{"state":"active"}"#,
            r#"{"restrictions":{"countries":[]}}"#,
            r#"{"refill":{"amount":1,"every":"year"}}"#,
            r#"{"metadata":[]}"#,
            r#"{"expires_at":"tomorrow"}"#,
            r#"{"credits":1.5}"#,
        ] {
            assert!(read(body).is_none(), "{body}");
        }
    }
}
