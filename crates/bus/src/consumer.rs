//! Consumers: who reads which events, how often a failing one comes again, and what becomes of it then.
//! An event takes effect exactly once: its effects and the place up to which the consumer has read are one transaction.
//!
//! One batch follows the other in the order of the outbox or of the stream, so one process sees the events of a key in order,
//! and what fails is set aside at once, so no key keeps another one waiting. Nothing runs side by side for that: on SQLite and
//! behind a cursor one transaction follows the other anyway, and through a stream four at a time were slower than one, except
//! for handlers that write event by event, which gain three times as much by writing a batch at once (`benches/stream.rs`).
//! Several processes may share a stream, and see a key in order as a rule only: who needs more compares the versions of the
//! aggregate.

mod delivery;
mod embedded;
mod halves;
mod jetstream;
mod redeliver;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, join, join_all};
use manifold_contract::events::v1::Event;
use manifold_core::{Clock, Code, Error, EventId, Ids, Result};
use manifold_store::{Db, Tx};
use uuid::Uuid;

use crate::Broker;
use embedded::Reader;
use jetstream::Puller;
use redeliver::Redelivery;

/// First and longest pause before a failed event comes again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub struct Consumer {
    /// `<service>__<purpose>`, stable: the place up to which it has read is kept under this name.
    pub name: &'static str,
    /// What it reads.
    pub filter: Filter,
    /// How often an event comes before it is given up.
    pub max_deliver: i64,
    /// Events at a time, at most.
    pub batch: u32,
    /// How long events are gathered after the first one.
    pub linger: Duration,
    /// How long the stream waits for the outcome of an event before it brings it again. Not for those who read outboxes.
    pub ack_wait: Duration,
}

impl Consumer {
    /// 128 events at a time, soon after they happened, each up to ten times.
    pub fn new(name: &'static str, filter: Filter) -> Self {
        let (linger, ack_wait) = (Duration::from_millis(10), Duration::from_secs(30));
        Self { name, filter, max_deliver: 10, batch: 128, linger, ack_wait }
    }

    /// Larger batches that come later, for those who add up.
    #[must_use]
    pub fn gathering(self, batch: u32, linger: Duration) -> Self {
        Self { batch, linger, ..self }
    }
}

/// Which events a consumer reads.
#[derive(Clone, Copy, Debug)]
pub enum Filter {
    /// Every one.
    All,
    /// Those whose type begins with this domain.
    Domain(&'static str),
}

impl Filter {
    fn accepts(self, event_type: &str) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain) => event_type.split('.').next() == Some(domain),
        }
    }

    /// The subjects of these events, of whichever tenant.
    pub(crate) fn subject(self) -> String {
        match self {
            Self::All => "mf.evt.>".to_owned(),
            Self::Domain(domain) => format!("mf.evt.*.{domain}.>"),
        }
    }
}

/// What a consumer does with events: SQL on `tx` and nothing else. All of it is undone if it fails, and the events come
/// again, first in smaller parts, to find the one that failed. A type that the handler does not know is to be ignored.
pub trait Handler: Send + Sync + 'static {
    /// Takes events in their order.
    fn handle<'t>(&'t self, tx: &'t mut Tx<'_>, events: &'t [Event]) -> BoxFuture<'t, Result<(), Failure>>;
}

/// Why a handler does not take an event.
#[derive(Debug)]
pub enum Failure {
    /// It may do so later: after this long, or after a pause that grows.
    Retry {
        /// None = 1 s, 2 s, 4 s … 5 min.
        after: Option<Duration>,
        /// Why.
        source: Error,
    },
    /// It never will.
    Dead {
        /// Upper snake case.
        reason: &'static str,
        /// Why.
        source: Error,
    },
}

impl From<Error> for Failure {
    fn from(source: Error) -> Self {
        Self::Retry { after: None, source }
    }
}

impl Failure {
    pub(crate) fn error(&self) -> &Error {
        match self {
            Self::Retry { source, .. } | Self::Dead { source, .. } => source,
        }
    }

    fn into_error(self) -> Error {
        match self {
            Self::Retry { source, .. } | Self::Dead { source, .. } => source,
        }
    }
}

/// An outbox that can be read.
#[derive(Clone, Debug)]
pub struct Source {
    /// The service whose events these are.
    pub name: &'static str,
    /// Its database.
    pub db: Db,
}

/// How events come from the outboxes of services to the consumers of others. It may be another way after the next start:
/// nothing is lost or repeated by that.
#[derive(Clone, Debug)]
pub enum Bus {
    /// Consumers read these outboxes, which are in this process or on this Postgres server.
    Embedded(Vec<Source>),
    /// Through a stream of NATS JetStream, into which [`relay`](crate::relay) brings them. Needs Postgres.
    JetStream(Broker),
}

/// Lets `handler` consume events until it is dropped, which harms nothing. What it has seen is kept in `db`, where its
/// effects are.
pub async fn consume(consumer: Consumer, bus: Bus, db: Db, clock: Clock, handler: impl Handler) {
    let ids = Ids::new(clock.clone());
    let shared = Arc::new(Shared { consumer, db, clock, ids, handler: Arc::new(handler) });
    let again = Redelivery(Arc::clone(&shared)).run();
    match bus {
        Bus::Embedded(sources) => {
            let readers = sources.into_iter().map(|source| Reader::new(Arc::clone(&shared), source).run());
            join(join_all(readers), again).await;
        }
        Bus::JetStream(broker) => {
            join(Puller::new(shared, broker).run(), again).await;
        }
    }
}

/// The id of an event; nil if it has none.
fn event_id(event: &Event) -> Uuid {
    EventId::parse(&event.id).map_or(Uuid::nil(), |id| id.0)
}

/// The events that are not among the known ones.
fn without<'e>(events: &'e [Event], known: &HashSet<Uuid>) -> Cow<'e, [Event]> {
    if known.is_empty() {
        return Cow::Borrowed(events);
    }
    events.iter().filter(|event| !known.contains(&event_id(event))).cloned().collect()
}

/// What the tasks of a consumer have in common.
pub(crate) struct Shared {
    pub(crate) consumer: Consumer,
    db: Db,
    pub(crate) clock: Clock,
    pub(crate) ids: Ids,
    handler: Arc<dyn Handler>,
}

/// An event as it is stored: its bytes are kept, because decoding drops what a newer version added.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) id: Uuid,
    pub(crate) payload: Bytes,
}

/// Why a transaction of a consumer did not happen.
enum Stumble {
    /// Another process was faster.
    Overtaken,
    /// Something that all events need is away, most likely the database.
    Away(Error),
    /// The handler did not take the events.
    Refused(Failure),
}

/// Carries the handler's word out of a transaction, which ends with the handler's error.
#[derive(Default)]
struct Verdict(Mutex<Option<Word>>);

/// What a handler says beside its error.
enum Word {
    Retry(Option<Duration>),
    Dead(&'static str),
}

impl Verdict {
    /// The error that ends the transaction.
    fn note(&self, failure: Failure) -> Error {
        let (word, source) = match failure {
            Failure::Retry { after, source } => (Word::Retry(after), source),
            Failure::Dead { reason, source } => (Word::Dead(reason), source),
        };
        *self.word() = Some(word);
        source
    }

    /// Why the transaction failed with `error`.
    fn stumble(&self, error: Error) -> Stumble {
        match self.word().take() {
            Some(Word::Dead(reason)) => Stumble::Refused(Failure::Dead { reason, source: error }),
            _ if error.code() == Code::Unavailable => Stumble::Away(error),
            Some(Word::Retry(after)) => Stumble::Refused(Failure::Retry { after, source: error }),
            None => Stumble::Refused(error.into()),
        }
    }

    fn word(&self) -> MutexGuard<'_, Option<Word>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an event or a job waits that has come `n` times: 1 s, 2 s, 4 s … 5 min, a fifth more or less, told by its id, so that
/// what failed together does not come together.
pub(crate) fn pause(n: i64, event: Uuid) -> Duration {
    let doublings = u32::try_from(n - 1).unwrap_or(0);
    let pause = BACKOFF.0.saturating_mul(2u32.saturating_pow(doublings)).min(BACKOFF.1);
    let share = (event.as_u128() as u32 ^ doublings) % 401;
    pause * (800 + share) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let pauses = [1, 2, 3, 9, 10, 40].map(|n| pause(n, Uuid::from_u128(200 ^ (n as u128 - 1))).as_millis());

        assert_eq!(pauses, [1_000, 2_000, 4_000, 256_000, 300_000, 300_000]);
    }

    #[test]
    fn pauses_differ_by_a_fifth_at_most() {
        for event in (0..1_000).map(Uuid::from_u128) {
            assert!((800..=1_200).contains(&pause(1, event).as_millis()));
        }
    }

    #[test]
    fn a_domain_is_the_first_token_of_a_type() {
        assert!(Filter::Domain("ai").accepts("ai.request.completed"));
        assert!(!Filter::Domain("ai").accepts("aix.request.completed"));
        assert!(Filter::All.accepts("identity.key.created"));
    }
}
