//! Consumers: who reads which events, how often a failing one comes again, and what becomes of it then.
//! An event takes effect exactly once: its effects and the place up to which the consumer has read are one transaction.
//!
//! One batch follows the other in the order of the outbox or of the stream, so one process sees the events of a key in order,
//! and what fails is set aside at once, so no key keeps another one waiting. Through a stream a batch may be split into lanes
//! of different keys, which helps a handler that writes event by event (`benches/stream.rs`: 17,000/s instead of 12,000); one
//! that writes a batch at once gains nothing. Several processes may share a stream, and see a key in order as a rule only: who
//! needs more compares the versions of the aggregate.

mod delivery;
mod embedded;
mod halves;
mod jetstream;
mod lanes;
mod redeliver;
mod retry;

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, join, join_all};
use manifold_contract::events::v1::Event;
use manifold_core::{Clock, Code, Error, EventId, Ids, Result};
use manifold_store::{Db, Tx};
use uuid::Uuid;

use crate::failure::Failure;
use crate::jetstream::Broker;
use crate::place::Source;
use crate::subscription::Consumer;
use embedded::Reader;
use jetstream::Puller;
use redeliver::Redelivery;

/// What a consumer does with events: SQL on `tx` and nothing else. All of it is undone if it fails, and the events come
/// again, first in smaller parts, to find the one that failed. A type that the handler does not know is to be ignored.
pub trait Handler: Send + Sync + 'static {
    /// Takes events in their order.
    fn handle<'t>(&'t self, tx: &'t mut Tx<'_>, events: &'t [Event]) -> BoxFuture<'t, Result<(), Failure>>;
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
