//! What is published of keys, `identity.key.created` and so on, as JSON that customers may subscribe to.

use manifold_bus::Draft;
use manifold_core::{KeyId, TenantId, Timestamp};
use serde_json::json;

use crate::store::key::NewRow;

/// A key was made.
pub fn key_created(row: &NewRow, prefix: &str) -> Draft {
    let data = json!({
        "id": row.id.to_string(),
        "name": row.name,
        "environment": row.environment,
        "permissions": row.grants,
        "prefix": prefix,
        "expires_at": row.expires_at.map(|time| time.to_string()),
        "terms": row.terms.to_json(),
        "canary": row.canary,
        "created_by": row.created_by,
        "created_at": row.created_at.to_string(),
    });
    key("identity.key.created", row.tenant, row.id, &data)
}

/// A key was ended.
pub fn key_revoked(tenant: TenantId, id: KeyId, by: &str, at: Timestamp) -> Draft {
    let data = json!({ "id": id.to_string(), "revoked_by": by, "revoked_at": at.to_string() });
    key("identity.key.revoked", tenant, id, &data)
}

/// Something else was done to a key.
pub fn key(type_: &'static str, tenant: TenantId, id: KeyId, data: &serde_json::Value) -> Draft {
    Draft { type_, subject: id.to_string(), tenant, data: data.to_string().into() }
}
