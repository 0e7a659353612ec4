//! SQL of what should be said about secrets. Looked for in all tenants, and taken tenant by tenant.

use manifold_core::{KeyId, Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use uuid::Uuid;

/// An old secret that shall go.
#[derive(FromRow)]
pub struct OldSecret {
    /// How it is found.
    pub lookup: String,
    /// When it ends by itself.
    pub expires_at: Option<Micros>,
    /// When it was last used.
    pub last_used_at: Option<Micros>,
}

/// Up to `limit` keys whose secret should be replaced by `now`, and which nobody was reminded of: tenant and key.
pub async fn list_due(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<(Uuid, Uuid)>> {
    let sql =
        "SELECT tenant_id, id FROM api_key WHERE remind_at <= $1 AND state = 'active' ORDER BY remind_at LIMIT $2";
    on!(db, |pool| sqlx::query_as(sql).bind(Micros::from(now)).bind(limit).fetch_all(pool).await)
        .during("look for secrets whose time has come")
}

/// True for the one who shall remind of a key.
pub async fn take_due(tx: &mut Tx<'_>, tenant: TenantId, key: KeyId, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE api_key SET remind_at = NULL WHERE tenant_id = $1 AND id = $2 AND remind_at <= $3";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(key.0).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected() > 0)
    })
    .during("take a reminder")
}

/// Up to `limit` keys half of whose grace is over by `now`, and of which nobody was warned: tenant and key.
pub async fn list_old(db: &Db, now: Timestamp, limit: i64) -> Result<Vec<(Uuid, Uuid)>> {
    let sql = "SELECT k.tenant_id, k.id FROM api_key_secret s JOIN api_key k ON k.id = s.key_id \
               WHERE s.warn_at <= $1 AND s.state = 'previous' ORDER BY s.warn_at LIMIT $2";
    on!(db, |pool| sqlx::query_as(sql).bind(Micros::from(now)).bind(limit).fetch_all(pool).await)
        .during("look for old secrets")
}

/// The old secret of a key, for the one who shall warn of it.
pub async fn take_old(tx: &mut Tx<'_>, tenant: TenantId, key: KeyId, now: Timestamp) -> Result<Option<OldSecret>> {
    let sql = "UPDATE api_key_secret SET warn_at = NULL WHERE warn_at <= $3 AND state = 'previous' \
               AND key_id = (SELECT id FROM api_key WHERE tenant_id = $1 AND id = $2) \
               RETURNING lookup, expires_at, last_used_at";
    on!(tx, |executor| {
        let query = sqlx::query_as(sql).bind(tenant.0).bind(key.0).bind(Micros::from(now));
        query.fetch_optional(executor).await
    })
    .during("take a warning")
}
