//! SQL of `one_time`: what works once, for one purpose. Only a hash of it is kept.

use manifold_core::{Result, Timestamp, UserId};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use serde_json::Value;
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

/// A new password.
pub const RESET: &str = "reset";
/// A new account.
pub const REGISTER: &str = "register";
/// Another address of an account.
pub const EMAIL: &str = "email";
/// The rest of a login, by a code.
pub const TICKET: &str = "mfa";
/// The first account.
pub const SETUP: &str = "setup";

/// What a token is good for.
#[derive(Clone, Debug)]
pub struct Promise {
    /// For what.
    pub purpose: &'static str,
    /// SHA-256 of the token.
    pub hash: Vec<u8>,
    /// For whom, if that has an account.
    pub user: Option<UserId>,
    /// What else is promised.
    pub data: Value,
    /// Until when it works.
    pub until: Timestamp,
}

/// What a token was made for.
#[derive(FromRow)]
pub struct Made {
    user_id: Option<Uuid>,
    /// What else was promised.
    pub data: Json<Value>,
}

impl Made {
    /// For whom.
    pub fn user(&self) -> Option<UserId> {
        self.user_id.map(UserId)
    }
}

/// Inserts a promise.
pub async fn insert(tx: &mut Tx<'_>, new: &Promise) -> Result<()> {
    let sql = "INSERT INTO one_time (hash, purpose, user_id, data, expires_at) VALUES ($1, $2, $3, $4, $5)";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(new.hash.as_slice()).bind(new.purpose).bind(new.user.map(|user| user.0));
        query.bind(Json(&new.data)).bind(Micros::from(new.until)).execute(executor).await.map(|_| ())
    })
    .during("insert what works once")
}

/// What the token with this hash was made for, if it still works.
pub async fn find(db: &Db, purpose: &str, hash: &[u8], now: Timestamp) -> Result<Option<Made>> {
    let sql =
        "SELECT user_id, data FROM one_time WHERE purpose = $1 AND hash = $2 AND used_at IS NULL AND expires_at > $3";
    on!(db, |executor| {
        sqlx::query_as(sql).bind(purpose).bind(hash).bind(Micros::from(now)).fetch_optional(executor).await
    })
    .during("look for what works once")
}

/// Uses it up, and forgets what else was promised; false if it does not work any more. Of several who try at once, one
/// succeeds.
pub async fn use_up(tx: &mut Tx<'_>, purpose: &str, hash: &[u8], now: Timestamp) -> Result<bool> {
    let sql = "UPDATE one_time SET used_at = $3, data = '{}' WHERE purpose = $1 AND hash = $2 AND used_at IS NULL AND expires_at > $3";
    let used = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(purpose).bind(hash).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(used.during("use what works once")? == 1)
}

/// Uses it up, and with it everything of its purpose; false if it does not work, or not any more. Of several who try at
/// once, one succeeds: the others wait for its rows and find them used.
pub async fn use_all(tx: &mut Tx<'_>, purpose: &str, hash: &[u8], now: Timestamp) -> Result<bool> {
    let sql = "UPDATE one_time SET used_at = $3 WHERE purpose = $1 AND used_at IS NULL AND EXISTS (SELECT 1 FROM one_time o \
               WHERE o.hash = $2 AND o.purpose = $1 AND o.used_at IS NULL AND o.expires_at > $3)";
    let used = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(purpose).bind(hash).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(used.during("use what works once")? > 0)
}

/// Deletes what was promised to a person, used or not.
pub async fn forget(tx: &mut Tx<'_>, user: UserId) -> Result<()> {
    let sql = "DELETE FROM one_time WHERE user_id = $1";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).execute(executor).await.map(|_| ()))
        .during("forget tokens of a person")
}

/// Deletes the registrations of an address that nobody finished.
pub async fn forget_registrations(tx: &mut Tx<'_>, email_norm: &str) -> Result<()> {
    let sql = "DELETE FROM one_time WHERE purpose = 'register' AND data -> 'email' ->> 'norm' = $1";
    on!(tx, |executor| sqlx::query(sql).bind(email_norm).execute(executor).await.map(|_| ()))
        .during("forget registrations")
}

/// Ends what was promised to a person: new passwords and other addresses.
pub async fn end_of(tx: &mut Tx<'_>, user: UserId) -> Result<()> {
    let sql = "DELETE FROM one_time WHERE purpose IN ('reset', 'email') AND user_id = $1 AND used_at IS NULL";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).execute(executor).await.map(|_| ()))
        .during("end tokens of a person")
}
