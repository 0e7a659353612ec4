//! SQL of `vault_master`, whose rows belong to the installation, of `vault_key` and of `vault_holder`.

use manifold_core::{Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

/// A master key as the database knows it: not the key.
#[derive(Clone, Debug, FromRow)]
pub struct MasterRow {
    /// Its name.
    pub id: String,
    /// Something that only the right key opens.
    pub check_blob: Vec<u8>,
    /// `active`: seals new keys. `retiring`: seals some still. `retired`: seals nothing any more.
    pub state: String,
    /// Since when the database knows it.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
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
    let sql = "SELECT id, check_blob, state, created_at FROM vault_master ORDER BY created_at, id";
    on!(db, |executor| sqlx::query_as(sql).fetch_all(executor).await).during("list master keys")
}

/// Inserts a master key, unless it or another active one is there.
pub async fn insert_master(tx: &mut Tx<'_>, row: &MasterRow) -> Result<()> {
    let sql =
        "INSERT INTO vault_master (id, check_blob, state, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(&row.id).bind(row.check_blob.as_slice()).bind(&row.state);
        query.bind(Micros::from(row.created_at)).execute(executor).await.map(|_| ())
    })
    .during("insert a master key")
}

/// The master key that seals new keys.
pub async fn active_master(db: &Db) -> Result<MasterRow> {
    let sql = "SELECT id, check_blob, state, created_at FROM vault_master WHERE state = 'active'";
    on!(db, |executor| sqlx::query_as(sql).fetch_one(executor).await).during("find the active master key")
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

/// Notes that a table of another service may need this version of a tenant's key.
pub async fn insert_holder(tx: &mut Tx<'_>, tenant: TenantId, holder: &str, version: i32) -> Result<()> {
    let sql = "INSERT INTO vault_holder (tenant_id, holder, lowest) VALUES ($1, $2, $3) \
               ON CONFLICT (tenant_id, holder) DO NOTHING";
    on!(tx, |executor| {
        sqlx::query(sql).bind(tenant.0).bind(holder).bind(version).execute(executor).await.map(|_| ())
    })
    .during("note what a table needs")
}

/// Notes that a table of another service needs no version below `lowest` any more.
pub async fn report(tx: &mut Tx<'_>, tenant: TenantId, holder: &str, lowest: i32) -> Result<()> {
    let sql = "UPDATE vault_holder SET lowest = $3 WHERE tenant_id = $1 AND holder = $2 AND lowest < $3";
    on!(tx, |executor| {
        sqlx::query(sql).bind(tenant.0).bind(holder).bind(lowest).execute(executor).await.map(|_| ())
    })
    .during("note what a table needs")
}

/// Whether all versions of a tenant's key below `lowest` were replaced before this time.
pub async fn is_settled(db: &Db, tenant: TenantId, lowest: i32, before: Timestamp) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM vault_key WHERE tenant_id = $1 AND version < $2 \
               AND (replaced_at IS NULL OR replaced_at > $3)";
    let late = on!(db, |executor| {
        let query = sqlx::query_scalar::<_, i64>(sql).bind(tenant.0).bind(lowest).bind(Micros::from(before));
        query.fetch_one(executor).await
    });
    Ok(late.during("see when a key was replaced")? == 0)
}

/// A version of some tenant's key, for who seals all of them anew.
#[derive(Clone, Debug, FromRow)]
pub struct TenantKey {
    /// Whose it is.
    pub tenant_id: Uuid,
    /// Which of the tenant's keys.
    pub version: i32,
    /// The sealed key.
    pub wrapped: Vec<u8>,
    /// The master key that seals it.
    pub master_id: String,
}

/// Makes a master key the active one, known or not.
pub async fn activate_master(tx: &mut Tx<'_>, row: &MasterRow) -> Result<()> {
    let retire = "UPDATE vault_master SET state = 'retiring' WHERE state = 'active' AND id <> $1";
    on!(tx, |executor| sqlx::query(retire).bind(&row.id).execute(executor).await.map(|_| ()))
        .during("replace the master key")?;
    let activate = "INSERT INTO vault_master (id, check_blob, state, created_at) VALUES ($1, $2, 'active', $3) \
                    ON CONFLICT (id) DO UPDATE SET state = 'active'";
    on!(tx, |executor| {
        let query = sqlx::query(activate).bind(&row.id).bind(row.check_blob.as_slice());
        let query = query.bind(Micros::from(row.created_at));
        query.execute(executor).await.map(|_| ())
    })
    .during("make a master key the active one")
}

/// Retires the master keys that were replaced and seal nothing any more; their names.
pub async fn retire_masters(tx: &mut Tx<'_>) -> Result<Vec<String>> {
    let sql = "UPDATE vault_master SET state = 'retired' WHERE state = 'retiring' \
               AND NOT EXISTS (SELECT 1 FROM vault_key WHERE master_id = vault_master.id) \
               AND NOT EXISTS (SELECT 1 FROM system_key WHERE master_id = vault_master.id) RETURNING id";
    on!(tx, |executor| sqlx::query_scalar(sql).fetch_all(executor).await).during("retire master keys")
}

/// How many keys a master key seals.
pub async fn count_keys_of(db: &Db, master: &str) -> Result<i64> {
    let sql = "SELECT (SELECT COUNT(*) FROM vault_key WHERE master_id = $1) \
               + (SELECT COUNT(*) FROM system_key WHERE master_id = $1)";
    on!(db, |executor| sqlx::query_scalar(sql).bind(master).fetch_one(executor).await)
        .during("count the keys of a master key")
}

/// Keys of all tenants, in their order, behind this one.
pub async fn list_keys(db: &Db, after: (TenantId, i32), limit: usize) -> Result<Vec<TenantKey>> {
    let sql = "SELECT tenant_id, version, wrapped, master_id FROM vault_key \
               WHERE (tenant_id, version) > ($1, $2) ORDER BY tenant_id, version LIMIT $3";
    on!(db, |executor| {
        let query = sqlx::query_as(sql).bind(after.0.0).bind(after.1).bind(limit as i64);
        query.fetch_all(executor).await
    })
    .during("list keys of tenants")
}

/// Puts keys that were sealed anew in the place of those under the master key that each still names; all in one statement.
pub async fn rewrap(tx: &mut Tx<'_>, fresh: &[TenantKey], to: &str) -> Result<()> {
    on!(tx, |executor| {
        let mut query = QueryBuilder::new("WITH fresh (tenant_id, version, wrapped, master_id) AS (");
        query.push_values(fresh, |mut row, key| {
            row.push_bind(key.tenant_id).push_bind(key.version).push_bind(key.wrapped.as_slice());
            row.push_bind(&key.master_id);
        });
        query.push(") UPDATE vault_key SET wrapped = fresh.wrapped, master_id = ").push_bind(to);
        query.push(
            " FROM fresh WHERE vault_key.tenant_id = fresh.tenant_id AND vault_key.version = fresh.version \
             AND vault_key.master_id = fresh.master_id",
        );
        // The text depends on the number of keys: not worth a place among the prepared statements.
        query.build().persistent(false).execute(executor).await.map(|_| ())
    })
    .during("seal keys of tenants anew")
}
