//! The key of a tenant, as its owner sees it: which version seals, what the older ones are still needed for, and a new one.

use std::sync::Arc;

use manifold_core::{Result, TenantId, Timestamp};
use manifold_runtime::CallContext;
use serde_json::{Value, json};

use super::{TRIES, busy, envelope, rotate};
use crate::origin::Origin;
use crate::store::reseal;
use crate::store::vault as store;
use crate::{Identity, step_up};

pub(crate) const READ: &str = "vault.key.read";
const ROTATE: &str = "vault.key.rotate";

/// The key of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultInfo {
    /// The version that seals; None if nothing was sealed yet.
    pub version: Option<i32>,
    /// Older versions that are still needed, or may be, the oldest first.
    pub replaced: Vec<ReplacedKey>,
}

/// A version that does not seal any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacedKey {
    /// Which.
    pub version: i32,
    /// Since when.
    pub replaced_at: Timestamp,
    /// Secrets and the like that are still sealed under it.
    pub n_rows: i64,
    /// Tables of other services in which something may still be: `service.table`.
    pub tables: Vec<String>,
}

impl Identity {
    /// The key of the caller's tenant. Needs `vault.key.read`.
    pub async fn vault_info(&self, caller: &CallContext) -> Result<VaultInfo> {
        caller.principal.require(READ)?;
        self.describe_key(caller.principal.tenant).await
    }

    async fn describe_key(&self, tenant: TenantId) -> Result<VaultInfo> {
        let db = &self.inner.db;
        let version = store::active_version(db, tenant).await?.map(|(version, _)| version);
        let mut replaced = Vec::new();
        for old in reseal::list_replaced_of(db, tenant).await? {
            replaced.push(ReplacedKey {
                version: old.version,
                replaced_at: old.replaced_at,
                n_rows: reseal::count(db, tenant, &envelope::head(old.version)).await?,
                tables: reseal::list_holders(db, tenant, old.version).await?,
            });
        }
        Ok(VaultInfo { version, replaced })
    }

    /// Makes a new key for the caller's tenant. What is sealed under the old one is sealed anew in the background; the old one
    /// is destroyed when nothing needs it. Needs `vault.key.rotate`.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`.
    pub async fn rotate_tenant_key(&self, caller: &CallContext) -> Result<VaultInfo> {
        caller.principal.require(ROTATE)?;
        let (tenant, now) = (caller.principal.tenant, self.inner.clock.now());
        step_up::require(&caller.principal, now)?;
        for _ in 0..TRIES {
            let active = store::active_version(&self.inner.db, tenant).await?.map_or(0, |(version, _)| version);
            let next = self.inner.vault.next_key(tenant, active).await?;
            let before = if active == 0 { Value::Null } else { json!({ "version": active }) };
            let data = json!({ "what": "tenant_key", "before": before, "after": { "version": next.version } });
            let event = rotate::rotated(tenant, tenant.to_string(), &data);
            let work = Arc::new((next, event, self.inner.outbox.clone(), Origin::of(caller)));
            let rotated = self.inner.db.write("replace a tenant's key", move |tx| {
                let work = Arc::clone(&work);
                Box::pin(async move {
                    let (next, event, outbox, origin) = &*work;
                    let rotated = store::hold_master(tx, &next.master_id).await?
                        && store::replace_key(tx, tenant, next, now).await?;
                    if rotated {
                        outbox.append(tx, std::slice::from_ref(event), &origin.cause()).await?;
                    }
                    Ok(rotated)
                })
            });
            if rotated.await? {
                self.inner.vault.replaced(tenant);
                return self.describe_key(tenant).await;
            }
        }
        Err(busy())
    }
}
