//! SQL of `signing_key`. The rows belong to the installation.

use manifold_core::{Result, Timestamp, encode_id};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use crate::jwks::{ALGORITHM, Jwk};

/// A key that signs, will sign, or signed.
#[derive(Clone, Debug, FromRow)]
pub struct SigningKey {
    /// The row; printed it is the key's name in tokens.
    pub id: Uuid,
    /// Its sealed private part; None after its turn.
    pub private: Option<Vec<u8>>,
    /// Its public part.
    pub public: Json<Jwk>,
    /// `next`, `active` or `verify_only`.
    pub state: String,
    /// Since when it is in this state.
    #[sqlx(try_from = "Micros")]
    pub since: Timestamp,
}

impl SigningKey {
    /// Its name in tokens.
    pub fn kid(&self) -> String {
        kid(self.id)
    }
}

/// The name of a key in tokens.
pub fn kid(id: Uuid) -> String {
    encode_id("sig", id)
}

/// Every key.
pub async fn list(db: &Db) -> Result<Vec<SigningKey>> {
    let sql = "SELECT id, private, public, state, since FROM signing_key WHERE alg = $1 ORDER BY id";
    on!(db, |executor| sqlx::query_as(sql).bind(ALGORITHM).fetch_all(executor).await).during("list signing keys")
}

/// Inserts a key unless another one is in its state. False if so.
pub async fn insert(tx: &mut Tx<'_>, key: &SigningKey) -> Result<bool> {
    let sql = "INSERT INTO signing_key (id, alg, private, public, state, since) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT DO NOTHING";
    let inserted = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(key.id).bind(ALGORITHM).bind(key.private.as_deref());
        let query = query.bind(&key.public).bind(&key.state).bind(Micros::from(key.since));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(inserted.during("insert a signing key")? == 1)
}

/// Ends the turn of a key: from now on it only verifies. False if it had none.
pub async fn retire(tx: &mut Tx<'_>, id: Uuid, at: Timestamp) -> Result<bool> {
    let sql =
        "UPDATE signing_key SET state = 'verify_only', private = NULL, since = $2 WHERE id = $1 AND state = 'active'";
    change(tx, sql, id, at).await
}

/// Begins the turn of the key that waits for it. False if it does not wait.
pub async fn activate(tx: &mut Tx<'_>, id: Uuid, at: Timestamp) -> Result<bool> {
    change(tx, "UPDATE signing_key SET state = 'active', since = $2 WHERE id = $1 AND state = 'next'", id, at).await
}

async fn change(tx: &mut Tx<'_>, sql: &'static str, id: Uuid, at: Timestamp) -> Result<bool> {
    let changed = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(id).bind(Micros::from(at));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(changed.during("change a signing key")? == 1)
}

/// Removes keys whose turn ended before `before`; how many.
pub async fn remove(tx: &mut Tx<'_>, before: Timestamp) -> Result<u64> {
    let sql = "DELETE FROM signing_key WHERE state = 'verify_only' AND since < $1";
    on!(tx, |executor| {
        sqlx::query(sql).bind(Micros::from(before)).execute(executor).await.map(|done| done.rows_affected())
    })
    .during("remove signing keys")
}
