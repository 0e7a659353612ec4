//! After a tenant's key was replaced: what is sealed under the old version is sealed anew, and the old version is destroyed
//! when nothing needs it any more.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Result, TenantId};
use serde_json::json;
use tracing::{info, warn};
use uuid::Uuid;

use super::{Place, envelope, rotate};
use crate::Identity;
use crate::origin::Origin;
use crate::store::reseal::{self as store, Fresh, Old, Replaced};
use crate::store::vault::active_version;

/// A column of this crate in which something is sealed. The column `id` of its table is the row of the place.
#[derive(Debug)]
pub struct Column {
    /// Table.
    pub table: &'static str,
    /// Column.
    pub column: &'static str,
    /// Whose the rows are.
    pub owner: Owner,
}

/// Whose the rows of a table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The tenant's in `tenant_id`.
    Tenant,
    /// Nobody's: they are sealed under the nil tenant.
    Nobody,
}

/// Those whose rows stay. What stood in another would be lost with the old key, so nothing is sealed for another.
pub const COLUMNS: [Column; 3] = [
    Column { table: "factor", column: "secret", owner: Owner::Nobody },
    Column { table: "signing_key", column: "private", owner: Owner::Nobody },
    Column { table: "vault_secret", column: "sealed", owner: Owner::Tenant },
];
/// Table and column whose rows go within a day, before the key that sealed them does: answers to requests that may be
/// repeated.
const PASSING: (&str, &str) = ("idempotency", "answer");
/// How long a replaced key is kept in any case.
const KEPT: Duration = Duration::from_secs(25 * 3_600);

/// The columns in which something of this tenant is sealed.
pub fn columns_of(tenant: TenantId) -> impl Iterator<Item = &'static Column> {
    let owner = if tenant.0.is_nil() { Owner::Nobody } else { Owner::Tenant };
    COLUMNS.iter().filter(move |column| column.owner == owner)
}

/// Whether values of this place are sealed anew: by us, or by the service before the dot.
pub fn is_known(place: Place<'_>) -> bool {
    let name = (place.table, place.column);
    let own = |column: &Column| (column.table, column.column) == name;
    place.table.contains('.') || name == PASSING || columns_of(place.tenant).any(own)
}

/// Seals anew what still needs a replaced key, and destroys keys that nothing needs.
pub async fn pass(identity: &Identity) -> Result<()> {
    for old in store::list_replaced(&identity.inner.db).await? {
        let tenant = TenantId(old.tenant_id);
        // One tenant whose key does not open keeps nobody else waiting.
        if let Err(error) = renew(identity, tenant, &old).await {
            warn!(%tenant, %error, "cannot seal anew what a replaced key has sealed");
        }
    }
    Ok(())
}

async fn renew(identity: &Identity, tenant: TenantId, old: &Replaced) -> Result<()> {
    for column in columns_of(tenant) {
        reseal(identity, tenant, column).await?;
    }
    if identity.inner.clock.now().since(old.replaced_at) >= KEPT {
        destroy(identity, tenant, old.version).await?;
    }
    Ok(())
}

/// A row that does not open stays as it is, and keeps its key alive.
async fn reseal(identity: &Identity, tenant: TenantId, column: &'static Column) -> Result<()> {
    let (db, vault) = (&identity.inner.db, &identity.inner.vault);
    let Some((version, _)) = active_version(db, tenant).await? else { return Ok(()) };
    // One that was taken just before another process, or a call that is still on its way, replaced it seals old rows as old.
    vault.sealing.forget(&tenant);
    let mut after = Uuid::nil();
    loop {
        let rows = store::list_old(db, column, tenant, &envelope::head(version), after).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.id;
        let mut fresh = Vec::with_capacity(rows.len());
        for Old { id, sealed } in rows {
            let place = Place { tenant, table: column.table, column: column.column, row: id };
            match vault.open(place, &sealed).await {
                Ok(text) => fresh.push(Fresh { id, new: vault.seal(place, text.expose()).await?, old: sealed }),
                Err(error) => warn!(table = column.table, row = %id, error = error.chain(), "cannot seal a row anew"),
            }
        }
        if fresh.is_empty() {
            continue;
        }
        let fresh = Arc::new(fresh);
        let written = db.write("seal rows anew", move |tx| {
            let fresh = Arc::clone(&fresh);
            Box::pin(async move { store::replace(tx, column, tenant, &fresh).await })
        });
        written.await?;
    }
}

/// Unless something needs it still.
async fn destroy(identity: &Identity, tenant: TenantId, version: i32) -> Result<()> {
    let work = Arc::new((identity.inner.outbox.clone(), Origin::of_house(&identity.inner.ids, tenant)));
    let destroyed = identity.inner.db.write("destroy a tenant's key", move |tx| {
        let work = Arc::clone(&work);
        Box::pin(async move {
            let (outbox, origin) = &*work;
            let destroyed = store::destroy(tx, tenant, version, &envelope::head(version)).await?;
            if destroyed {
                let data = json!({ "what": "tenant_key", "before": { "version": version }, "after": null });
                let event = manifold_bus::Draft {
                    type_: "identity.vault.key_destroyed",
                    ..rotate::rotated(tenant, tenant.to_string(), &data)
                };
                outbox.append(tx, &[event], &origin.cause()).await?;
            }
            Ok(destroyed)
        })
    });
    if destroyed.await? {
        info!(%tenant, version, "destroyed a key that nothing is sealed under any more");
    }
    Ok(())
}
