//! Takes events from the stream. They may come again, after a crash or because the stream forgot; the inbox, which is
//! written in the transaction of the effects, knows those that have been here.

use std::collections::HashSet;
use std::ops::Range;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::pull::Stream as Messages;
use async_nats::jetstream::message::Message;
use futures::future::join_all;
use futures::{FutureExt, StreamExt};
use manifold_contract::events::v1::Event;
use manifold_core::{Error, Result};
use tokio::time::{Instant, sleep};
use tracing::warn;
use uuid::Uuid;

use super::delivery::{Fate, read};
use super::halves::{Halves, in_halves};
use super::lanes::Lanes;
use super::{Shared, Stumble, Verdict, event_id, retry, without};
use crate::dead::Kind;
use crate::failure::Failure;
use crate::inbox::{self, Entry};
use crate::jetstream::{Broker, PLACE, away, event_of};
use crate::place::Stored;
use crate::store;

/// Before another try, while the broker or the database is away.
const AGAIN: Duration = Duration::from_secs(1);
/// An event that came so often without an outcome may stop whoever handles it: it goes on by itself, where its tries are
/// counted.
const SUSPICIOUS: i64 = 3;
/// How often old events are forgotten.
const FORGET: Duration = Duration::from_secs(600);
/// The server says so often that it is there, and a request for messages lasts so long.
const HEARTBEAT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(30));

pub(super) struct Puller {
    shared: Arc<Shared>,
    broker: Broker,
    forgot_at: Option<Instant>,
}

/// Events in the hands of the handler, and how each of them came.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    came: Vec<(Stored, Entry)>,
}

impl Puller {
    pub(super) fn new(shared: Arc<Shared>, broker: Broker) -> Self {
        Self { shared, broker, forgot_at: None }
    }

    pub(super) async fn run(mut self) {
        let mut failing = false;
        loop {
            if let Err(error) = self.take_all(&mut failing).await {
                let consumer = self.shared.consumer.name;
                if !std::mem::replace(&mut failing, true) {
                    warn!(consumer, error = error.chain(), "cannot take events from the stream, trying again");
                }
                sleep(AGAIN).await;
            }
        }
    }

    /// Takes events until there is another connection, or something goes wrong.
    async fn take_all(&mut self, failing: &mut bool) -> Result<()> {
        for place in store::places(&self.shared.db, self.shared.consumer.name).await? {
            store::check(&self.shared.db, place).await?;
        }
        let batch = self.shared.consumer.batch as usize;
        let durable = self.broker.durable(&self.shared.consumer).await?;
        let (heartbeat, lasts) = HEARTBEAT;
        let requests = durable.stream().max_messages_per_batch(2 * batch).heartbeat(heartbeat).expires(lasts);
        let messages =
            requests.messages().await.map_err(|error| away("the stream gives no messages").because(error))?;
        let (mut messages, mut next_connection) = (pin!(messages), pin!(self.broker.next_connection()));
        loop {
            let came = tokio::select! {
                came = self.gather(&mut messages) => came?,
                // The server does not know any more what it was asked for.
                () = &mut next_connection => return Ok(()),
            };
            *failing = false;
            let outcome = self.deliver(&came).await;
            // The broker may be away: then they come again, and the inbox knows them.
            match &outcome {
                Ok(()) => drop(join_all(came.iter().map(Message::double_ack)).await),
                Err(_) => drop(join_all(came.iter().map(|message| message.ack_with(AckKind::Nak(Some(AGAIN))))).await),
            }
            match outcome {
                Ok(()) | Err(Stumble::Overtaken) => self.forget().await,
                Err(Stumble::Away(error)) => return Err(error),
                Err(Stumble::Refused(failure)) => return Err(failure.into_error()),
            }
            if let Some(Ok(info)) = came.last().map(Message::info) {
                let consumer = self.shared.consumer.name;
                metrics::gauge!("manifold_consumer_lag", "consumer" => consumer).set(info.pending as f64);
            }
        }
    }

    /// The next message, and those that come soon after it.
    async fn gather(&self, messages: &mut Messages) -> Result<Vec<Message>> {
        let ended = || away("the stream of messages ended");
        let taken = |message: Option<std::result::Result<Message, _>>| match message {
            Some(Ok(message)) => Ok(message),
            Some(Err(error)) => Err(ended().because(error)),
            None => Err(ended()),
        };
        let first = taken(messages.next().await)?;
        let mut came = vec![first];
        let mut late = pin!(sleep(self.shared.consumer.linger).fuse());
        while came.len() < self.shared.consumer.batch as usize {
            let next = tokio::select! {
                biased;
                next = messages.next() => next,
                () = &mut late => break,
            };
            match taken(next) {
                Ok(message) => came.push(message),
                // What came is good.
                Err(_) => break,
            }
        }
        Ok(came)
    }

    /// Everything that came takes effect, waits, or is given up.
    async fn deliver(&self, came: &[Message]) -> Result<(), Stumble> {
        let (mut suspects, mut ids) = (Vec::new(), HashSet::new());
        let mut lanes = Lanes::new(self.shared.consumer.lanes);
        for message in came {
            let info = message.info().map_err(|error| Stumble::Away(away("no message of a stream").because(error)))?;
            let (id, entry) = entry(message.headers.as_ref(), info.stream_sequence);
            let stored = Stored { id: entry.id, payload: message.payload.clone() };
            let mut event = Event::default();
            let readable = read(&mut event, &stored.payload).and_then(|()| match id {
                Some(id) if id == event_id(&event) => Ok(()),
                _ => Err(stranger()),
            });
            match readable {
                Err(failure) => self.set_aside(&stored, entry, Kind::Decode, &failure).await?,
                Ok(()) if info.delivered >= SUSPICIOUS => suspects.push((stored, entry)),
                // Twice in one batch is once.
                Ok(()) if !ids.insert(entry.id) => {}
                Ok(()) => {
                    let batch: &mut Batch = lanes.of(&event);
                    batch.events.push(event);
                    batch.came.push((stored, entry));
                }
            }
        }
        if !suspects.is_empty() {
            self.isolate(suspects).await?;
        }
        let taken = lanes.all().map(|batch| async move {
            in_halves(batch.events.len(), &mut Taking { puller: self, batch: &Arc::new(batch) }).await
        });
        join_all(taken).await.into_iter().collect()
    }

    /// One transaction: the effects of a part, and that they were here.
    async fn attempt(&self, batch: &Arc<Batch>, part: Range<usize>) -> Result<(), Stumble> {
        let verdict = Arc::new(Verdict::default());
        let work = Arc::new((Arc::clone(&self.shared), Arc::clone(batch), part, Arc::clone(&verdict)));
        let taken = self.shared.db.write("consume events", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (shared, batch, part, verdict) = &*work;
                let entries: Vec<_> = batch.came[part.clone()].iter().map(|(_, entry)| entry.clone()).collect();
                let known = inbox::enter(tx, shared.consumer.name, &entries).await?;
                let events = without(&batch.events[part.clone()], &known);
                if events.is_empty() {
                    return Ok(());
                }
                shared.handler.handle(tx, &events).await.map_err(|failure| verdict.note(failure))
            })
        });
        taken.await.map_err(|error| verdict.stumble(error))
    }

    /// An event that the handler does not take comes again later, or is given up.
    async fn set_aside(&self, stored: &Stored, entry: Entry, kind: Kind, failure: &Failure) -> Result<(), Stumble> {
        let fate = Fate::of(&self.shared, stored, kind, 1, failure);
        let work = Arc::new((self.shared.consumer.name, [entry], fate.clone()));
        let written = self.shared.db.write("set an event aside", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (name, entries, fate) = &*work;
                let new = inbox::enter(tx, name, entries).await?.is_empty();
                if new {
                    fate.write(tx).await?;
                }
                Ok(new)
            })
        });
        if written.await.map_err(Stumble::Away)? {
            fate.tell();
        }
        Ok(())
    }

    /// Has each of these events come by itself, at once.
    async fn isolate(&self, suspects: Vec<(Stored, Entry)>) -> Result<(), Stumble> {
        let (consumer, n) = (self.shared.consumer.name, suspects.len());
        warn!(consumer, n, "events came again and again without an outcome, each is tried by itself");
        let work = Arc::new((Arc::clone(&self.shared), suspects));
        let put = self.shared.db.write("set events aside", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (shared, suspects) = &*work;
                let (name, now) = (shared.consumer.name, shared.clock.now());
                let entries: Vec<_> = suspects.iter().map(|(_, entry)| entry.clone()).collect();
                let known = inbox::enter(tx, name, &entries).await?;
                for (stored, _) in suspects.iter().filter(|(_, entry)| !known.contains(&entry.id)) {
                    retry::retry_later(tx, name, stored, 0, now, "").await?;
                }
                Ok(())
            })
        });
        put.await.map_err(Stumble::Away)
    }

    /// Now and then forgets what cannot come any more.
    async fn forget(&mut self) {
        if self.forgot_at.is_some_and(|at| at.elapsed() < FORGET) {
            return;
        }
        self.forgot_at = Some(Instant::now());
        let (name, now) = (self.shared.consumer.name, self.shared.clock.now());
        let forgotten = self
            .shared
            .db
            .write("forget events", move |tx| Box::pin(async move { inbox::forget(tx, name, now).await }));
        if let Err(error) = forgotten.await {
            warn!(consumer = name, error = error.chain(), "cannot forget old events");
        }
    }
}

/// A batch in the hands of a puller.
struct Taking<'p> {
    puller: &'p Puller,
    batch: &'p Arc<Batch>,
}

impl Halves for Taking<'_> {
    async fn attempt(&mut self, part: Range<usize>) -> Result<(), Stumble> {
        self.puller.attempt(self.batch, part).await
    }

    async fn set_aside(&mut self, index: usize, failure: Failure) -> Result<(), Stumble> {
        let (stored, entry) = &self.batch.came[index];
        self.puller.set_aside(stored, entry.clone(), Kind::Delivery, &failure).await
    }
}

/// The id that the message bears, and the event as the inbox knows it. A message without an id is known by its number.
fn entry(headers: Option<&HeaderMap>, sequence: u64) -> (Option<Uuid>, Entry) {
    let id = event_of(headers);
    let origin = headers.and_then(|headers| headers.get(PLACE)).and_then(|place| place.as_str().parse().ok());
    (id, Entry { id: id.unwrap_or(Uuid::from_u128(sequence.into())), origin })
}

fn stranger() -> Failure {
    let source = Error::internal("the message does not bear the id of its event: it was not sent by Manifold");
    Failure::Dead { reason: "NOT_OURS", source }
}
