//! `/v1/vault`: the key that seals the secrets of a tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_identity::VaultInfo;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::Call;
use crate::edge::House;
use crate::json;
use crate::refusal::Answer;
use crate::rest::respond;

/// What to replace.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateRequest {
    /// `tenant_key`; the master key is replaced with `manifold vault rotate-master`.
    what: Rotated,
}

/// A key that can be replaced.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Rotated {
    /// The key of the caller's tenant.
    TenantKey,
}

/// The key of a tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct Vault {
    /// The version that seals; null if nothing was sealed yet.
    #[schema(example = 3)]
    version: Option<i32>,
    /// Older versions that are still needed, or may be, the oldest first.
    replaced: Vec<ReplacedKey>,
}

/// A version that does not seal any more.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplacedKey {
    #[schema(example = 2)]
    version: i32,
    #[schema(value_type = String, format = DateTime)]
    replaced_at: String,
    /// What is still sealed under it here.
    #[schema(example = 120)]
    rows_left: i64,
    /// Tables of other services in which something may still be sealed under it.
    #[schema(example = json!(["integrations.connection"]))]
    tables_left: Vec<String>,
}

impl From<VaultInfo> for Vault {
    fn from(info: VaultInfo) -> Self {
        let replaced = info.replaced.into_iter().map(|key| ReplacedKey {
            version: key.version,
            replaced_at: key.replaced_at.to_string(),
            rows_left: key.n_rows,
            tables_left: key.tables,
        });
        Self { version: info.version, replaced: replaced.collect() }
    }
}

/// Show the key of the tenant
///
/// Which version seals, and what is still sealed under older ones. Never the key itself.
#[utoipa::path(
    get,
    path = "/v1/vault",
    operation_id = "getVault",
    tag = "Secrets",
    responses((status = 200, description = "Versions of the key", body = Vault,
        example = json!({"version": 3, "replaced": [{"version": 2, "replaced_at": "2026-11-20T09:00:10Z", "rows_left": 120,
            "tables_left": ["integrations.connection"]}]}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("vault.key.read")))
)]
pub(crate) async fn get_vault(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let info = house.identity.vault_info(&call.context).await?;
    Ok(respond(StatusCode::OK, &Vault::from(info))?)
}

/// Replace the key of the tenant
///
/// A new version seals from now on. What the old one seals is sealed anew in the background, then the old one is destroyed. A
/// person needs a login or step-up of the last ten minutes.
#[utoipa::path(
    post,
    path = "/v1/vault/rotate",
    operation_id = "rotateVaultKey",
    tag = "Secrets",
    request_body(content = RotateRequest, example = json!({"what": "tenant_key"})),
    responses((status = 200, description = "Versions of the key", body = Vault,
        example = json!({"version": 3, "replaced": [{"version": 2, "replaced_at": "2026-11-20T09:00:10Z", "rows_left": 120,
            "tables_left": ["integrations.connection"]}]}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("vault.key.rotate")))
)]
pub(crate) async fn rotate_vault_key(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let RotateRequest { what: Rotated::TenantKey } = json::read_strictly(&call.body)?;
    let info = house.identity.rotate_tenant_key(&call.context).await?;
    Ok(respond(StatusCode::OK, &Vault::from(info))?)
}
