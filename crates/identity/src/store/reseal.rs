//! SQL of what is sealed anew: columns of this crate, by name, and keys that were replaced.

use manifold_core::{Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::{AssertSqlSafe, FromRow, QueryBuilder};
use uuid::Uuid;

use crate::vault::reseal::{Column, Owner, columns_of};

/// Rows per transaction.
const BATCH: i64 = 500;
/// Replaced keys per pass.
const KEYS: i64 = 1_000;

/// A version of a tenant's key that is not used for new values any more.
#[derive(Clone, Debug, FromRow)]
pub struct Replaced {
    /// Whose it is.
    pub tenant_id: Uuid,
    /// Which of the tenant's keys.
    pub version: i32,
    /// Since when.
    #[sqlx(try_from = "Micros")]
    pub replaced_at: Timestamp,
}

/// Something under an old key.
#[derive(FromRow)]
pub struct Old {
    /// The row.
    pub id: Uuid,
    /// What stands in it.
    pub sealed: Vec<u8>,
}

/// Something that was sealed anew.
pub struct Fresh {
    /// The row.
    pub id: Uuid,
    /// What stood in it.
    pub old: Vec<u8>,
    /// What shall stand in it.
    pub new: Vec<u8>,
}

/// Replaced keys of all tenants, the oldest first.
pub async fn list_replaced(db: &Db) -> Result<Vec<Replaced>> {
    let sql = "SELECT tenant_id, version, replaced_at FROM vault_key WHERE state = 'replaced' \
               ORDER BY replaced_at, tenant_id, version LIMIT $1";
    on!(db, |executor| sqlx::query_as(sql).bind(KEYS).fetch_all(executor).await).during("list replaced keys")
}

/// Replaced keys of a tenant, the oldest first.
pub async fn list_replaced_of(db: &Db, tenant: TenantId) -> Result<Vec<Replaced>> {
    let sql = "SELECT tenant_id, version, replaced_at FROM vault_key WHERE tenant_id = $1 AND state = 'replaced' \
               ORDER BY version LIMIT $2";
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).bind(KEYS).fetch_all(executor).await)
        .during("list replaced keys of a tenant")
}

/// Rows of a tenant behind `after` whose value does not begin with this head, but with that of an older key.
pub async fn list_old(db: &Db, of: &Column, tenant: TenantId, head: &[u8], after: Uuid) -> Result<Vec<Old>> {
    let Column { table, column, .. } = of;
    let sql = format!(
        "SELECT id, {column} AS sealed FROM {table} WHERE substr({column}, 1, 5) < $1 AND id > $2{} ORDER BY id LIMIT {BATCH}",
        mine(of, 3)
    );
    on!(db, |executor| {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(head).bind(after);
        let query = if of.owner == Owner::Tenant { query.bind(tenant.0) } else { query };
        query.fetch_all(executor).await
    })
    .during("list rows under an old key")
}

/// Puts values that were sealed anew in the place of the old ones, unless somebody has changed them; all in one statement.
pub async fn replace(tx: &mut Tx<'_>, of: &Column, tenant: TenantId, fresh: &[Fresh]) -> Result<()> {
    let Column { table, column, .. } = of;
    on!(tx, |executor| {
        let mut query = QueryBuilder::new("WITH fresh (id, old, new) AS (");
        query.push_values(fresh, |mut row, fresh| {
            row.push_bind(fresh.id).push_bind(fresh.old.as_slice()).push_bind(fresh.new.as_slice());
        });
        query.push(format!(
            ") UPDATE {table} SET {column} = fresh.new FROM fresh WHERE {table}.id = fresh.id AND {table}.{column} = fresh.old"
        ));
        if of.owner == Owner::Tenant {
            query.push(format!(" AND {table}.tenant_id = ")).push_bind(tenant.0);
        }
        query.build().persistent(false).execute(executor).await.map(|_| ())
    })
    .during("seal rows anew")
}

/// How many rows of a tenant begin with this head.
pub async fn count(db: &Db, tenant: TenantId, head: &[u8]) -> Result<i64> {
    let mut n = 0;
    for of in columns_of(tenant) {
        let Column { table, column, .. } = of;
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE substr({column}, 1, 5) = $1{}", mine(of, 2));
        n += on!(db, |executor| {
            let query = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql)).bind(head);
            let query = if of.owner == Owner::Tenant { query.bind(tenant.0) } else { query };
            query.fetch_one(executor).await
        })
        .during("count rows under a key")?;
    }
    Ok(n)
}

/// Tables of other services that need this version of a tenant's key, or an older one.
pub async fn list_holders(db: &Db, tenant: TenantId, version: i32) -> Result<Vec<String>> {
    let sql = "SELECT holder FROM vault_holder WHERE tenant_id = $1 AND lowest <= $2 ORDER BY holder";
    on!(db, |executor| sqlx::query_scalar(sql).bind(tenant.0).bind(version).fetch_all(executor).await)
        .during("list tables that need a key")
}

/// Deletes a replaced key, unless something needs it. Whether it did.
pub async fn destroy(tx: &mut Tx<'_>, tenant: TenantId, version: i32, head: &[u8]) -> Result<bool> {
    let mut sql = "DELETE FROM vault_key WHERE tenant_id = $1 AND version = $2 AND state = 'replaced' AND NOT EXISTS \
                   (SELECT 1 FROM vault_holder WHERE tenant_id = $1 AND lowest <= $2)"
        .to_owned();
    for of in columns_of(tenant) {
        let Column { table, column, .. } = of;
        sql += &format!(" AND NOT EXISTS (SELECT 1 FROM {table} WHERE substr({column}, 1, 5) = $3{})", mine(of, 1));
    }
    let deleted = on!(tx, |executor| {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.0).bind(version).bind(head);
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(deleted.during("destroy a tenant's key")? == 1)
}

/// Restricts a statement to the tenant, which is its parameter number `n`.
fn mine(of: &Column, n: u8) -> String {
    match of.owner {
        Owner::Tenant => format!(" AND tenant_id = ${n}"),
        Owner::Nobody => String::new(),
    }
}
