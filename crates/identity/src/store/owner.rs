//! SQL of `owner`, and of what connects it with keys.

use manifold_core::{OwnerId, Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use serde_json::{Map, Value};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::usage::UsageRow;

/// For whom keys are.
#[derive(Clone, Debug, FromRow)]
pub struct OwnerRow {
    /// The owner.
    pub id: Uuid,
    /// What the tenant calls it among its own.
    pub external_id: String,
    /// What a person calls it.
    pub name: String,
    /// What shall be remembered with it.
    pub metadata: Json<Map<String, Value>>,
    /// When it was made.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
}

/// Inserts an owner. False if the tenant has one of that name among its own.
pub async fn insert(tx: &mut Tx<'_>, tenant: TenantId, row: &OwnerRow) -> Result<bool> {
    let sql = "INSERT INTO owner (tenant_id, id, external_id, name, metadata, created_at) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (tenant_id, external_id) DO NOTHING";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(row.id).bind(&row.external_id).bind(&row.name);
        let query = query.bind(&row.metadata).bind(Micros::from(row.created_at));
        query.execute(executor).await.map(|done| done.rows_affected() > 0)
    })
    .during("insert an owner")
}

/// A page of a tenant's owners, newest first: at most `limit` with ids below `before`.
pub async fn list(db: &Db, tenant: TenantId, before: Uuid, limit: i64) -> Result<Vec<OwnerRow>> {
    let sql = "SELECT id, external_id, name, metadata, created_at FROM owner WHERE tenant_id = $1 AND id < $2 \
               ORDER BY id DESC LIMIT $3";
    on!(db, |pool| sqlx::query_as(sql).bind(tenant.0).bind(before).bind(limit).fetch_all(pool).await)
        .during("list owners")
}

/// A tenant's owner.
pub async fn find(db: &Db, tenant: TenantId, id: OwnerId) -> Result<Option<OwnerRow>> {
    let sql = "SELECT id, external_id, name, metadata, created_at FROM owner WHERE tenant_id = $1 AND id = $2";
    on!(db, |pool| sqlx::query_as(sql).bind(tenant.0).bind(id.0).fetch_optional(pool).await).during("find an owner")
}

/// A tenant's owner, which nobody else changes until the transaction ends.
pub async fn lock(tx: &mut Tx<'_>, tenant: TenantId, id: OwnerId) -> Result<Option<OwnerRow>> {
    let sql = "UPDATE owner SET name = name WHERE tenant_id = $1 AND id = $2 \
               RETURNING id, external_id, name, metadata, created_at";
    on!(tx, |executor| sqlx::query_as(sql).bind(tenant.0).bind(id.0).fetch_optional(executor).await)
        .during("lock an owner")
}

/// Changes a tenant's owner.
pub async fn update(tx: &mut Tx<'_>, tenant: TenantId, row: &OwnerRow) -> Result<()> {
    let sql = "UPDATE owner SET name = $3, metadata = $4 WHERE tenant_id = $1 AND id = $2";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(row.id).bind(&row.name).bind(&row.metadata);
        query.execute(executor).await.map(|_| ())
    })
    .during("change an owner")
}

/// Whether a key of the owner could still be used.
pub async fn has_keys(tx: &mut Tx<'_>, tenant: TenantId, id: OwnerId) -> Result<bool> {
    let sql = "SELECT 1 FROM api_key WHERE tenant_id = $1 AND owner_id = $2 AND state <> 'revoked' LIMIT 1";
    let found: Result<Option<i32>, _> =
        on!(tx, |executor| sqlx::query_scalar(sql).bind(tenant.0).bind(id.0).fetch_optional(executor).await);
    Ok(found.during("look for keys of an owner")?.is_some())
}

/// Deletes a tenant's owner; what revoked keys say of it is forgotten.
pub async fn delete(tx: &mut Tx<'_>, tenant: TenantId, id: OwnerId) -> Result<()> {
    let keys = "UPDATE api_key SET owner_id = NULL WHERE tenant_id = $1 AND owner_id = $2";
    let owner = "DELETE FROM owner WHERE tenant_id = $1 AND id = $2";
    for sql in [keys, owner] {
        on!(tx, |executor| sqlx::query(sql).bind(tenant.0).bind(id.0).execute(executor).await.map(|_| ()))
            .during("delete an owner")?;
    }
    Ok(())
}

/// The sums of all keys of a tenant's owner since `from`, oldest first.
pub async fn usage(db: &Db, tenant: TenantId, id: OwnerId, from: Timestamp) -> Result<Vec<UsageRow>> {
    let sql = "SELECT u.hour, u.outcome, u.operation, CAST(SUM(u.n) AS BIGINT) AS n, \
               CAST(SUM(u.input_tokens) AS BIGINT) AS input_tokens, CAST(SUM(u.output_tokens) AS BIGINT) AS output_tokens, \
               CAST(SUM(u.cost_nanos) AS BIGINT) AS cost_nanos, CAST(SUM(u.n_unpriced) AS BIGINT) AS n_unpriced, \
               CAST(SUM(u.duration_us) AS BIGINT) AS duration_us FROM key_usage u JOIN api_key k ON k.id = u.key_id \
               WHERE k.tenant_id = $1 AND u.tenant_id = $1 AND k.owner_id = $2 AND u.hour >= $3 \
               GROUP BY u.hour, u.outcome, u.operation ORDER BY u.hour, u.outcome, u.operation";
    on!(db, |pool| sqlx::query_as(sql).bind(tenant.0).bind(id.0).bind(Micros::from(from)).fetch_all(pool).await)
        .during("read the usage of an owner")
}
