//! SQL of events that come again.

use manifold_core::{Result, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use uuid::Uuid;

use crate::place::Stored;

/// Events that are tried again at a time.
pub(super) const DUE: i64 = 128;
/// An event that comes again.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    pub(super) stored: Stored,
    pub(super) n_deliveries: i64,
}

/// Has an event come again at `at`, after it came `n` times.
pub(super) async fn retry_later(
    tx: &mut Tx<'_>,
    consumer: &str,
    stored: &Stored,
    n: i64,
    at: Timestamp,
    error: &str,
) -> Result<()> {
    let sql = "INSERT INTO consumer_retry (consumer, event_id, payload, n_deliveries, next_at, error) \
               VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (consumer, event_id) DO UPDATE SET \
               n_deliveries = excluded.n_deliveries, next_at = excluded.next_at, error = excluded.error";
    let written = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(consumer).bind(stored.id).bind(&*stored.payload).bind(n);
        query.bind(Micros::from(at)).bind(error).execute(executor).await.map(|_| ())
    });
    written.during("set an event aside")
}

/// Events whose time has come, the most urgent first.
pub(super) async fn due(db: &Db, consumer: &str, now: Timestamp) -> Result<Vec<Retry>> {
    let sql = "SELECT event_id, payload, n_deliveries FROM consumer_retry WHERE consumer = $1 AND next_at <= $2 \
               ORDER BY next_at LIMIT $3";
    let rows: Result<Vec<(Uuid, Vec<u8>, i64)>, _> =
        on!(db, |pool| sqlx::query_as(sql).bind(consumer).bind(Micros::from(now)).bind(DUE).fetch_all(pool).await);
    let retry = |(id, payload, n_deliveries): (_, Vec<u8>, i64)| Retry {
        stored: Stored { id, payload: payload.into() },
        n_deliveries,
    };
    Ok(rows.during("look for events that come again")?.into_iter().map(retry).collect())
}

/// Changes how often an event has come, and when it comes next; false if it has come another number of times.
pub(super) async fn count_retry(
    tx: &mut Tx<'_>,
    consumer: &str,
    event: Uuid,
    (from, to): (i64, i64),
    next: Timestamp,
) -> Result<bool> {
    let sql = "UPDATE consumer_retry SET n_deliveries = $4, next_at = $5 \
               WHERE consumer = $1 AND event_id = $2 AND n_deliveries = $3";
    let counted = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(consumer).bind(event).bind(from).bind(to).bind(Micros::from(next));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(counted.during("count a try of an event")? == 1)
}

/// Takes an event out of those that come again; false if another process has it.
pub(super) async fn take_retry(tx: &mut Tx<'_>, consumer: &str, event: Uuid, n: i64) -> Result<bool> {
    let sql = "DELETE FROM consumer_retry WHERE consumer = $1 AND event_id = $2 AND n_deliveries = $3";
    let taken = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(consumer).bind(event).bind(n);
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(taken.during("take an event that comes again")? == 1)
}
