//! The outbox: events written in the transaction of the state they report, until everybody has read them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use manifold_contract::events::v1::Event;
use manifold_core::{Clock, Error, EventId, Ids, Result, TenantId, Timestamp};
use manifold_store::{Db, Row, SqlResultExt, Tx, Values, on};
use prost::Message;
use sqlx::AssertSqlSafe;
use tracing::error;
use uuid::Uuid;

use crate::chain::{Chain, HOP_LIMIT};
use crate::dead::{self, DeadLetter, Kind, prune_dead_letters};
use crate::event::{Cause, Draft, Stamp, encode};
use crate::job::Jobs;
use crate::once::prune_answers;
use crate::place::{Place, Stored};
use crate::store;
use crate::subject::subject;

/// How long events stay.
const RETAIN: Duration = Duration::from_secs(24 * 60 * 60);
/// How long events wait for a consumer that has not read them, and consumers that do not come any more are waited for.
const RETAIN_MAX: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Rows per command.
const BATCH: i64 = 1_000;

/// Writes the events of one service.
#[derive(Clone, Debug)]
pub struct Outbox {
    /// `manifold/<service>`.
    source: Arc<str>,
    clock: Clock,
    ids: Ids,
}

/// An event as the table holds it.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    event_id: Uuid,
    tenant_id: Uuid,
    event_type: Cow<'static, str>,
    subject: String,
    payload: Vec<u8>,
    created_at: Timestamp,
}

impl Outbox {
    /// The outbox of `service`.
    pub fn new(service: &'static str, clock: Clock, ids: Ids) -> Self {
        Self { source: format!("manifold/{service}").into(), clock, ids }
    }

    /// An event as a row, to be pushed in one group with the rows that it reports, after them. `HOP_LIMIT` behind a chain of
    /// more than 8 events.
    pub fn row(&self, draft: Draft, cause: &Cause<'_>) -> Result<OutboxRow> {
        let chain = cause.chain();
        chain.check()?;
        self.encode(draft, chain)
    }

    fn encode(&self, draft: Draft, chain: Chain) -> Result<OutboxRow> {
        let tenant = String::from(draft.tenant);
        let subject = subject(&tenant, draft.type_)?;
        let source = String::from(&*self.source);
        let stamp = Stamp { id: EventId(self.ids.next()), source, tenant, time: self.clock.now() };
        let (event_id, tenant_id, event_type, created_at) =
            (stamp.id.0, draft.tenant.0, draft.type_.into(), stamp.time);
        let payload = encode(stamp, draft, chain)?;
        Ok(OutboxRow { event_id, tenant_id, event_type, subject, payload, created_at })
    }

    /// Writes events in the caller's transaction, as its last statements: then the order of events is that of commits.
    /// An event that is refused leaves the transaction usable. One behind a chain of more than 8 events, which is most likely
    /// a loop, becomes a dead letter instead, and the transaction goes on.
    pub async fn append(&self, tx: &mut Tx<'_>, drafts: &[Draft], cause: &Cause<'_>) -> Result<()> {
        let chain = cause.chain();
        let rows = drafts.iter().map(|draft| self.encode(draft.clone(), chain.clone())).collect::<Result<Vec<_>>>()?;
        let looping = chain.check().err();
        for row in rows {
            match &looping {
                None => insert(tx, &row).await?,
                Some(error) => self.give_up(tx, row, error).await?,
            }
        }
        Ok(())
    }

    async fn give_up(&self, tx: &mut Tx<'_>, row: OutboxRow, cause: &Error) -> Result<()> {
        let stored = Stored { id: row.event_id, payload: row.payload.into() };
        error!(event = %EventId(stored.id), error = cause.chain(), "an event is given up: see `manifold bus dead-letters`");
        metrics::counter!("manifold_dead_letters_total", "kind" => Kind::Bus.name()).increment(1);
        dead::bury(tx, &DeadLetter::unpublished(&self.ids, &self.clock, &stored, HOP_LIMIT, cause)).await
    }

    /// Deletes what is old of all that the bus keeps in a service's database: events, dead letters, jobs that came to an end,
    /// and answers that were kept for idempotency keys.
    pub async fn tidy(&self, db: &Db) -> Result<()> {
        self.prune(db).await?;
        prune_dead_letters(db, &self.clock).await?;
        prune_answers(db, &self.clock).await?;
        Jobs::new(db.clone(), self.clock.clone()).prune().await.map(|_| ())
    }

    /// Deletes events older than 24 hours that every consumer has read, and all older than 7 days; counts them.
    pub async fn prune(&self, db: &Db) -> Result<u64> {
        let now = self.clock.now();
        let mut total = 0;
        loop {
            let batch = db.write("prune events", move |tx| Box::pin(async move { prune(tx, now).await })).await?;
            total += batch;
            if batch < BATCH.unsigned_abs() {
                return Ok(total);
            }
        }
    }
}

/// What waits for a relay that was there in the last 7 days is never deleted. Looks at the oldest numbers only, so no index
/// on the time is needed.
async fn prune(tx: &mut Tx<'_>, now: Timestamp) -> Result<u64> {
    let unread = match tx {
        Tx::Sqlite(_) => "seq > last_seq",
        // A place that this server has not come to yet is one of another server.
        Tx::Postgres(_) => {
            "((xid, seq) > (last_xid::text::xid8, last_seq) \
             OR last_xid::text::xid8 >= pg_snapshot_xmax(pg_current_snapshot()))"
        }
    };
    let waiting = match tx {
        Tx::Sqlite(_) => "FALSE",
        Tx::Postgres(_) => {
            "published_at IS NULL AND EXISTS (SELECT 1 FROM outbox_reader WHERE consumer = 'relay' AND moved_at >= $2)"
        }
    };
    let xid = match tx {
        Tx::Sqlite(_) => "0",
        Tx::Postgres(_) => "xid::text::bigint",
    };
    let sql = format!(
        "DELETE FROM outbox WHERE seq IN (SELECT seq FROM outbox ORDER BY seq LIMIT $1) AND NOT ({waiting}) AND (created_at < $2 OR \
         (created_at < $3 AND NOT EXISTS (SELECT 1 FROM outbox_reader WHERE moved_at >= $2 AND {unread}))) \
         RETURNING {xid} AS xid, seq"
    );
    let (retain, retain_max) = (now.before(RETAIN).micros(), now.before(RETAIN_MAX).micros());
    let deleted: Result<Vec<Place>, _> = on!(tx, |executor| {
        sqlx::query_as(AssertSqlSafe(sql)).bind(BATCH).bind(retain_max).bind(retain).fetch_all(executor).await
    });
    let deleted = deleted.during("delete old events")?;
    if let Some(last) = deleted.iter().max() {
        store::note_pruned(tx, *last).await?;
    }
    Ok(deleted.len() as u64)
}

/// Lets an event through that was given up, although it stands behind a long chain. What it causes is given up again.
pub(crate) async fn let_through(tx: &mut Tx<'_>, payload: Vec<u8>, now: Timestamp) -> Result<()> {
    let unreadable = || Error::internal("the bytes of this dead letter are no event");
    let event = Event::decode(&*payload).map_err(|error| unreadable().because(error))?;
    let (event_id, tenant_id) = (EventId::parse(&event.id), TenantId::parse(&event.tenant_id));
    let row = OutboxRow {
        event_id: event_id.ok_or_else(unreadable)?.0,
        tenant_id: tenant_id.ok_or_else(unreadable)?.0,
        subject: subject(&event.tenant_id, &event.r#type)?,
        event_type: event.r#type.into(),
        payload,
        created_at: now,
    };
    insert(tx, &row).await
}

async fn insert(tx: &mut Tx<'_>, row: &OutboxRow) -> Result<()> {
    let inserted = on!(tx, |executor| {
        sqlx::query(
        "INSERT INTO outbox (event_id, tenant_id, type, subject, payload, created_at) VALUES ($1, $2, $3, $4, $5, $6)"
    )
    .bind(row.event_id)
    .bind(row.tenant_id)
    .bind(&*row.event_type)
    .bind(&row.subject)
    .bind(&row.payload)
    .bind(row.created_at.micros())
    .execute(executor)
    .await
    .map(|_| ())
    });
    inserted.during("write an event")
}

impl Row for OutboxRow {
    const TABLE: &'static str = "outbox";
    const COLUMNS: &'static [&'static str] = &["event_id", "tenant_id", "type", "subject", "payload", "created_at"];

    fn bind(&self, values: &mut Values<'_>) {
        values.uuid(self.event_id);
        values.uuid(self.tenant_id);
        values.text(&self.event_type);
        values.text(&self.subject);
        values.bytes(&self.payload);
        values.time(self.created_at);
    }
}
