//! SQL of `refresh_token`. The rows belong to sessions, and are looked up by secret.

use manifold_core::{Result, SessionId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use uuid::Uuid;

use super::session::{Holder, OF_USED};

/// Inserts a token.
pub async fn insert(tx: &mut Tx<'_>, hash: &[u8], session: SessionId, until: Timestamp) -> Result<()> {
    let sql = "INSERT INTO refresh_token (hash, session_id, expires_at) VALUES ($1, $2, $3)";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(hash).bind(session.0).bind(Micros::from(until));
        query.execute(executor).await.map(|_| ())
    })
    .during("insert a refresh token")
}

/// Whether there is such a token, used or not.
pub async fn is_known(db: &Db, hash: &[u8]) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM refresh_token WHERE hash = $1";
    let count = on!(db, |executor| sqlx::query_scalar::<_, i64>(sql).bind(hash).fetch_one(executor).await);
    Ok(count.during("look a refresh token up")? > 0)
}

/// Uses a token, for its session; None if it does not work, or not any more.
pub async fn take(tx: &mut Tx<'_>, hash: &[u8], now: Timestamp) -> Result<Option<SessionId>> {
    let sql = "UPDATE refresh_token SET used_at = $2 WHERE hash = $1 AND used_at IS NULL AND expires_at > $2 \
               RETURNING session_id";
    let taken: Result<Option<Uuid>, _> = on!(tx, |executor| {
        sqlx::query_scalar(sql).bind(hash).bind(Micros::from(now)).fetch_optional(executor).await
    });
    Ok(taken.during("use a refresh token")?.map(SessionId))
}

/// The session of a token that was used before.
pub async fn find_used(tx: &mut Tx<'_>, hash: &[u8]) -> Result<Option<Holder>> {
    on!(tx, |executor| sqlx::query_as(OF_USED).bind(hash).fetch_optional(executor).await)
        .during("look for a used refresh token")
}
