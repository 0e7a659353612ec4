//! Removing everything of a tenant whose time is over.

use std::sync::Arc;

use manifold_core::{Result, TenantId, Timestamp};
use manifold_store::{SqlResultExt, Tx, on};
use serde_json::json;
use sqlx::AssertSqlSafe;
use tracing::info;

use crate::origin::Origin;
use crate::store::{revocation, tenant as store};
use crate::{Identity, revoke};

/// Tables with a column `tenant_id` whose rows go, those first that refer to others.
pub const TABLES: [&str; 13] = [
    "incident",
    "key_usage",
    "session",
    "role_binding",
    "membership",
    "invitation",
    "role",
    "api_key",
    "owner",
    "limit_rule",
    "vault_secret",
    "vault_holder",
    "vault_key",
];
/// Those whose rows stay: what was done is not undone by who did it.
pub const KEPT: [&str; 3] = ["audit_checkpoint", "audit_entry", "audit_head"];

impl Identity {
    /// Removes tenants that were deleted and not brought back in time. The other services hear of it.
    pub(crate) async fn purge_tenants(&self) -> Result<()> {
        for id in store::list_over(&self.inner.db, self.inner.clock.now()).await? {
            self.purge(TenantId(id)).await?;
            info!(tenant = %TenantId(id), "removed a tenant");
        }
        Ok(())
    }

    async fn purge(&self, id: TenantId) -> Result<()> {
        let (outbox, now) = (self.inner.outbox.clone(), self.inner.clock.now());
        let origin = Arc::new(Origin::of_house(&self.inner.ids, id));
        let removed = self.inner.db.write("remove a tenant", move |tx| {
            let (outbox, origin) = (outbox.clone(), Arc::clone(&origin));
            Box::pin(async move {
                // Somebody may have brought it back in this moment.
                match store::hold(tx, id).await? {
                    Some(row)
                        if row.state == "deleting" && row.delete_after.is_some_and(|at| Timestamp::from(at) <= now) => {
                    }
                    _ => return Ok(()),
                }
                delete(tx, "api_key_secret WHERE key_id IN (SELECT id FROM api_key WHERE tenant_id = $1)", id).await?;
                for table in TABLES {
                    delete(tx, &format!("{table} WHERE tenant_id = $1"), id).await?;
                }
                delete(tx, "tenant WHERE id = $1", id).await?;
                revocation::append(tx, &revoke::tenant_subject(id), now).await?;
                let event = super::event("identity.tenant.purged", id, &json!({ "id": id.to_string() }));
                outbox.append(tx, &[event], &origin.cause()).await.map(|_| ())
            })
        });
        removed.await
    }
}

async fn delete(tx: &mut Tx<'_>, what: &str, id: TenantId) -> Result<()> {
    let sql = ["DELETE FROM ", what].concat();
    on!(tx, |executor| sqlx::query(AssertSqlSafe(sql)).bind(id.0).execute(executor).await.map(|_| ()))
        .during("remove rows of a tenant")
}
