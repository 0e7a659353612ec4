//! SQL of `limit_rule`: limits that were given to keys and people, and to tenants.

use manifold_core::{Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::limit::{Rule, Rules};

const FIND: &str = "SELECT rules, updated_by, updated_at FROM limit_rule WHERE tenant_id = $1 AND subject = $2";

type Found = Option<(Json<Vec<Rule>>, String, Micros)>;

/// The limits of one subject, by its printed id; None = it has none of its own.
pub async fn find(db: &Db, tenant: TenantId, subject: &str) -> Result<Option<Rules>> {
    let row: Result<Found, _> =
        on!(db, |executor| sqlx::query_as(FIND).bind(tenant.0).bind(subject).fetch_optional(executor).await);
    Ok(row.during("read limits")?.map(rules))
}

/// The same inside a transaction.
pub async fn find_in(tx: &mut Tx<'_>, tenant: TenantId, subject: &str) -> Result<Option<Rules>> {
    let row: Result<Found, _> =
        on!(tx, |executor| sqlx::query_as(FIND).bind(tenant.0).bind(subject).fetch_optional(executor).await);
    Ok(row.during("read limits")?.map(rules))
}

fn rules((rules, by, at): (Json<Vec<Rule>>, String, Micros)) -> Rules {
    Rules { rules: rules.0, updated: Some((by, at.into())) }
}

/// How many subjects of a tenant have limits of their own.
pub async fn count(tx: &mut Tx<'_>, tenant: TenantId) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM limit_rule WHERE tenant_id = $1";
    on!(tx, |executor| sqlx::query_scalar(sql).bind(tenant.0).fetch_one(executor).await).during("count limits")
}

/// Puts `rules` in the place of those that the subject had.
pub async fn upsert(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    subject: &str,
    rules: &[Rule],
    by: &str,
    at: Timestamp,
) -> Result<()> {
    let sql = "INSERT INTO limit_rule (tenant_id, subject, rules, updated_by, updated_at) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (tenant_id, subject) DO UPDATE \
               SET rules = excluded.rules, updated_by = excluded.updated_by, updated_at = excluded.updated_at";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(subject).bind(Json(rules)).bind(by);
        query.bind(Micros::from(at)).execute(executor).await.map(|_| ())
    })
    .during("set limits")
}

/// Takes the limits of a subject away.
pub async fn delete(tx: &mut Tx<'_>, tenant: TenantId, subject: &str) -> Result<()> {
    let sql = "DELETE FROM limit_rule WHERE tenant_id = $1 AND subject = $2";
    on!(tx, |executor| sqlx::query(sql).bind(tenant.0).bind(subject).execute(executor).await.map(|_| ()))
        .during("take limits away")
}

/// The limits of somebody.
#[derive(FromRow)]
pub struct RuleRow {
    /// Of which tenant.
    pub tenant_id: Uuid,
    /// Printed id, or `tenant`.
    pub subject: String,
    /// Which limits, as they were written: a newer process may know others.
    pub rules: Json<serde_json::Value>,
}

/// All limits that were given to somebody of a tenant.
pub async fn list(db: &Db, tenant: TenantId) -> Result<Vec<RuleRow>> {
    let sql = "SELECT tenant_id, subject, rules FROM limit_rule WHERE tenant_id = $1";
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).fetch_all(executor).await)
        .during("read the limits of a tenant")
}

/// The same of all tenants.
pub async fn list_all(db: &Db) -> Result<Vec<RuleRow>> {
    let sql = "SELECT tenant_id, subject, rules FROM limit_rule";
    on!(db, |executor| sqlx::query_as(sql).fetch_all(executor).await).during("read all limits")
}
