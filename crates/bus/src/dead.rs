//! Dead letters: what was given up, kept for people to look at and to send again.

mod sql;

use std::time::Duration;

use manifold_contract::events::v1::Event;
use manifold_core::{Clock, Error, EventId, Ids, Result, Timestamp};
use manifold_store::Db;
use prost::Message;
use uuid::Uuid;

use crate::place::Stored;

pub(crate) use sql::{bury, forget};

/// How long dead letters stay.
const RETAIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Longest text of an error.
const MAX_ERROR: usize = 2_000;

/// What was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A consumer did not take an event.
    Delivery,
    /// An event cannot be read.
    Decode,
    /// An event cannot be brought into the stream.
    Bus,
    /// A job failed for good.
    Job,
}

impl Kind {
    /// As in the table and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Delivery => "delivery",
            Self::Decode => "decode",
            Self::Bus => "bus",
            Self::Job => "job",
        }
    }
}

/// A dead letter to write.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter {
    pub(crate) id: Uuid,
    pub(crate) kind: Kind,
    pub(crate) reference: String,
    pub(crate) consumer: &'static str,
    pub(crate) tenant: String,
    pub(crate) reason: &'static str,
    pub(crate) payload: bytes::Bytes,
    pub(crate) error: String,
    pub(crate) at: Timestamp,
}

impl DeadLetter {
    /// Of an event that no consumer will see.
    pub(crate) fn unpublished(ids: &Ids, clock: &Clock, stored: &Stored, reason: &'static str, error: &Error) -> Self {
        Self::new(ids, clock, stored, Kind::Bus, reason, error)
    }

    /// Of an event.
    pub(crate) fn new(
        ids: &Ids,
        clock: &Clock,
        stored: &Stored,
        kind: Kind,
        reason: &'static str,
        error: &Error,
    ) -> Self {
        // Of bytes that are no event, nobody knows whose they are.
        let tenant =
            Event::decode(stored.payload.clone()).map(|event| event.tenant_id.replace('\0', "")).unwrap_or_default();
        let (id, reference, payload) = (ids.next(), EventId(stored.id).into(), stored.payload.clone());
        Self { id, kind, reference, consumer: "", tenant, reason, payload, error: told(error), at: clock.now() }
    }
}

/// An error as a row holds it.
pub(crate) fn told(error: &Error) -> String {
    // Postgres takes no NUL in a text.
    let mut text = error.chain().replace('\0', "");
    text.truncate(text.floor_char_boundary(MAX_ERROR));
    text
}

/// A dead letter as people see it, as long as it was not sent again.
#[derive(Clone, Debug)]
pub struct Buried {
    /// Its own id.
    pub id: Uuid,
    /// `delivery`, `decode`, `bus` or `job`.
    pub kind: String,
    /// The event, `evt_…`, or the job, `job_…`.
    pub reference: String,
    /// Which consumer gave up; the kind of a job; empty if the event did not come into the stream.
    pub consumer: String,
    /// Whose it is, `ten_…`; empty if nobody knows.
    pub tenant: String,
    /// Upper snake case.
    pub reason: String,
    /// The last error.
    pub error: String,
    /// When it was given up first.
    pub first_at: Timestamp,
    /// When it was given up last.
    pub last_at: Timestamp,
    /// How often it was given up.
    pub count: i64,
}

/// Which dead letters.
#[derive(Clone, Debug, Default)]
pub struct Which {
    /// Only this one.
    pub id: Option<Uuid>,
    /// Only of this consumer, or of jobs of this kind.
    pub consumer: Option<String>,
    /// At most so many, oldest first.
    pub limit: i64,
}

/// Dead letters that were not sent again, oldest first.
pub async fn dead_letters(db: &Db, which: &Which) -> Result<Vec<Buried>> {
    sql::dead_letters(db, which).await
}

/// Deletes dead letters of more than 30 days ago, sent again or not, and counts them.
pub async fn prune_dead_letters(db: &Db, clock: &Clock) -> Result<u64> {
    manifold_store::prune(db, "dead_letter", "id", "last_at", clock.now().before(RETAIN)).await
}
