//! SQL of `system_key`, whose rows belong to the installation.

use manifold_core::Result;
use manifold_store::{Db, SqlResultExt, Tx, on};
use sqlx::FromRow;

use crate::key::format::Lookup;

/// A key of the installation, sealed under a master key.
#[derive(Clone, Debug, FromRow)]
pub struct SystemKey {
    /// What it is for.
    pub name: String,
    /// Which of them.
    pub version: i32,
    /// The sealed key.
    pub wrapped: Vec<u8>,
    /// The master key that seals it.
    pub master_id: String,
}

/// Every system key.
pub async fn list_system_keys(db: &Db) -> Result<Vec<SystemKey>> {
    let sql = "SELECT name, version, wrapped, master_id FROM system_key ORDER BY name, version";
    on!(db, |executor| sqlx::query_as(sql).fetch_all(executor).await).during("list system keys")
}

/// Inserts a system key unless there is one of that name and version.
pub async fn insert_system_key(tx: &mut Tx<'_>, key: &SystemKey) -> Result<()> {
    let sql = "INSERT INTO system_key (name, version, wrapped, master_id, state) VALUES ($1, $2, $3, $4, 'active') \
               ON CONFLICT (name, version) DO NOTHING";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(&key.name).bind(key.version).bind(key.wrapped.as_slice());
        query.bind(&key.master_id).execute(executor).await.map(|_| ())
    })
    .during("insert a system key")
}

/// Puts a key that was sealed anew under the master key `to` in the place of the one under `from`.
pub async fn rewrap(tx: &mut Tx<'_>, key: &SystemKey, from: &str, to: &str) -> Result<()> {
    let sql = "UPDATE system_key SET wrapped = $3, master_id = $5 WHERE name = $1 AND version = $2 AND master_id = $4";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(&key.name).bind(key.version).bind(key.wrapped.as_slice());
        query.bind(from).bind(to).execute(executor).await.map(|_| ())
    })
    .during("seal a system key anew")
}

/// Whether there is any tenant.
pub async fn has_tenants(db: &Db) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM tenant";
    let count = on!(db, |executor| sqlx::query_scalar::<_, i64>(sql).fetch_one(executor).await);
    Ok(count.during("count tenants")? > 0)
}

/// Whether some key has this lookup.
pub async fn has_lookup(db: &Db, lookup: Lookup) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM api_key_secret WHERE lookup = $1";
    let count = on!(db, |executor| sqlx::query_scalar::<_, i64>(sql).bind(lookup.as_str()).fetch_one(executor).await);
    Ok(count.during("look an API key up")? > 0)
}
