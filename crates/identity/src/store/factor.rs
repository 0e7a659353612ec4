//! SQL of `factor` and `recovery_code`: what people prove beside their password. They belong to a person and to
//! no tenant.

use manifold_core::{FactorId, Result, Timestamp, UserId};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use uuid::Uuid;

use super::revocation;
use crate::revoke;

/// A factor of a person.
#[derive(FromRow)]
pub struct FactorRow {
    /// The factor.
    pub id: Uuid,
    /// What kind it is.
    pub kind: String,
    /// Sealed.
    pub secret: Vec<u8>,
    /// When it was begun.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
    /// When it was first proven; before, it is asked of nobody.
    pub confirmed_at: Option<Micros>,
}

const FACTOR: &str = "SELECT id, kind, secret, created_at, confirmed_at FROM factor WHERE user_id = $1";

/// Inserts a factor that is not confirmed; one that was begun before ends.
pub async fn begin(tx: &mut Tx<'_>, user: UserId, id: FactorId, sealed: &[u8], at: Timestamp) -> Result<()> {
    let sql = "DELETE FROM factor WHERE user_id = $1 AND confirmed_at IS NULL";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).execute(executor).await.map(|_| ()))
        .during("end a factor that was begun")?;
    let sql = "INSERT INTO factor (id, user_id, kind, secret, last_step, failed, created_at) VALUES ($1, $2, 'totp', $3, 0, 0, $4)";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(id.0).bind(user.0).bind(sealed).bind(Micros::from(at));
        query.execute(executor).await.map(|_| ())
    })
    .during("insert a factor")
}

/// The factors of a person, the oldest first.
pub async fn list(db: &Db, user: UserId) -> Result<Vec<FactorRow>> {
    let sql = [FACTOR, " ORDER BY id"].concat();
    on!(db, |executor| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(user.0).fetch_all(executor).await)
        .during("list factors")
}

/// The factor that a person has to prove.
pub async fn find_confirmed(db: &Db, user: UserId) -> Result<Option<FactorRow>> {
    let sql = [FACTOR, " AND confirmed_at IS NOT NULL"].concat();
    on!(db, |executor| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(user.0).fetch_optional(executor).await)
        .during("look for a factor")
}

/// Whether the person has to prove a factor.
pub async fn has_confirmed(tx: &mut Tx<'_>, user: UserId) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM factor WHERE user_id = $1 AND confirmed_at IS NOT NULL";
    let count = on!(tx, |executor| sqlx::query_scalar::<_, i64>(sql).bind(user.0).fetch_one(executor).await);
    Ok(count.during("look for a factor")? > 0)
}

/// Confirms a factor with the code of `step`, in place of the one before; false if there is none to confirm.
pub async fn confirm(tx: &mut Tx<'_>, user: UserId, id: FactorId, step: i64, at: Timestamp) -> Result<bool> {
    let sql =
        "UPDATE factor SET confirmed_at = $4, last_step = $3 WHERE user_id = $1 AND id = $2 AND confirmed_at IS NULL";
    let confirmed = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(user.0).bind(id.0).bind(step).bind(Micros::from(at));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    if confirmed.during("confirm a factor")? == 0 {
        return Ok(false);
    }
    let sql = "DELETE FROM factor WHERE user_id = $1 AND id <> $2";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).bind(id.0).execute(executor).await.map(|_| ()))
        .during("end the factor before")?;
    Ok(true)
}

/// Removes a factor; false if the person has none such.
pub async fn remove(tx: &mut Tx<'_>, user: UserId, id: FactorId) -> Result<bool> {
    let sql = "DELETE FROM factor WHERE user_id = $1 AND id = $2";
    let removed = on!(tx, |executor| {
        sqlx::query(sql).bind(user.0).bind(id.0).execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(removed.during("remove a factor")? == 1)
}

/// Removes all factors of a person; how many.
pub async fn remove_all(tx: &mut Tx<'_>, user: UserId) -> Result<u64> {
    let sql = "DELETE FROM factor WHERE user_id = $1";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).execute(executor).await.map(|done| done.rows_affected()))
        .during("remove factors")
}

/// The person has no factor any more: recovery codes end, and no session has proven one.
pub async fn forget_proofs(tx: &mut Tx<'_>, user: UserId, at: Timestamp) -> Result<()> {
    let sql = "UPDATE session SET mfa = $2 WHERE user_id = $1";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).bind(false).execute(executor).await.map(|_| ()))
        .during("forget what sessions have proven")?;
    revocation::append(tx, &revoke::user_subject(user), at).await?;
    end_recovery_codes(tx, user).await
}

/// Uses up the code of a step; false if it or a later one was used, or the factor is locked or gone.
pub async fn use_step(tx: &mut Tx<'_>, user: UserId, id: FactorId, step: i64, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE factor SET last_step = $3, failed = 0, locked_until = NULL WHERE user_id = $1 AND id = $2 \
               AND confirmed_at IS NOT NULL AND last_step < $3 AND (locked_until IS NULL OR locked_until <= $4)";
    let used = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(user.0).bind(id.0).bind(step).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(used.during("use the code of a factor")? == 1)
}

/// What became of a factor for which a wrong code was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It can be tried again.
    Open,
    /// This was once too often: it is locked until then.
    Locked(Timestamp),
    /// It was locked already, and nothing was counted.
    StillLocked(Timestamp),
}

/// Counts a wrong code. Every fifth in a row locks the factor: for 15 minutes, then 30, 60 … up to 16 hours.
pub async fn fail(tx: &mut Tx<'_>, user: UserId, id: FactorId, now: Timestamp) -> Result<Failed> {
    let sql = "UPDATE factor SET failed = failed + 1, locked_until = CASE WHEN (failed + 1) % 5 <> 0 THEN NULL \
               WHEN failed >= 34 THEN $3 + CAST(57600000000 AS BIGINT) \
               ELSE $3 + CAST(900000000 AS BIGINT) * (1 << CAST(failed / 5 AS INTEGER)) END \
               WHERE user_id = $1 AND id = $2 AND (locked_until IS NULL OR locked_until <= $3) RETURNING locked_until";
    let counted = on!(tx, |executor| {
        let query = sqlx::query_scalar::<_, Option<Micros>>(sql).bind(user.0).bind(id.0).bind(Micros::from(now));
        query.fetch_optional(executor).await
    });
    match counted.during("count a wrong code")? {
        Some(Some(until)) => return Ok(Failed::Locked(until.into())),
        Some(None) => return Ok(Failed::Open),
        None => {}
    }
    let sql = "SELECT locked_until FROM factor WHERE user_id = $1 AND id = $2";
    let until: Result<Option<Option<Micros>>, _> =
        on!(tx, |executor| sqlx::query_scalar(sql).bind(user.0).bind(id.0).fetch_optional(executor).await);
    let until = until.during("read until when a factor is locked")?.flatten();
    Ok(until.map_or(Failed::Open, |until| Failed::StillLocked(until.into())))
}

/// Replaces the recovery codes of a person.
pub async fn set_recovery_codes(tx: &mut Tx<'_>, user: UserId, hashes: &[Vec<u8>]) -> Result<()> {
    end_recovery_codes(tx, user).await?;
    let sql = "INSERT INTO recovery_code (user_id, hash) VALUES ($1, $2)";
    for hash in hashes {
        on!(tx, |executor| sqlx::query(sql).bind(user.0).bind(hash.as_slice()).execute(executor).await.map(|_| ()))
            .during("insert a recovery code")?;
    }
    Ok(())
}

async fn end_recovery_codes(tx: &mut Tx<'_>, user: UserId) -> Result<()> {
    let sql = "DELETE FROM recovery_code WHERE user_id = $1";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).execute(executor).await.map(|_| ())).during("end recovery codes")
}

/// Uses up a recovery code, and unlocks the factor that it stands for; false if it does not work, or not any more.
pub async fn use_recovery_code(tx: &mut Tx<'_>, user: UserId, hash: &[u8], now: Timestamp) -> Result<bool> {
    let sql = "UPDATE recovery_code SET used_at = $3 WHERE user_id = $1 AND hash = $2 AND used_at IS NULL";
    let used = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(user.0).bind(hash).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    if used.during("use a recovery code")? == 0 {
        return Ok(false);
    }
    let sql = "UPDATE factor SET failed = 0, locked_until = NULL WHERE user_id = $1";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).execute(executor).await.map(|_| ())).during("unlock a factor")?;
    Ok(true)
}
