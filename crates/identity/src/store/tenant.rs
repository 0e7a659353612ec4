//! SQL of `tenant`. The rows are tenants; each statement names one, except the lists.

use manifold_core::{Result, TenantId, Timestamp, UserId};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::types::Json;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use crate::tenant::settings::Settings;

/// A tenant.
#[derive(Clone, Debug, FromRow)]
pub struct TenantRow {
    /// The tenant.
    pub id: Uuid,
    /// What addresses call it.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// `active`, `suspended` or `deleting`.
    pub state: String,
    /// What it decides for itself.
    pub settings: Json<Settings>,
    /// When everything of it is removed.
    pub delete_after: Option<Micros>,
    /// When it was made.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
}

const TENANT: &str = "SELECT t.id, t.slug, t.name, t.state, t.settings, t.delete_after, t.created_at FROM tenant t ";

/// A tenant to insert.
#[derive(Clone, Debug)]
pub struct NewTenant {
    /// The tenant.
    pub id: TenantId,
    /// What addresses call it.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// Now.
    pub at: Timestamp,
}

/// Inserts a tenant. False if there is one of that slug.
pub async fn insert(tx: &mut Tx<'_>, new: &NewTenant) -> Result<bool> {
    let sql = "INSERT INTO tenant (id, slug, name, state, settings, created_at) VALUES ($1, $2, $3, 'active', $4, $5) \
               ON CONFLICT (slug) DO NOTHING";
    let inserted = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(new.id.0).bind(&new.slug).bind(&new.name).bind(Json(Settings::default()));
        query.bind(Micros::from(new.at)).execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(inserted.during("insert a tenant")? == 1)
}

/// The tenant that was made first: the one of the house itself.
pub async fn first(db: &Db) -> Result<Option<TenantId>> {
    let sql = "SELECT id FROM tenant ORDER BY created_at, id LIMIT 1";
    let found: Result<Option<Uuid>, _> = on!(db, |executor| sqlx::query_scalar(sql).fetch_optional(executor).await);
    Ok(found.during("find the first tenant")?.map(TenantId))
}

/// One tenant.
pub async fn find(db: &Db, id: TenantId) -> Result<Option<TenantRow>> {
    let sql = AssertSqlSafe([TENANT, "WHERE t.id = $1"].concat());
    on!(db, |executor| sqlx::query_as(sql).bind(id.0).fetch_optional(executor).await).during("read a tenant")
}

/// One tenant, which stays as it is until the transaction ends.
pub async fn hold(tx: &mut Tx<'_>, id: TenantId) -> Result<Option<TenantRow>> {
    super::member::lock(tx, id).await?;
    let sql = AssertSqlSafe([TENANT, "WHERE t.id = $1"].concat());
    on!(tx, |executor| sqlx::query_as(sql).bind(id.0).fetch_optional(executor).await).during("read a tenant")
}

/// What a tenant decided for itself.
pub async fn settings(db: &Db, id: TenantId) -> Result<Settings> {
    let sql = "SELECT settings FROM tenant WHERE id = $1";
    let found: Result<Option<Json<Settings>>, _> =
        on!(db, |executor| sqlx::query_scalar(sql).bind(id.0).fetch_optional(executor).await);
    Ok(found.during("read the settings of a tenant")?.map(|Json(settings)| settings).unwrap_or_default())
}

/// Every tenant, the newest first.
pub async fn list(db: &Db, before: Uuid, limit: i64) -> Result<Vec<TenantRow>> {
    let sql = AssertSqlSafe([TENANT, "WHERE t.id < $1 ORDER BY t.id DESC LIMIT $2"].concat());
    on!(db, |executor| sqlx::query_as(sql).bind(before).bind(limit).fetch_all(executor).await).during("list tenants")
}

/// The tenants of a person, the newest first.
pub async fn list_of(db: &Db, user: UserId, before: Uuid, limit: i64) -> Result<Vec<TenantRow>> {
    let of = "JOIN membership m ON m.tenant_id = t.id WHERE m.user_id = $1 AND t.id < $2 ORDER BY t.id DESC LIMIT $3";
    let sql = AssertSqlSafe([TENANT, of].concat());
    on!(db, |executor| sqlx::query_as(sql).bind(user.0).bind(before).bind(limit).fetch_all(executor).await)
        .during("list the tenants of a person")
}

/// Whether the person is a member.
pub async fn has_member(db: &Db, id: TenantId, user: UserId) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM membership WHERE tenant_id = $1 AND user_id = $2";
    let count =
        on!(db, |executor| { sqlx::query_scalar::<_, i64>(sql).bind(id.0).bind(user.0).fetch_one(executor).await });
    Ok(count.during("look for a membership")? > 0)
}

/// Writes what can change of a tenant.
pub async fn update(tx: &mut Tx<'_>, row: &TenantRow) -> Result<()> {
    let sql = "UPDATE tenant SET name = $2, state = $3, settings = $4, delete_after = $5 WHERE id = $1";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(row.id).bind(&row.name).bind(&row.state).bind(&row.settings);
        query.bind(row.delete_after).execute(executor).await.map(|_| ())
    })
    .during("change a tenant")
}

/// Origins whose pages may call, and the tenants that allow them.
pub async fn list_settings(db: &Db) -> Result<Vec<(Uuid, Json<Settings>)>> {
    let sql = "SELECT id, settings FROM tenant WHERE state = 'active'";
    on!(db, |executor| sqlx::query_as(sql).fetch_all(executor).await).during("read the settings of tenants")
}

/// Tenants whose time is over.
pub async fn list_over(db: &Db, now: Timestamp) -> Result<Vec<Uuid>> {
    let sql = "SELECT id FROM tenant WHERE state = 'deleting' AND delete_after <= $1 ORDER BY id";
    on!(db, |executor| sqlx::query_scalar(sql).bind(Micros::from(now)).fetch_all(executor).await)
        .during("look for tenants to remove")
}
