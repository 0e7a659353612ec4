//! The outbox: events written in the transaction of the state they report. All SQL of the crate.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Clock, EventId, Ids, Result, Timestamp};
use manifold_store::{Db, Row, SqlResultExt, Tx, Values, on};
use uuid::Uuid;

use crate::event::{Cause, Draft, Stamp, encode};
use crate::subject::subject;

/// How long events stay.
const RETAIN: Duration = Duration::from_secs(24 * 60 * 60);

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
    event_type: &'static str,
    subject: String,
    payload: Vec<u8>,
    created_at: Timestamp,
}

impl Outbox {
    /// The outbox of `service`.
    pub fn new(service: &'static str, clock: Clock, ids: Ids) -> Self {
        Self { source: format!("manifold/{service}").into(), clock, ids }
    }

    /// An event as a row, to be pushed in one group with the rows that it reports, after them.
    pub fn row(&self, draft: Draft, cause: &Cause<'_>) -> Result<OutboxRow> {
        let tenant = String::from(draft.tenant);
        let subject = subject(&tenant, draft.type_)?;
        let source = String::from(&*self.source);
        let stamp = Stamp { id: EventId(self.ids.next()), source, tenant, time: self.clock.now() };
        let (event_id, tenant_id, event_type, created_at) = (stamp.id.0, draft.tenant.0, draft.type_, stamp.time);
        let payload = encode(stamp, draft, cause)?;
        Ok(OutboxRow { event_id, tenant_id, event_type, subject, payload, created_at })
    }

    /// Writes events in the caller's transaction, as its last statements: then the order of events is that of commits.
    /// An event that is refused leaves the transaction usable.
    pub async fn append(&self, tx: &mut Tx<'_>, drafts: &[Draft], cause: &Cause<'_>) -> Result<()> {
        let rows = drafts.iter().map(|draft| self.row(draft.clone(), cause)).collect::<Result<Vec<_>>>()?;
        for row in rows {
            insert(tx, &row).await?;
        }
        Ok(())
    }

    /// Deletes events older than 24 hours and counts them.
    pub async fn prune(&self, db: &Db) -> Result<u64> {
        manifold_store::prune(db, OutboxRow::TABLE, "seq", "created_at", self.clock.now().before(RETAIN)).await
    }
}

async fn insert(tx: &mut Tx<'_>, row: &OutboxRow) -> Result<()> {
    let inserted = on!(tx, |executor| {
        sqlx::query(
        "INSERT INTO outbox (event_id, tenant_id, type, subject, payload, created_at) VALUES ($1, $2, $3, $4, $5, $6)"
    )
    .bind(row.event_id)
    .bind(row.tenant_id)
    .bind(row.event_type)
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
        values.text(self.event_type);
        values.text(&self.subject);
        values.bytes(&self.payload);
        values.time(self.created_at);
    }
}
