//! SQL of dead letters.

use manifold_core::Result;
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use uuid::Uuid;

use super::{Buried, DeadLetter, Kind, Which};

/// Writes a dead letter, or that it was given up once more.
pub(crate) async fn bury(tx: &mut Tx<'_>, letter: &DeadLetter) -> Result<()> {
    let sql = "INSERT INTO dead_letter (id, kind, ref, consumer, tenant_id, reason, payload, error, first_at, last_at, count) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, 1) ON CONFLICT (kind, ref, consumer) DO UPDATE SET \
               reason = excluded.reason, error = excluded.error, last_at = excluded.last_at, \
               count = dead_letter.count + 1, redriven_at = NULL";
    let written = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(letter.id).bind(letter.kind.name()).bind(&letter.reference);
        let query = query.bind(letter.consumer).bind(&letter.tenant).bind(letter.reason).bind(&*letter.payload);
        query.bind(&letter.error).bind(Micros::from(letter.at)).execute(executor).await.map(|_| ())
    });
    written.during("write a dead letter")
}

/// Deletes the letter of a job.
pub(crate) async fn forget(tx: &mut Tx<'_>, job: &str) -> Result<()> {
    let sql = "DELETE FROM dead_letter WHERE kind = $1 AND ref = $2";
    on!(tx, |executor| sqlx::query(sql).bind(Kind::Job.name()).bind(job).execute(executor).await.map(|_| ()))
        .during("forget a dead letter")
}

#[derive(FromRow)]
struct Columns {
    id: Uuid,
    kind: String,
    r#ref: String,
    consumer: String,
    tenant_id: String,
    reason: String,
    error: String,
    first_at: Micros,
    last_at: Micros,
    count: i64,
}

pub(crate) async fn dead_letters(db: &Db, which: &Which) -> Result<Vec<Buried>> {
    let sql = "SELECT id, kind, ref, consumer, tenant_id, reason, error, first_at, last_at, count FROM dead_letter \
               WHERE redriven_at IS NULL AND ($1 IS NULL OR id = $1) AND ($2 IS NULL OR consumer = $2) ORDER BY id LIMIT $3";
    let rows: Result<Vec<Columns>, _> = on!(db, |pool| {
        sqlx::query_as(sql).bind(which.id).bind(&which.consumer).bind(which.limit).fetch_all(pool).await
    });
    Ok(rows.during("read dead letters")?.into_iter().map(Buried::from).collect())
}

impl From<Columns> for Buried {
    fn from(row: Columns) -> Self {
        Self {
            id: row.id,
            kind: row.kind,
            reference: row.r#ref,
            consumer: row.consumer,
            tenant: row.tenant_id,
            reason: row.reason,
            error: row.error,
            first_at: row.first_at.into(),
            last_at: row.last_at.into(),
            count: row.count,
        }
    }
}
