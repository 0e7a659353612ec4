//! SQL of reading outboxes: the events behind a place, the places of readers, and what people see of them.

use std::collections::HashMap;

use bytes::Bytes;
use manifold_core::{Code, Error, Result, Timestamp};
use manifold_store::{Db, Engine, Micros, SqlResultExt, Tx, on};
use sqlx::{AssertSqlSafe, FromRow, PgPool, SqlitePool};
use uuid::Uuid;

use crate::place::{Found, Place};

/// How to go on from a place of another server.
pub(crate) const FOREIGN: &str = "the database was restored into another server, whose transactions are counted anew: in each schema run \
     UPDATE outbox SET xid = '3'; UPDATE consumer_cursor SET last_xid = 3; UPDATE outbox_reader SET last_xid = 3";
/// Among the readers of an outbox: up to where its events were deleted.
pub(crate) const PRUNED: &str = "pruned";

pub(crate) async fn cursor(db: &Db, consumer: &str, source: &str) -> Result<Place> {
    let sql = "SELECT last_xid AS xid, last_seq AS seq FROM consumer_cursor WHERE consumer = $1 AND source = $2";
    let place = on!(db, |pool| sqlx::query_as(sql).bind(consumer).bind(source).fetch_optional(pool).await);
    place.during("read the cursor of a consumer").map(Option::unwrap_or_default)
}

/// Whether this server has not come to this place yet: its transactions are counted anew after a restore into another one.
pub(crate) async fn is_foreign(source: &Db, place: Place) -> Result<bool> {
    let Engine::Postgres(pool) = source.engine() else { return Ok(false) };
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let next: i64 = sqlx::query_scalar(next).fetch_one(pool).await.during("look for the next transaction")?;
    Ok(place.xid >= next)
}

/// Refuses a place of another server: what comes would look as if it had been read.
pub(crate) async fn check(source: &Db, place: Place) -> Result<()> {
    if !is_foreign(source, place).await? {
        return Ok(());
    }
    Err(Error::new(Code::Unavailable, "STORE_UNAVAILABLE", FOREIGN))
}

/// The events behind `place`. On Postgres only those of transactions that are older than every running one: what comes
/// later stands behind them.
pub(crate) async fn read(source: &Db, place: Place, limit: u32) -> Result<Vec<Found>> {
    let found = match source.engine() {
        Engine::Sqlite(pool) => read_sqlite(pool, place, limit).await,
        Engine::Postgres(pool) => read_postgres(pool, place, limit).await,
    };
    found.during("read events")
}

/// All events as one row, because each row costs more on its way out of SQLite's thread than what follows with the event
/// in it. Bytes are text for `group_concat` and bytes again afterwards: neither cast changes them.
async fn read_sqlite(pool: &SqlitePool, place: Place, limit: u32) -> Result<Vec<Found>, sqlx::Error> {
    type Columns = (Option<String>, Option<Vec<u8>>);
    let sql = "SELECT group_concat(seq || ' ' || length(payload)), CAST(group_concat(CAST(payload AS TEXT), '') AS BLOB) \
               FROM (SELECT seq, payload FROM outbox WHERE seq > $1 ORDER BY seq LIMIT $2)";
    let (Some(lengths), Some(payloads)) =
        sqlx::query_as::<_, Columns>(sql).bind(place.seq).bind(limit).fetch_one(pool).await?
    else {
        return Ok(Vec::new());
    };
    let mut payloads = Bytes::from(payloads);
    let found = |text: &str| {
        let (seq, length) = text.split_once(' ')?;
        let (seq, length) = (seq.parse().ok()?, length.parse().ok()?);
        (length <= payloads.len()).then(|| Found { place: Place { xid: 0, seq }, payload: payloads.split_to(length) })
    };
    let found: Option<Vec<_>> = lengths.split(',').map(found).collect();
    found.ok_or_else(|| sqlx::Error::Decode("numbers and lengths of events".into()))
}

async fn read_postgres(pool: &PgPool, place: Place, limit: u32) -> Result<Vec<Found>, sqlx::Error> {
    type Columns = (i64, i64, Vec<u8>);
    let sql = "SELECT xid::text::bigint, seq, payload FROM outbox \
               WHERE (xid, seq) > ($1::bigint::text::xid8, $2) \
               AND xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY xid, seq LIMIT $3";
    let query = sqlx::query_as::<_, Columns>(sql).bind(place.xid).bind(place.seq).bind(i64::from(limit));
    let found = |(xid, seq, payload): Columns| Found { place: Place { xid, seq }, payload: payload.into() };
    Ok(query.fetch_all(pool).await?.into_iter().map(found).collect())
}

/// The id of the event with this number, for one whose bytes do not tell it.
pub(crate) async fn event_id(source: &Db, seq: i64) -> Result<Uuid> {
    let sql = "SELECT event_id FROM outbox WHERE seq = $1";
    on!(source, |pool| sqlx::query_scalar(sql).bind(seq).fetch_one(pool).await).during("look for the id of an event")
}

/// Leaves numbers out at each start: a power cut may undo rows whose numbers a consumer has passed already, and theirs must
/// not be given to others.
pub async fn leave_numbers_out(db: &Db) -> Result<()> {
    if let Db::Postgres(_) = db {
        return Ok(());
    }
    let skipped = db.write("leave numbers of events out", |tx| {
        Box::pin(async move {
            let sql = "UPDATE sqlite_sequence SET seq = seq + 1000000 WHERE name = 'outbox'";
            on!(tx, |executor| sqlx::query(sql).execute(executor).await.map(|_| ())).during("leave numbers out")
        })
    });
    skipped.await
}

/// After the copy of SQLite files into Postgres schemas, in its transaction and once per schema: the events carry this
/// transaction from now on, and so do the places behind which readers stand.
pub async fn follow_move(tx: &mut Tx<'_>) -> Result<()> {
    for table in ["consumer_cursor", "outbox_reader"] {
        let sql = AssertSqlSafe(format!(
            "UPDATE {table} SET last_xid = pg_current_xact_id()::text::bigint WHERE last_seq > 0"
        ));
        let moved = on!(tx, |executor| sqlx::query(sql).execute(executor).await.map(|_| ()));
        moved.during("move the places of readers")?;
    }
    Ok(())
}

/// The highest number that was given out.
pub(crate) async fn head(source: &Db) -> Result<i64> {
    let sql = "SELECT COALESCE(MAX(seq), 0) FROM outbox";
    on!(source, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).during("look for the last event")
}

/// Moves a cursor; false if it does not stand at `from`, because another process was faster.
pub(crate) async fn advance(
    tx: &mut Tx<'_>,
    consumer: &str,
    source: &str,
    from: Place,
    to: Place,
    now: Timestamp,
) -> Result<bool> {
    let sql = if from == Place::default() {
        "INSERT INTO consumer_cursor (consumer, source, last_xid, last_seq, moved_at) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (consumer, source) DO NOTHING"
    } else {
        "UPDATE consumer_cursor SET last_xid = $3, last_seq = $4, moved_at = $5 \
         WHERE consumer = $1 AND source = $2 AND last_xid = $6 AND last_seq = $7"
    };
    if let (true, Tx::Postgres(connection)) = (from == Place::default(), &mut *tx) {
        // Whoever takes events from the stream meanwhile finds no cursor that it could hold on to.
        let alone = "SELECT pg_advisory_xact_lock(hashtextextended('manifold.consumer.' || $1, 0))";
        let locked = sqlx::query(alone).bind(consumer).execute(&mut **connection).await;
        locked.during("begin the cursor of a consumer")?;
    }
    let moved = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(consumer).bind(source).bind(to.xid).bind(to.seq).bind(Micros::from(now));
        let query = if from == Place::default() { query } else { query.bind(from.xid).bind(from.seq) };
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(moved.during("move the cursor of a consumer")? == 1)
}

/// Writes into the source how far a consumer has read.
pub(crate) async fn report(tx: &mut Tx<'_>, consumer: &str, place: Place, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO outbox_reader (consumer, last_xid, last_seq, moved_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (consumer) DO UPDATE SET last_xid = excluded.last_xid, last_seq = excluded.last_seq, \
               moved_at = excluded.moved_at";
    let written = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(consumer).bind(place.xid).bind(place.seq).bind(Micros::from(now));
        query.execute(executor).await.map(|_| ())
    });
    written.during("tell how far events were read")
}

/// Writes down up to where events were deleted. Not counted among the readers, because it never moved.
pub(crate) async fn note_pruned(tx: &mut Tx<'_>, place: Place) -> Result<()> {
    let sql = "INSERT INTO outbox_reader (consumer, last_xid, last_seq, moved_at) VALUES ($1, $2, $3, 0) \
               ON CONFLICT (consumer) DO UPDATE SET last_xid = excluded.last_xid, last_seq = excluded.last_seq \
               WHERE (excluded.last_xid, excluded.last_seq) > (outbox_reader.last_xid, outbox_reader.last_seq)";
    let written = on!(tx, |executor| {
        sqlx::query(sql).bind(PRUNED).bind(place.xid).bind(place.seq).execute(executor).await.map(|_| ())
    });
    written.during("tell which events were deleted")
}

/// Up to where readers have told that they have read this outbox, and up to where it was pruned.
pub(crate) async fn readers(source: &Db) -> Result<HashMap<String, Place>> {
    let sql = "SELECT consumer, last_xid, last_seq FROM outbox_reader";
    let rows: Result<Vec<(String, i64, i64)>, _> = on!(source, |pool| sqlx::query_as(sql).fetch_all(pool).await);
    let rows = rows.during("read how far events were read")?;
    Ok(rows.into_iter().map(|(consumer, xid, seq)| (consumer, Place { xid, seq })).collect())
}

/// A reader will come: what it has not read is kept for it.
pub(crate) async fn expect(tx: &mut Tx<'_>, reader: &str, now: Timestamp) -> Result<()> {
    let sql = "INSERT INTO outbox_reader (consumer, last_xid, last_seq, moved_at) VALUES ($1, 0, 0, $2) \
               ON CONFLICT (consumer) DO UPDATE SET moved_at = excluded.moved_at";
    let written = on!(tx, |executor| {
        sqlx::query(sql).bind(reader).bind(Micros::from(now)).execute(executor).await.map(|_| ())
    });
    written.during("expect a reader of events")
}

/// The places up to which a consumer has read outboxes itself.
pub(crate) async fn places(db: &Db, consumer: &str) -> Result<Vec<Place>> {
    let sql = "SELECT last_xid AS xid, last_seq AS seq FROM consumer_cursor WHERE consumer = $1";
    on!(db, |pool| sqlx::query_as(sql).bind(consumer).fetch_all(pool).await).during("read the cursors of a consumer")
}

/// How far a consumer has read a source.
#[derive(Clone, Debug, FromRow)]
pub struct Cursor {
    /// The consumer.
    pub consumer: String,
    /// The service whose events it reads.
    pub source: String,
    last_xid: i64,
    /// Number of the last event that it has passed.
    pub last_seq: i64,
    /// Events that come to it again.
    pub n_waiting: i64,
}

/// The cursors of a service's consumers.
pub async fn cursors(db: &Db) -> Result<Vec<Cursor>> {
    let sql = "SELECT consumer, source, last_xid, last_seq, (SELECT COUNT(*) FROM consumer_retry \
               WHERE consumer_retry.consumer = consumer_cursor.consumer) AS n_waiting \
               FROM consumer_cursor ORDER BY consumer, source";
    on!(db, |pool| sqlx::query_as(sql).fetch_all(pool).await).during("read the cursors of consumers")
}

impl Cursor {
    pub(crate) fn place(&self) -> Place {
        Place { xid: self.last_xid, seq: self.last_seq }
    }

    /// How many events of the source it has not read.
    pub async fn behind(&self, source: &Db) -> Result<i64> {
        let sql = match source {
            Db::Sqlite(_) => "SELECT COUNT(*) FROM outbox WHERE $1 = 0 AND seq > $2",
            Db::Postgres(_) => "SELECT COUNT(*) FROM outbox WHERE (xid, seq) > ($1::bigint::text::xid8, $2)",
        };
        let n =
            on!(source, |pool| sqlx::query_scalar(sql).bind(self.last_xid).bind(self.last_seq).fetch_one(pool).await);
        n.during("count events")
    }
}
