//! Brings the events of an outbox into the stream. An event is marked once the stream has it; one that is sent twice,
//! because nobody knows whether it arrived, is known again by its id: by the stream for some minutes, by the inboxes for
//! days.

mod look;
mod repair;
mod store;

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::Stream;
use futures::FutureExt;
use futures::future::join_all;
use manifold_core::{Clock, Error, EventId, Ids, Result};
use manifold_store::{Db, Engine, Tx};
use sqlx::PgPool;
use tokio::time::{Instant, sleep, timeout};
use tracing::{error, info, warn};

use crate::dead::{self, DeadLetter, Kind};
use crate::inbox::Origin;
use crate::jetstream::{Broker, IN_FLIGHT, PLACE, STREAM, away, message_id};
use crate::place::{Place, Source, Stored};
use store::Unpublished;

pub(crate) use look::{durables, gone_unread, whole_up_to};
pub(crate) use store::was_published;

/// Behind every wake-up: other processes write, too.
const POLL: Duration = Duration::from_millis(250);
/// Events per round.
const BATCH: usize = IN_FLIGHT;
/// How often is looked whether the stream is what it was.
const INSPECT: Duration = Duration::from_secs(30);
/// How often another process asks whether it may relay.
const STANDBY: Duration = Duration::from_secs(1);
/// Before another try, while the broker or the database is away.
const AGAIN: Duration = Duration::from_millis(500);
/// What goes wrong after so long is told again.
const CALM: Duration = Duration::from_secs(10);
/// Under this name the outbox is told how far its events are done.
pub(crate) const READER: &str = "relay";

/// Relays the events of `source` until it is dropped, which harms nothing. Of several processes one relays and the others
/// wait for its end. Needs Postgres.
pub async fn relay(broker: Broker, source: Source, clock: Clock) {
    let Engine::Postgres(pool) = source.db.engine() else {
        error!(service = source.name, "events are relayed from Postgres only");
        return;
    };
    let ids = Ids::new(clock.clone());
    let (pool, publisher) = (pool.clone(), broker.publisher());
    let mut relay = Relay { broker, publisher, pool, source, clock, ids, watched_at: None };
    let mut failing = false;
    loop {
        let begun = Instant::now();
        relay.watch().await;
        if let Err(error) = relay.lead().await {
            failing &= begun.elapsed() < CALM;
            relay.complain(&error, &mut failing);
            sleep(AGAIN).await;
        }
    }
}

struct Relay {
    broker: Broker,
    publisher: Context,
    pool: PgPool,
    source: Source,
    clock: Clock,
    ids: Ids,
    watched_at: Option<Instant>,
}

/// What was known of readers at an earlier time.
#[derive(Clone, Copy)]
enum Before {
    /// They had read the stream up to this number.
    Floor(i64),
    /// They had read the outbox up to this place.
    Reported(Place),
}

/// A stream as it was found whole.
struct Leading {
    stream: Stream,
    /// When it was made, in microseconds. Another one of the same name has another epoch.
    epoch: i64,
    /// The highest number that it has given to an event of this outbox.
    highest: i64,
    /// The number up to which all consumers have read it.
    floor: i64,
}

impl Relay {
    /// Relays as long as nothing goes wrong, if no other process does.
    async fn lead(&mut self) -> Result<()> {
        if !self.broker.is_connected() {
            return Err(away("there is no connection to NATS"));
        }
        let connection =
            self.pool.acquire().await.map_err(|source| away("no connection for the relay").because(source));
        // Of its own, because the lock ends with it.
        let mut lock = connection?.detach();
        if !store::lead(&mut lock).await? {
            sleep(STANDBY).await;
            return Ok(());
        }
        let mut next_connection = Box::pin(self.broker.next_connection().fuse());
        let mut done = store::reported(&self.pool, READER).await?;
        let mut leading = self.inspect(&mut lock, Before::Reported(done)).await?;
        info!(service = self.source.name, "relaying events");
        let (mut inspected_at, mut failing, rows) = (self.clock.now(), false, self.source.db.rows().clone());
        loop {
            let next_commit = rows.next_commit();
            let batch = store::unpublished(&self.pool, BATCH).await?;
            let mut suspicious = next_connection.as_mut().now_or_never().is_some();
            if batch.is_empty() {
                let _ = timeout(POLL, next_commit).await;
            } else {
                let outcome = tokio::select! {
                    outcome = self.publish(&leading, &batch) => outcome,
                    () = &mut next_connection => Err(away("the connection was lost")),
                };
                suspicious |= outcome.is_err();
                match outcome {
                    Ok(highest) => (leading.highest, failing) = (highest, false),
                    Err(error) => {
                        self.complain(&error, &mut failing);
                        sleep(POLL).await;
                    }
                }
            }
            if suspicious || self.clock.now() >= inspected_at.after(INSPECT) {
                inspected_at = self.clock.now();
                next_connection = Box::pin(self.broker.next_connection().fuse());
                store::still_leads(&mut lock).await?;
                leading = self.inspect(&mut lock, Before::Floor(leading.floor)).await?;
                done = self.report(&leading, done).await?;
                self.watch().await;
            }
        }
    }

    fn complain(&self, error: &Error, failing: &mut bool) {
        metrics::counter!("manifold_relay_errors_total", "code" => error.reason().to_owned()).increment(1);
        if !std::mem::replace(failing, true) {
            warn!(service = self.source.name, error = error.chain(), "events are not relayed, trying again");
        }
    }

    /// Publishes events in their order and marks those that arrived. The highest number that the stream gave.
    async fn publish(&self, leading: &Leading, batch: &[Unpublished]) -> Result<i64> {
        let (mut sent, mut stopped) = (Vec::with_capacity(batch.len()), None);
        for event in batch {
            let message = PublishMessage::build()
                .payload(event.payload.clone())
                .message_id(message_id(event.event, event.n_removed));
            let origin = Origin { source: self.source.name.to_owned(), place: event.place };
            let message = message.expected_stream(STREAM).header(PLACE, origin.to_string().as_str());
            match self.publisher.send_publish(event.subject.clone(), message).await {
                Ok(acknowledged) => sent.push(async move { (event, acknowledged.await) }),
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    self.give_up(event, error).await?;
                }
                Err(error) => {
                    stopped = Some(error);
                    break;
                }
            }
        }
        let (mut seqs, mut numbers) = (Vec::with_capacity(sent.len()), Vec::with_capacity(sent.len()));
        for (event, outcome) in join_all(sent).await {
            match outcome {
                Ok(ack) if went_back(&ack, leading) => return Err(Error::internal("the stream went back in time")),
                Ok(ack) => {
                    seqs.push(event.place.seq);
                    numbers.push(i64::try_from(ack.sequence).unwrap_or(i64::MAX));
                }
                Err(error) => stopped = Some(error),
            }
        }
        store::mark(&self.pool, self.clock.now(), leading.epoch, &seqs, &numbers).await?;
        let highest = numbers.into_iter().fold(leading.highest, i64::max);
        stopped.map_or(Ok(highest), |error| Err(away("the stream does not take events").because(error)))
    }

    /// An event that the broker never takes keeps no other waiting.
    async fn give_up(&self, event: &Unpublished, cause: PublishError) -> Result<()> {
        let stored = Stored { id: event.event, payload: event.payload.clone() };
        let cause =
            Error::internal("the message is larger than the NATS server takes: raise its max_payload").because(cause);
        error!(event = %EventId(event.event), error = cause.chain(), "an event is given up: see `manifold bus dead-letters`");
        let letter = DeadLetter::unpublished(&self.ids, &self.clock, &stored, "TOO_LARGE", &cause);
        metrics::counter!("manifold_dead_letters_total", "kind" => Kind::Bus.name()).increment(1);
        let work = Arc::new((letter, self.clock.now(), event.place.seq));
        let buried = self.source.db.write("give an event up", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (letter, now, seq) = &*work;
                dead::bury(tx, letter).await?;
                let Tx::Postgres(connection) = tx else { return Ok(()) };
                store::give_up(connection, *now, *seq).await
            })
        });
        buried.await
    }

    /// Tells the outbox how far its events are done, so that it may forget them.
    async fn report(&self, leading: &Leading, done: Place) -> Result<Place> {
        let (place, now) = (store::done(&self.pool, done, leading.floor).await?, self.clock.now());
        let told = self.source.db.write("tell how far events are done", move |tx| {
            Box::pin(async move { crate::store::report(tx, READER, place, now).await })
        });
        told.await.map(|()| place)
    }

    /// Now and then says how much waits, and keeps the outbox from forgetting it while the stream is away.
    async fn watch(&mut self) {
        if self.watched_at.is_some_and(|at| at.elapsed() < INSPECT) {
            return;
        }
        let now = self.clock.now();
        if expect_relay(&self.source.db, &self.clock).await.is_err() {
            return;
        }
        self.watched_at = Some(Instant::now());
        let Ok(depth) = store::depth(&self.pool).await else { return };
        let since = depth.oldest.map_or(0, |oldest| now.micros().saturating_sub(oldest));
        let service = self.source.name;
        metrics::gauge!("manifold_outbox_depth", "service" => service).set(depth.n as f64);
        metrics::gauge!("manifold_outbox_oldest_seconds", "service" => service).set(since as f64 / 1e6);
    }
}

/// Keeps the events of this outbox for a relay, however long it takes to come: nothing that was not published is pruned in
/// the next 7 days.
pub async fn expect_relay(db: &Db, clock: &Clock) -> Result<()> {
    let now = clock.now();
    let expected =
        db.write("expect a relay", move |tx| Box::pin(async move { crate::store::expect(tx, READER, now).await }));
    expected.await
}

/// Whether a new event got a number that another one had.
fn went_back(ack: &PublishAck, leading: &Leading) -> bool {
    !ack.duplicate && i64::try_from(ack.sequence).is_ok_and(|number| number <= leading.highest)
}
