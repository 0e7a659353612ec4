//! SQL of `incident` and `network_block`. Blocks belong to no tenant; the house's own runs them.

use manifold_core::{BlockId, IncidentId, Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use uuid::Uuid;

/// What looks like an attack.
#[derive(Clone, Debug, FromRow)]
pub struct IncidentRow {
    /// The incident.
    pub id: Uuid,
    /// Whose.
    pub tenant_id: Uuid,
    /// Which rule found it.
    pub rule: String,
    /// `medium`, `high` or `critical`.
    pub severity: String,
    /// Who or what shows it.
    pub subject: String,
    /// Signs so far.
    pub count: i64,
    /// When the first was.
    #[sqlx(try_from = "Micros")]
    pub first_at: Timestamp,
    /// When the last was.
    #[sqlx(try_from = "Micros")]
    pub last_at: Timestamp,
    /// What was seen in particular.
    pub detail: String,
    /// Who has looked into it.
    pub acknowledged_by: Option<String>,
    /// When; None = it is open.
    pub acknowledged_at: Option<Micros>,
}

/// A network that nothing is taken from.
#[derive(Clone, Debug, FromRow)]
pub struct BlockRow {
    /// The block.
    pub id: Uuid,
    /// `203.0.113.0/24`.
    pub network: String,
    /// The rule that made it.
    pub rule: String,
    /// When.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
    /// Until when.
    #[sqlx(try_from = "Micros")]
    pub expires_at: Timestamp,
}

/// Adds to the open incident of this tenant, rule and subject; true if there was none and it is inserted.
pub async fn add(tx: &mut Tx<'_>, row: &IncidentRow) -> Result<bool> {
    let sql = "INSERT INTO incident (id, tenant_id, rule, severity, subject, count, first_at, last_at, detail) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
               ON CONFLICT (tenant_id, rule, subject) WHERE acknowledged_at IS NULL \
               DO UPDATE SET count = incident.count + excluded.count, last_at = excluded.last_at RETURNING id";
    let id = on!(tx, |executor| {
        let query = sqlx::query_scalar::<_, Uuid>(sql).bind(row.id).bind(row.tenant_id).bind(&row.rule);
        let query = query.bind(&row.severity).bind(&row.subject).bind(row.count).bind(Micros::from(row.first_at));
        query.bind(Micros::from(row.last_at)).bind(&row.detail).fetch_one(executor).await
    });
    Ok(id.during("add to an incident")? == row.id)
}

/// Incidents of a tenant, the newest first.
pub async fn list(db: &Db, tenant: TenantId, before: Uuid, limit: i64) -> Result<Vec<IncidentRow>> {
    let sql = "SELECT id, tenant_id, rule, severity, subject, count, first_at, last_at, detail, acknowledged_by, \
               acknowledged_at FROM incident WHERE tenant_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3";
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).bind(before).bind(limit).fetch_all(executor).await)
        .during("list incidents")
}

/// One incident of a tenant.
pub async fn find(tx: &mut Tx<'_>, tenant: TenantId, id: IncidentId) -> Result<Option<IncidentRow>> {
    let sql = "SELECT id, tenant_id, rule, severity, subject, count, first_at, last_at, detail, acknowledged_by, \
               acknowledged_at FROM incident WHERE tenant_id = $1 AND id = $2";
    on!(tx, |executor| sqlx::query_as(sql).bind(tenant.0).bind(id.0).fetch_optional(executor).await)
        .during("read an incident")
}

/// Closes an incident; false if it was, or is another tenant's.
pub async fn acknowledge(tx: &mut Tx<'_>, tenant: TenantId, id: IncidentId, by: &str, at: Timestamp) -> Result<bool> {
    let sql = "UPDATE incident SET acknowledged_by = $3, acknowledged_at = $4 \
               WHERE tenant_id = $1 AND id = $2 AND acknowledged_at IS NULL";
    let closed = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(id.0).bind(by).bind(Micros::from(at));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(closed.during("acknowledge an incident")? == 1)
}

/// Blocks a network, or for longer.
pub async fn block(tx: &mut Tx<'_>, row: &BlockRow) -> Result<()> {
    let sql = "INSERT INTO network_block (id, network, rule, created_at, expires_at) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (network) DO UPDATE SET id = excluded.id, rule = excluded.rule, \
               created_at = excluded.created_at, expires_at = excluded.expires_at";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(row.id).bind(&row.network).bind(&row.rule);
        let query = query.bind(Micros::from(row.created_at)).bind(Micros::from(row.expires_at));
        query.execute(executor).await.map(|_| ())
    })
    .during("block a network")
}

/// The networks that are blocked now, the newest first.
pub async fn list_blocks(db: &Db, now: Timestamp) -> Result<Vec<BlockRow>> {
    let sql =
        "SELECT id, network, rule, created_at, expires_at FROM network_block WHERE expires_at > $1 ORDER BY id DESC";
    on!(db, |executor| sqlx::query_as(sql).bind(Micros::from(now)).fetch_all(executor).await)
        .during("list blocked networks")
}

/// Ends a block; its network, if it was still blocked.
pub async fn unblock(tx: &mut Tx<'_>, id: BlockId, now: Timestamp) -> Result<Option<String>> {
    let sql = "DELETE FROM network_block WHERE id = $1 AND expires_at > $2 RETURNING network";
    on!(tx, |executor| sqlx::query_scalar(sql).bind(id.0).bind(Micros::from(now)).fetch_optional(executor).await)
        .during("unblock a network")
}
