//! Retention: old rows go in small batches, so that no other work waits long.

use std::sync::Arc;

use manifold_core::{Result, Timestamp};
use sqlx::AssertSqlSafe;

use crate::{Db, SqlResultExt, on};

/// Rows per batch.
const BATCH: i64 = 1_000;

/// Deletes the rows of `table` whose column `time` is before `before`, 1,000 per command, and counts them.
/// `key` names the columns of the primary key and must grow with time, as UUIDv7 and sequences do: only the oldest
/// keys are looked at, so no index on `time` is needed.
pub async fn prune(
    db: &Db,
    table: &'static str,
    key: &'static str,
    time: &'static str,
    before: Timestamp,
) -> Result<u64> {
    let statement: Arc<str> = format!(
        "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM \
         (SELECT {key}, {time} AS pruned_by FROM {table} ORDER BY {key} LIMIT $1) AS oldest WHERE pruned_by < $2)"
    )
    .into();
    let mut total = 0;
    loop {
        let statement = statement.clone();
        let batch = db.write("prune", move |tx| {
            let statement = AssertSqlSafe(statement.clone());
            Box::pin(async move {
                let deleted = on!(tx, |executor| sqlx::query(statement)
                    .bind(BATCH)
                    .bind(before.micros())
                    .execute(executor)
                    .await
                    .map(|done| done.rows_affected()));
                deleted.during("delete old rows")
            })
        });
        let deleted = batch.await?;
        total += deleted;
        if deleted < BATCH.unsigned_abs() {
            return Ok(total);
        }
    }
}
