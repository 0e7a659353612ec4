//! SQL of the credits of keys.

use manifold_core::{KeyId, Result, TenantId, Timestamp};
use manifold_store::{Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use sqlx::types::Json;

use crate::key::credit::Refill;

/// What a key has.
#[derive(FromRow)]
pub struct Balance {
    /// None = it needs none.
    pub credits: Option<i64>,
    /// How they are filled up.
    pub refill: Option<Json<Refill>>,
    /// When next.
    pub refill_at: Option<Micros>,
}

/// Spends credits, all or none, unless they should be filled up first; how many are left.
pub async fn spend(tx: &mut Tx<'_>, tenant: TenantId, key: KeyId, n: i64, now: Timestamp) -> Result<Option<i64>> {
    let sql = "UPDATE api_key SET credits = credits - $3 WHERE tenant_id = $1 AND id = $2 AND credits >= $3 \
               AND (refill_at IS NULL OR refill_at > $4) RETURNING credits";
    on!(tx, |executor| {
        let query = sqlx::query_scalar(sql).bind(tenant.0).bind(key.0).bind(n).bind(Micros::from(now));
        query.fetch_optional(executor).await
    })
    .during("spend credits")
}

/// What a tenant's key has.
pub async fn balance(tx: &mut Tx<'_>, tenant: TenantId, key: KeyId) -> Result<Option<Balance>> {
    let sql = "SELECT credits, refill, refill_at FROM api_key WHERE tenant_id = $1 AND id = $2";
    on!(tx, |executor| sqlx::query_as(sql).bind(tenant.0).bind(key.0).fetch_optional(executor).await)
        .during("read credits")
}

/// Fills credits up, if nobody else has done what was `due`.
pub async fn refill(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    key: KeyId,
    amount: i64,
    due: Timestamp,
    next: Option<Timestamp>,
) -> Result<()> {
    let sql = "UPDATE api_key SET credits = CASE WHEN credits < $3 THEN $3 ELSE credits END, refill_at = $5, \
               exhausted_at = NULL WHERE tenant_id = $1 AND id = $2 AND refill_at = $4";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(key.0).bind(amount).bind(Micros::from(due));
        query.bind(next.map(Micros::from)).execute(executor).await.map(|_| ())
    })
    .during("fill credits up")
}

/// Notes that there are none left. False if there are some, or if that was noted before.
pub async fn note_exhausted(tx: &mut Tx<'_>, tenant: TenantId, key: KeyId, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE api_key SET exhausted_at = $3 WHERE tenant_id = $1 AND id = $2 AND credits < 1 \
               AND exhausted_at IS NULL";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(key.0).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected() > 0)
    })
    .during("note that credits are exhausted")
}
