//! SQL of `role`: what a tenant calls which permissions.

use manifold_core::{Result, RoleId, TenantId, Timestamp, UserId};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::role::grants::RoleGrant;

/// A role that a tenant made.
#[derive(Clone, Debug, FromRow)]
pub struct RoleRow {
    /// The role.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// What its holders may do.
    pub grants: Json<Vec<RoleGrant>>,
    /// When it was made.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
}

const OF_TENANT: &str = "SELECT id, name, grants, created_at FROM role WHERE tenant_id = $1 ORDER BY name";

/// The roles of a tenant, by name.
pub async fn list(db: &Db, tenant: TenantId) -> Result<Vec<RoleRow>> {
    on!(db, |executor| sqlx::query_as(OF_TENANT).bind(tenant.0).fetch_all(executor).await).during("list roles")
}

/// The same inside a transaction.
pub async fn list_in(tx: &mut Tx<'_>, tenant: TenantId) -> Result<Vec<RoleRow>> {
    on!(tx, |executor| sqlx::query_as(OF_TENANT).bind(tenant.0).fetch_all(executor).await).during("list roles")
}

/// Inserts a role. False if the tenant has one of that name.
pub async fn insert(tx: &mut Tx<'_>, tenant: TenantId, row: &RoleRow) -> Result<bool> {
    let sql = "INSERT INTO role (id, tenant_id, name, grants, created_at) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (tenant_id, name) DO NOTHING";
    let inserted = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(row.id).bind(tenant.0).bind(&row.name).bind(&row.grants);
        query.bind(Micros::from(row.created_at)).execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(inserted.during("insert a role")? == 1)
}

/// Writes what can change of a role.
pub async fn update(tx: &mut Tx<'_>, tenant: TenantId, row: &RoleRow) -> Result<()> {
    let sql = "UPDATE role SET name = $3, grants = $4 WHERE tenant_id = $1 AND id = $2";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(row.id).bind(&row.name).bind(&row.grants);
        query.execute(executor).await.map(|_| ())
    })
    .during("change a role")
}

/// Removes a role, and invitations that promise it.
pub async fn remove(tx: &mut Tx<'_>, tenant: TenantId, id: RoleId) -> Result<()> {
    let promised = "DELETE FROM invitation WHERE tenant_id = $1 AND role = $2 AND used_at IS NULL";
    on!(tx, |executor| sqlx::query(promised).bind(tenant.0).bind(id.to_string()).execute(executor).await.map(|_| ()))
        .during("end invitations")?;
    let sql = "DELETE FROM role WHERE tenant_id = $1 AND id = $2";
    on!(tx, |executor| sqlx::query(sql).bind(tenant.0).bind(id.0).execute(executor).await.map(|_| ()))
        .during("remove a role")
}

/// Who holds a role.
pub async fn holders(tx: &mut Tx<'_>, tenant: TenantId, id: RoleId) -> Result<Vec<UserId>> {
    let sql =
        "SELECT subject_id FROM role_binding WHERE tenant_id = $1 AND role = $2 AND subject_kind = 'user' ORDER BY 1";
    let found: Result<Vec<Uuid>, _> =
        on!(tx, |executor| { sqlx::query_scalar(sql).bind(tenant.0).bind(id.to_string()).fetch_all(executor).await });
    Ok(found.during("list the holders of a role")?.into_iter().map(UserId).collect())
}
