//! SQL of `revocation` and `revocation_head`: who lost what, in the order of commits, for every process to read.
//! The rows belong to no tenant; they name a subject.

use manifold_core::{Result, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};

/// Adds a revocation. The head's row is locked until the commit, so that no later number becomes visible earlier.
pub async fn append(tx: &mut Tx<'_>, subject: &str, at: Timestamp) -> Result<()> {
    let head = "UPDATE revocation_head SET seq = seq + 1 WHERE id = 1 RETURNING seq";
    let seq = on!(tx, |executor| sqlx::query_scalar::<_, i64>(head).fetch_one(executor).await);
    let seq = seq.during("take the number of a revocation")?;
    let row = "INSERT INTO revocation (seq, subject, generation, at) VALUES ($1, $2, 0, $3)";
    on!(tx, |executor| {
        let query = sqlx::query(row).bind(seq).bind(subject).bind(Micros::from(at));
        query.execute(executor).await.map(|_| ())
    })
    .during("insert a revocation")
}

/// The number of the last revocation.
pub async fn head(db: &Db) -> Result<i64> {
    let sql = "SELECT seq FROM revocation_head WHERE id = 1";
    on!(db, |executor| sqlx::query_scalar(sql).fetch_one(executor).await).during("read the last revocation")
}

/// Up to `limit` revocations after number `seq`: their numbers and subjects.
pub async fn list_after(db: &Db, seq: i64, limit: i64) -> Result<Vec<(i64, String)>> {
    let sql = "SELECT seq, subject FROM revocation WHERE seq > $1 ORDER BY seq LIMIT $2";
    on!(db, |executor| sqlx::query_as(sql).bind(seq).bind(limit).fetch_all(executor).await).during("read revocations")
}
