//! Which events a consumer has taken already, whichever way they came: from the stream, which may bring an event again, or
//! from an outbox that it read itself, before or after it was told to use the stream. Postgres only; on SQLite there is no
//! stream, and the cursor tells all.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use manifold_core::{Error, Result, Timestamp};
use manifold_store::{SqlResultExt, Tx};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::place::Place;

/// How long an event is known: longer than the stream and the outbox together keep it.
const KNOWN: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// Where in which outbox an event stands, as a message tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) source: String,
    pub(crate) place: Place,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} {}", self.source, self.place.xid, self.place.seq)
    }
}

impl FromStr for Origin {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let mut parts = text.split(' ');
        let mut next = || parts.next().ok_or(());
        let (source, xid, seq) = (next()?.to_owned(), next()?, next()?);
        let place = Place { xid: xid.parse().map_err(|_| ())?, seq: seq.parse().map_err(|_| ())? };
        Ok(Self { source, place })
    }
}

/// An event that came from the stream.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: Uuid,
    pub(crate) origin: Option<Origin>,
}

/// Takes events in; answers with those that had been taken before. Whoever reads the outboxes meanwhile waits for the end of
/// this transaction, and this one for theirs.
pub(crate) async fn enter(tx: &mut Tx<'_>, consumer: &str, entries: &[Entry]) -> Result<HashSet<Uuid>> {
    let Tx::Postgres(connection) = tx else { return Err(Error::internal("a stream needs Postgres")) };
    let mut cursors = self::cursors(connection, consumer).await.during("read the cursors of a consumer")?;
    if cursors.is_empty() {
        let together = "SELECT pg_advisory_xact_lock_shared(hashtextextended('manifold.consumer.' || $1, 0))";
        let locked = sqlx::query(together).bind(consumer).execute(&mut **connection).await;
        locked.during("wait for the first cursor of a consumer")?;
        cursors = self::cursors(connection, consumer).await.during("read the cursors of a consumer")?;
    }
    let passed = |entry: &&Entry| {
        let Some(origin) = &entry.origin else { return false };
        cursors.iter().any(|(source, place)| *source == origin.source && *place >= origin.place)
    };
    // In one order, so that two processes never wait for each other.
    let mut ids: Vec<Uuid> = entries.iter().filter(|entry| !passed(entry)).map(|entry| entry.id).collect();
    ids.sort_unstable();
    let sql = "INSERT INTO inbox (consumer, event_id) SELECT $1, id FROM UNNEST($2::uuid[]) AS id \
               ON CONFLICT DO NOTHING RETURNING event_id";
    let new: Result<Vec<Uuid>, _> = sqlx::query_scalar(sql).bind(consumer).bind(ids).fetch_all(&mut **connection).await;
    let new: HashSet<Uuid> = new.during("take events in")?.into_iter().collect();
    Ok(entries.iter().map(|entry| entry.id).filter(|id| !new.contains(id)).collect())
}

/// Up to where the consumer has read outboxes itself. Nobody moves these cursors before the end of the transaction.
async fn cursors(connection: &mut PgConnection, consumer: &str) -> Result<Vec<(String, Place)>, sqlx::Error> {
    let sql = "SELECT source, last_xid, last_seq FROM consumer_cursor WHERE consumer = $1 FOR SHARE";
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(sql).bind(consumer).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(source, xid, seq)| (source, Place { xid, seq })).collect())
}

/// Which of these events came from the stream before.
pub(crate) async fn taken(tx: &mut Tx<'_>, consumer: &str, ids: impl FnOnce() -> Vec<Uuid>) -> Result<HashSet<Uuid>> {
    let Tx::Postgres(connection) = tx else { return Ok(HashSet::new()) };
    let sql = "SELECT event_id FROM inbox WHERE consumer = $1 AND event_id = ANY($2)";
    let taken: Result<Vec<Uuid>, _> =
        sqlx::query_scalar(sql).bind(consumer).bind(ids()).fetch_all(&mut **connection).await;
    Ok(taken.during("look which events came before")?.into_iter().collect())
}

/// Consumers that took an event from the stream which the inbox still has to know. One look at the key per consumer.
pub(crate) async fn consumers(pool: &PgPool, now: Timestamp) -> Result<Vec<String>> {
    let sql = "WITH RECURSIVE known (name) AS ( \
                 SELECT MIN(consumer) FROM inbox UNION ALL \
                 SELECT (SELECT MIN(consumer) FROM inbox WHERE consumer > known.name) FROM known WHERE known.name IS NOT NULL) \
               SELECT name FROM known WHERE EXISTS (SELECT 1 FROM inbox WHERE consumer = name AND event_id >= $1)";
    let query = sqlx::query_scalar(sql).bind(first_id_of(now.before(KNOWN)));
    query.fetch_all(pool).await.during("look who took events from the stream")
}

/// Forgets what cannot come any more; counts it.
pub(crate) async fn forget(tx: &mut Tx<'_>, consumer: &str, now: Timestamp) -> Result<u64> {
    let Tx::Postgres(connection) = tx else { return Ok(0) };
    let before = first_id_of(now.before(KNOWN));
    let sql = "DELETE FROM inbox WHERE consumer = $1 AND event_id IN \
               (SELECT event_id FROM inbox WHERE consumer = $1 AND event_id < $2 ORDER BY event_id LIMIT 10000)";
    let deleted = sqlx::query(sql).bind(consumer).bind(before).execute(&mut **connection).await;
    Ok(deleted.during("forget events")?.rows_affected())
}

/// Lower than every id of this time or later. UUIDv7 begins with 48 bits of milliseconds (RFC 9562, section 5.7).
fn first_id_of(time: Timestamp) -> Uuid {
    Uuid::from_u128(u128::try_from(time.micros() / 1_000).unwrap_or(0) << 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_as_it_was_written() {
        let origin = Origin { source: "ai-router".to_owned(), place: Place { xid: 7, seq: 12 } };

        assert_eq!(origin.to_string().parse(), Ok(origin));
        for text in ["", "ai-router", "ai-router 7", "ai-router 7 x"] {
            assert!(text.parse::<Origin>().is_err(), "{text}");
        }
    }
}
