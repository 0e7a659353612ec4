//! SQL of `vault_secret`.

use manifold_core::{Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use uuid::Uuid;

/// A secret, sealed.
#[derive(FromRow)]
pub struct SecretRow {
    /// The secret.
    pub id: Uuid,
    /// How it is called.
    pub name: String,
    /// Its value.
    pub sealed: Vec<u8>,
    /// How many values it has had.
    pub version: i32,
    /// The end of its value.
    pub last4: Option<String>,
    /// When it was last written.
    #[sqlx(try_from = "Micros")]
    pub updated_at: Timestamp,
    /// Who wrote it last.
    pub updated_by: String,
}

/// A value to write.
pub struct Written {
    /// The secret.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: TenantId,
    /// How it is called.
    pub name: String,
    /// The value.
    pub sealed: Vec<u8>,
    /// The version that it replaces; 0 = there is none.
    pub before: i32,
    /// The end of the value.
    pub last4: Option<String>,
    /// Who writes it.
    pub by: String,
    /// Now.
    pub at: Timestamp,
}

/// One text of the columns of [`SecretRow`].
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, sealed, version, last4, updated_at, updated_by FROM vault_secret WHERE tenant_id = $1 AND ",
            $rest
        )
    };
}

/// A page, the newest first.
pub async fn list(db: &Db, tenant: TenantId, before: Uuid, limit: i64) -> Result<Vec<SecretRow>> {
    let sql = select!("id < $2 ORDER BY id DESC LIMIT $3");
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).bind(before).bind(limit).fetch_all(executor).await)
        .during("list secrets")
}

/// A secret by its name.
pub async fn find(db: &Db, tenant: TenantId, name: &str) -> Result<Option<SecretRow>> {
    let sql = select!("name = $2");
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).bind(name).fetch_optional(executor).await)
        .during("find a secret")
}

/// Writes a value. False if the secret is not as it was when the value was sealed.
pub async fn write(tx: &mut Tx<'_>, new: &Written) -> Result<bool> {
    let insert = "INSERT INTO vault_secret (tenant_id, id, name, sealed, version, last4, updated_by, created_at, updated_at) \
                  VALUES ($1, $2, $3, $4, $5 + 1, $6, $7, $8, $8) ON CONFLICT (tenant_id, name) DO NOTHING";
    let update = "UPDATE vault_secret SET sealed = $4, version = version + 1, last4 = $6, updated_by = $7, updated_at = $8 \
                  WHERE tenant_id = $1 AND id = $2 AND name = $3 AND version = $5";
    let sql = if new.before == 0 { insert } else { update };
    let written = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(new.tenant.0).bind(new.id).bind(&new.name).bind(new.sealed.as_slice());
        let query = query.bind(new.before).bind(&new.last4).bind(&new.by).bind(Micros::from(new.at));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(written.during("write a secret")? == 1)
}

/// Deletes a secret; its id and version, if there was one.
pub async fn delete(tx: &mut Tx<'_>, tenant: TenantId, name: &str) -> Result<Option<(Uuid, i32)>> {
    let sql = "DELETE FROM vault_secret WHERE tenant_id = $1 AND name = $2 RETURNING id, version";
    on!(tx, |executor| sqlx::query_as(sql).bind(tenant.0).bind(name).fetch_optional(executor).await)
        .during("delete a secret")
}
