//! SQL of the relay. Postgres only.

use bytes::Bytes;
use manifold_core::{Result, Timestamp};
use manifold_store::SqlResultExt;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{FromRow, PgConnection, PgPool, Postgres};
use uuid::Uuid;

use crate::place::Place;

/// An event that no stream has yet.
#[derive(Debug)]
pub(super) struct Unpublished {
    pub(super) place: Place,
    pub(super) event: Uuid,
    pub(super) subject: String,
    pub(super) payload: Bytes,
    /// How often the stream had it and lost it to somebody's hand.
    pub(super) n_removed: i32,
}

/// An event and its number in the stream.
#[derive(Clone, Copy, Debug, FromRow)]
pub(super) struct Published {
    pub(super) event_id: Uuid,
    pub(super) stream_seq: i64,
}

/// How much waits.
#[derive(Clone, Copy, Debug, FromRow)]
pub(super) struct Depth {
    pub(super) n: i64,
    pub(super) oldest: Option<i64>,
}

/// Makes this connection the one that relays this schema, until it ends; false if there is another.
pub(super) async fn lead(connection: &mut PgConnection) -> Result<bool> {
    let sql = "SELECT pg_try_advisory_lock(hashtextextended('manifold.relay.' || current_schema(), 0))";
    sqlx::query_scalar(sql).fetch_one(connection).await.during("ask to be the relay")
}

/// Whether this connection still lives.
pub(super) async fn still_leads(connection: &mut PgConnection) -> Result<()> {
    sqlx::query("SELECT 1").execute(connection).await.map(|_| ()).during("look whether this is still the relay")
}

/// The oldest events that no stream has. By state and not by a cursor, which would pass those that are committed late.
pub(super) async fn unpublished(pool: &PgPool, limit: usize) -> Result<Vec<Unpublished>> {
    type Columns = (i64, i64, Uuid, String, Vec<u8>, i32);
    let sql = "SELECT xid::text::bigint, seq, event_id, subject, payload, tries FROM outbox \
               WHERE published_at IS NULL ORDER BY seq LIMIT $1";
    let rows: Result<Vec<Columns>, _> = sqlx::query_as(sql).bind(limit as i64).fetch_all(pool).await;
    let unpublished = |(xid, seq, event, subject, payload, n_removed): Columns| Unpublished {
        place: Place { xid, seq },
        event,
        subject,
        payload: payload.into(),
        n_removed,
    };
    Ok(rows.during("read events that no stream has")?.into_iter().map(unpublished).collect())
}

/// The stream of this epoch has these events, by number in the outbox and in the stream.
pub(super) async fn mark(pool: &PgPool, now: Timestamp, epoch: i64, seqs: &[i64], stream: &[i64]) -> Result<()> {
    let sql = "UPDATE outbox SET published_at = $1, stream_epoch = $2, stream_seq = new.stream_seq \
               FROM UNNEST($3::bigint[], $4::bigint[]) AS new (seq, stream_seq) WHERE outbox.seq = new.seq";
    let query = sqlx::query(sql).bind(now.micros()).bind(epoch).bind(seqs).bind(stream);
    query.execute(pool).await.map(|_| ()).during("mark events as published")
}

/// No stream will have this event.
pub(super) async fn give_up(connection: &mut PgConnection, now: Timestamp, seq: i64) -> Result<()> {
    let query = sqlx::query("UPDATE outbox SET published_at = $1 WHERE seq = $2").bind(now.micros()).bind(seq);
    query.execute(connection).await.map(|_| ()).during("give an event up")
}

/// Whether streams of other epochs had events.
pub(super) async fn has_other_epochs(pool: &PgPool, epoch: i64) -> Result<bool> {
    let sql = "SELECT MIN(stream_epoch), MAX(stream_epoch) FROM outbox WHERE stream_epoch IS NOT NULL";
    let found: Result<(Option<i64>, Option<i64>), _> = sqlx::query_as(sql).fetch_one(pool).await;
    let (first, last) = found.during("look for the epochs of events")?;
    Ok([first, last].into_iter().flatten().any(|found| found != epoch))
}

/// Whether a stream had any of these events.
pub(crate) async fn was_published(pool: &PgPool) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM outbox WHERE stream_epoch IS NOT NULL)";
    sqlx::query_scalar(sql).fetch_one(pool).await.during("look for published events")
}

/// The last event that the stream of this epoch had, up to a number.
pub(super) async fn last_published(pool: &PgPool, epoch: i64, up_to: i64) -> Result<Option<Published>> {
    let sql = "SELECT event_id, stream_seq FROM outbox WHERE stream_epoch = $1 AND stream_seq <= $2 \
               ORDER BY stream_seq DESC LIMIT 1";
    let query = sqlx::query_as(sql).bind(epoch).bind(up_to);
    query.fetch_optional(pool).await.during("look for the last published event")
}

/// Some of the events that the stream of this epoch has, from all over.
pub(super) async fn samples(pool: &PgPool, epoch: i64, from: i64, up_to: i64, n: i64) -> Result<Vec<Published>> {
    let sql = "SELECT found.event_id, found.stream_seq FROM \
               (SELECT DISTINCT $2 + floor(random() * ($3 - $2 + 1))::bigint AS near FROM generate_series(1, $4)) AS picked, \
               LATERAL (SELECT event_id, stream_seq FROM outbox WHERE stream_epoch = $1 AND stream_seq >= picked.near \
               ORDER BY stream_seq LIMIT 1) AS found";
    let query = sqlx::query_as(sql).bind(epoch).bind(from).bind(up_to).bind(n);
    query.fetch_all(pool).await.during("pick published events")
}

/// How many events the stream of this epoch had between two numbers.
pub(super) async fn count_between(pool: &PgPool, epoch: i64, above: i64, below: i64) -> Result<u64> {
    let sql = "SELECT COUNT(*) FROM outbox WHERE stream_epoch = $1 AND stream_seq > $2 AND stream_seq < $3";
    let n: Result<i64, _> = sqlx::query_scalar(sql).bind(epoch).bind(above).bind(below).fetch_one(pool).await;
    Ok(n.during("count published events")?.unsigned_abs())
}

/// The first events that the stream of this epoch had above a number.
pub(super) async fn published_above(pool: &PgPool, epoch: i64, above: i64, limit: i64) -> Result<Vec<Published>> {
    let sql = "SELECT event_id, stream_seq FROM outbox WHERE stream_epoch = $1 AND stream_seq > $2 \
               ORDER BY stream_seq LIMIT $3";
    let query = sqlx::query_as(sql).bind(epoch).bind(above).bind(limit);
    query.fetch_all(pool).await.during("look for unread events")
}

/// Has events published again: those that the stream of this epoch had above a number, and those of other epochs.
pub(super) async fn publish_again(pool: &PgPool, epoch: i64, above: i64) -> Result<u64> {
    again(sqlx::query(AGAIN_ABOVE).bind(epoch).bind(above), pool).await
}

/// Has events published again that the stream of this epoch had between two numbers.
pub(super) async fn publish_between(pool: &PgPool, epoch: i64, above: i64, below: i64) -> Result<u64> {
    again(sqlx::query(AGAIN_BETWEEN).bind(epoch).bind(above).bind(below), pool).await
}

/// Has events published again that stand behind a place, and that the stream of this epoch had below a number.
pub(super) async fn publish_behind(pool: &PgPool, epoch: i64, place: Place, below: i64) -> Result<u64> {
    again(sqlx::query(AGAIN_BEHIND).bind(epoch).bind(place.xid).bind(place.seq).bind(below), pool).await
}

/// As if no stream had had them; one of this epoch would know their ids.
macro_rules! again {
    ($which:literal) => {
        concat!(
            "UPDATE outbox SET published_at = NULL, stream_epoch = NULL, stream_seq = NULL, \
             tries = tries + (stream_epoch = $1)::int WHERE stream_epoch IS NOT NULL AND ",
            $which
        )
    };
}
const AGAIN_ABOVE: &str = again!("(stream_epoch <> $1 OR stream_seq > $2)");
const AGAIN_BETWEEN: &str = again!("stream_epoch = $1 AND stream_seq > $2 AND stream_seq < $3");
const AGAIN_BEHIND: &str =
    again!("stream_epoch = $1 AND (xid, seq) > ($2::bigint::text::xid8, $3) AND stream_seq < $4");

async fn again(query: Query<'_, Postgres, PgArguments>, pool: &PgPool) -> Result<u64> {
    Ok(query.execute(pool).await.during("have events published again")?.rows_affected())
}

/// Only one process repairs at a time, whichever schema it relays.
pub(super) async fn lock_repair(connection: &mut PgConnection) -> Result<()> {
    let sql = "SELECT pg_advisory_lock(hashtextextended('manifold.bus.repair', 0))";
    sqlx::query(sql).execute(connection).await.map(|_| ()).during("wait to repair the stream")
}

/// The next one may repair.
pub(super) async fn unlock_repair(connection: &mut PgConnection) -> Result<()> {
    let sql = "SELECT pg_advisory_unlock(hashtextextended('manifold.bus.repair', 0))";
    sqlx::query(sql).execute(connection).await.map(|_| ()).during("end the repair of the stream")
}

/// How many events wait, and since when.
pub(super) async fn depth(pool: &PgPool) -> Result<Depth> {
    let sql = "SELECT COUNT(*) AS n, MIN(created_at) AS oldest FROM outbox WHERE published_at IS NULL";
    sqlx::query_as(sql).fetch_one(pool).await.during("count the events that wait")
}

/// The place up to which a reader had read when it told so last.
pub(super) async fn reported(pool: &PgPool, reader: &str) -> Result<Place> {
    let sql = "SELECT last_xid AS xid, last_seq AS seq FROM outbox_reader WHERE consumer = $1";
    let place = sqlx::query_as(sql).bind(reader).fetch_optional(pool).await;
    place.during("look how far events are done").map(Option::unwrap_or_default)
}

/// The place, at or after `from`, up to which every event is published and read by all consumers, who have passed the
/// number `floor` of the stream.
pub(super) async fn done(pool: &PgPool, from: Place, floor: i64) -> Result<Place> {
    let sql = "WITH now AS (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin) \
               SELECT COALESCE(first.xid, now.xmin)::text::bigint, COALESCE(first.seq, 0) FROM now LEFT JOIN LATERAL \
               (SELECT xid, seq FROM outbox WHERE (xid, seq) > ($1::bigint::text::xid8, $2) AND xid < now.xmin \
               AND (published_at IS NULL OR stream_seq > $3) ORDER BY xid, seq LIMIT 1) AS first ON true";
    let found: Result<(i64, i64), _> =
        sqlx::query_as(sql).bind(from.xid).bind(from.seq).bind(floor).fetch_one(pool).await;
    // Just before the first event that is not done.
    let (xid, seq) = found.during("look how far events are done")?;
    Ok(Place { xid, seq: seq - 1 })
}
