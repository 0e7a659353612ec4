//! SQL of `vault_master`, whose rows belong to the installation, and of `vault_key`.

use manifold_core::{Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;

/// A master key as the database knows it: not the key.
#[derive(Clone, Debug, FromRow)]
pub struct MasterRow {
    /// Its name.
    pub id: String,
    /// Something that only the right key opens.
    pub check_blob: Vec<u8>,
    /// `active`: seals new keys. `retiring`: seals some still. `retired`: seals nothing any more.
    pub state: String,
}

/// A version of a tenant's key, sealed under a master key.
#[derive(Clone, Debug, FromRow)]
pub struct KeyRow {
    /// Which of the tenant's keys.
    pub version: i32,
    /// The sealed key.
    pub wrapped: Vec<u8>,
    /// The master key that seals it.
    pub master_id: String,
}

/// Every master key there ever was.
pub async fn list_masters(db: &Db) -> Result<Vec<MasterRow>> {
    let sql = "SELECT id, check_blob, state FROM vault_master ORDER BY created_at, id";
    on!(db, |executor| sqlx::query_as(sql).fetch_all(executor).await).during("list master keys")
}

/// Inserts a master key, unless it or another active one is there.
pub async fn insert_master(tx: &mut Tx<'_>, row: &MasterRow, at: Timestamp) -> Result<()> {
    let sql =
        "INSERT INTO vault_master (id, check_blob, state, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(&row.id).bind(row.check_blob.as_slice()).bind(&row.state);
        query.bind(Micros::from(at)).execute(executor).await.map(|_| ())
    })
    .during("insert a master key")
}

/// The master key that seals new keys.
pub async fn active_master(db: &Db) -> Result<String> {
    let sql = "SELECT id FROM vault_master WHERE state = 'active'";
    on!(db, |executor| sqlx::query_scalar(sql).fetch_one(executor).await).during("find the active master key")
}

/// Whether this master key still seals new keys. If so, it does until the end of the transaction.
pub async fn hold_master(tx: &mut Tx<'_>, id: &str) -> Result<bool> {
    let sql = "UPDATE vault_master SET state = 'active' WHERE id = $1 AND state = 'active'";
    let held = on!(tx, |executor| sqlx::query(sql).bind(id).execute(executor).await.map(|done| done.rows_affected()));
    Ok(held.during("hold a master key")? == 1)
}

/// Takes `n` seals out of the active key of a tenant; None if there is none, or if it would make more than `max`.
pub async fn take_seals(tx: &mut Tx<'_>, tenant: TenantId, n: i64, max: i64) -> Result<Option<KeyRow>> {
    let sql = "UPDATE vault_key SET seals = seals + $2 WHERE tenant_id = $1 AND state = 'active' AND seals + $2 <= $3 \
               RETURNING version, wrapped, master_id";
    on!(tx, |executor| sqlx::query_as(sql).bind(tenant.0).bind(n).bind(max).fetch_optional(executor).await)
        .during("take seals out of a key")
}

/// One version of a tenant's key.
pub async fn find_key(db: &Db, tenant: TenantId, version: i32) -> Result<Option<KeyRow>> {
    let sql = "SELECT version, wrapped, master_id FROM vault_key WHERE tenant_id = $1 AND version = $2";
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).bind(version).fetch_optional(executor).await)
        .during("find a tenant's key")
}

/// The active version of a tenant's key, and how many seals were taken out of it.
pub async fn active_version(db: &Db, tenant: TenantId) -> Result<Option<(i32, i64)>> {
    let sql = "SELECT version, seals FROM vault_key WHERE tenant_id = $1 AND state = 'active'";
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).fetch_optional(executor).await)
        .during("find the active key of a tenant")
}

/// Puts the next version of a tenant's key in the place of the active one. False if another process was faster.
pub async fn replace_key(tx: &mut Tx<'_>, tenant: TenantId, next: &KeyRow, at: Timestamp) -> Result<bool> {
    let replace = "UPDATE vault_key SET state = 'replaced', replaced_at = $3 \
                   WHERE tenant_id = $1 AND version = $2 AND state = 'active'";
    let replaced = on!(tx, |executor| {
        let query = sqlx::query(replace).bind(tenant.0).bind(next.version - 1).bind(Micros::from(at));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    if replaced.during("replace a tenant's key")? == 0 && next.version > 1 {
        return Ok(false);
    }
    let insert = "INSERT INTO vault_key (tenant_id, version, wrapped, master_id, state, seals, created_at) \
                  VALUES ($1, $2, $3, $4, 'active', 0, $5) ON CONFLICT DO NOTHING";
    let inserted = on!(tx, |executor| {
        let query = sqlx::query(insert).bind(tenant.0).bind(next.version).bind(next.wrapped.as_slice());
        let query = query.bind(&next.master_id).bind(Micros::from(at));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(inserted.during("insert a tenant's key")? == 1)
}
