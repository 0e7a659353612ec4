//! Reads an outbox in the order of its commits, from a cursor that moves in the transaction of the effects.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use manifold_contract::events::v1::Event;
use manifold_core::{Error, Result, Timestamp};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::delivery::{Fate, read};
use super::halves::{Halves, in_halves};
use super::{Shared, Stumble, Verdict, event_id, without};
use crate::dead::Kind;
use crate::failure::Failure;
use crate::place::{Found, Place, Source, Stored};
use crate::{inbox, store};

/// Behind every wake-up.
const POLL: Duration = Duration::from_secs(1);
/// How often the source is told how far it has been read.
const REPORT: Duration = Duration::from_secs(30);
/// Events of no interest after which the cursor moves although nothing took effect.
const SKIP: u64 = 1_000;

pub(super) struct Reader {
    shared: Arc<Shared>,
    source: Source,
    /// Where the cursor stands in the database; None = not read yet.
    stored: Option<Place>,
    /// Up to where was read.
    read: Place,
    skipped: u64,
    reported_at: Timestamp,
    /// Events that were handled: the next ones use their memory.
    spare: Vec<Event>,
}

/// Events on their way to the handler, and how each of them is stored.
#[derive(Default)]
struct Batch {
    events: Vec<Event>,
    found: Vec<Found>,
}

/// A batch in the hands of a reader.
struct Taking<'r> {
    reader: &'r mut Reader,
    batch: &'r Arc<Batch>,
}

impl Halves for Taking<'_> {
    async fn attempt(&mut self, part: Range<usize>) -> Result<(), Stumble> {
        let last = self.batch.found[part.end - 1].place;
        self.reader.attempt(self.batch, part, last).await
    }

    async fn set_aside(&mut self, index: usize, failure: Failure) -> Result<(), Stumble> {
        let found = &self.batch.found[index];
        let stored = self.reader.stored(found).await?;
        self.reader.set_aside(found.place, &stored, Kind::Delivery, &failure).await
    }
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, source: Source) -> Self {
        let reported_at = Timestamp::from_micros(0);
        Self { shared, source, stored: None, read: Place::default(), skipped: 0, reported_at, spare: Vec::new() }
    }

    pub(super) async fn run(mut self) {
        let mut failing = false;
        loop {
            let source = self.source.db.clone();
            // Made before reading, so that nothing that comes meanwhile is missed.
            let next_commit = source.rows().next_commit();
            match self.round().await {
                Ok(more) => {
                    failing = false;
                    if more {
                        continue;
                    }
                }
                Err(stumble) => {
                    // The next round looks where the cursor stands.
                    self.stored = None;
                    match stumble {
                        Stumble::Overtaken => continue,
                        Stumble::Away(error) => self.complain(&error, &mut failing),
                        Stumble::Refused(failure) => self.complain(failure.error(), &mut failing),
                    }
                }
            }
            // Whether it came or not, there may be something: other processes commit, too.
            let _ = timeout(POLL, next_commit).await;
            sleep(self.shared.consumer.linger).await;
        }
    }

    fn complain(&self, error: &Error, failing: &mut bool) {
        if !std::mem::replace(failing, true) {
            let (consumer, source) = (self.shared.consumer.name, self.source.name);
            warn!(consumer, source, error = error.chain(), "cannot read events, trying again");
        }
    }

    /// Reads and delivers once; whether there is more at once.
    async fn round(&mut self) -> Result<bool, Stumble> {
        let consumer = &self.shared.consumer;
        if self.stored.is_none() {
            let place = store::cursor(&self.shared.db, consumer.name, self.source.name).await.map_err(Stumble::Away)?;
            store::check(&self.source.db, place).await.map_err(Stumble::Away)?;
            (self.stored, self.read, self.skipped) = (Some(place), place, 0);
        }
        let found = store::read(&self.source.db, self.read, consumer.batch).await.map_err(Stumble::Away)?;
        let Some(last) = found.last().map(|found| found.place) else {
            self.report().await;
            self.measure_lag(0);
            return Ok(false);
        };
        let more = found.len() == consumer.batch as usize;
        self.deliver(found).await?;
        self.read = last;
        if self.skipped >= SKIP {
            self.attempt(&Arc::default(), 0..0, last).await?;
        }
        if more {
            let head = store::head(&self.source.db).await.map_err(Stumble::Away)?;
            self.measure_lag(head.saturating_sub(last.seq));
        } else {
            self.measure_lag(0);
        }
        self.report().await;
        Ok(more)
    }

    fn measure_lag(&self, n: i64) {
        let (consumer, source) = (self.shared.consumer.name, self.source.name);
        metrics::gauge!("manifold_consumer_lag", "consumer" => consumer, "source" => source).set(n as f64);
    }

    /// Hands to the handler what the filter accepts. What cannot be read is given up on the way.
    async fn deliver(&mut self, found: Vec<Found>) -> Result<(), Stumble> {
        let mut batch = Batch::default();
        for found in found {
            let mut event = self.spare.pop().unwrap_or_default();
            let readable = read(&mut event, &found.payload);
            if !self.shared.consumer.filter.accepts(&event.r#type) && !event.r#type.is_empty() {
                self.skipped += 1;
                self.spare.push(event);
                continue;
            }
            match readable {
                Ok(()) => {
                    batch.events.push(event);
                    batch.found.push(found);
                }
                Err(failure) => {
                    self.take(std::mem::take(&mut batch)).await?;
                    let stored = self.stored(&found).await?;
                    self.set_aside(found.place, &stored, Kind::Decode, &failure).await?;
                }
            }
        }
        self.take(batch).await
    }

    /// Hands a batch to the handler, and sets aside what fails.
    async fn take(&mut self, batch: Batch) -> Result<(), Stumble> {
        let (n, batch) = (batch.events.len(), Arc::new(batch));
        in_halves(n, &mut Taking { reader: self, batch: &batch }).await?;
        self.spare = Arc::try_unwrap(batch).map(|batch| batch.events).unwrap_or_default();
        Ok(())
    }

    /// An event as it is set aside. Its id is that of the row: its bytes may be damaged.
    async fn stored(&self, found: &Found) -> Result<Stored, Stumble> {
        let id = store::event_id(&self.source.db, found.place.seq).await.map_err(Stumble::Away)?;
        Ok(Stored { id, payload: found.payload.clone() })
    }

    /// One transaction: the effects of a part, and the cursor behind them.
    async fn attempt(&mut self, batch: &Arc<Batch>, part: Range<usize>, place: Place) -> Result<(), Stumble> {
        let from = self.stored.unwrap_or_default();
        let verdict = Arc::new(Verdict::default());
        let work =
            Arc::new((Arc::clone(&self.shared), self.source.name, Arc::clone(batch), part, Arc::clone(&verdict)));
        let moved = self.shared.db.write_repeatable("consume events", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (shared, source, batch, part, verdict) = &*work;
                let moved = store::advance(tx, shared.consumer.name, source, from, place, shared.clock.now()).await?;
                if moved && !part.is_empty() {
                    let (name, events) = (shared.consumer.name, &batch.events[part.clone()]);
                    let taken = inbox::taken(tx, name, || events.iter().map(event_id).collect()).await?;
                    let handled = shared.handler.handle(tx, &without(events, &taken)).await;
                    handled.map_err(|failure| verdict.note(failure))?;
                }
                Ok(moved)
            })
        });
        let moved = moved.await.map_err(|error| verdict.stumble(error))?;
        self.passed(moved, place)
    }

    /// The cursor passes an event that the handler does not take: it comes again later, or is given up.
    async fn set_aside(&mut self, place: Place, stored: &Stored, kind: Kind, failure: &Failure) -> Result<(), Stumble> {
        let from = self.stored.unwrap_or_default();
        let fate = Fate::of(&self.shared, stored, kind, 1, failure);
        let work = Arc::new((Arc::clone(&self.shared), self.source.name, stored.id, fate.clone()));
        let written = self.shared.db.write("set an event aside", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (shared, source, event, fate) = &*work;
                let name = shared.consumer.name;
                if !store::advance(tx, name, source, from, place, shared.clock.now()).await? {
                    return Ok(None);
                }
                // Another process may have taken it from the stream meanwhile.
                let new = inbox::taken(tx, name, || vec![*event]).await?.is_empty();
                if new {
                    fate.write(tx).await?;
                }
                Ok(Some(new))
            })
        });
        let written = written.await.map_err(Stumble::Away)?;
        self.passed(written.is_some(), place)?;
        if written == Some(true) {
            fate.tell();
        }
        Ok(())
    }

    fn passed(&mut self, moved: bool, place: Place) -> Result<(), Stumble> {
        if !moved {
            return Err(Stumble::Overtaken);
        }
        (self.stored, self.skipped) = (Some(place), 0);
        Ok(())
    }

    /// Now and then tells the source how far it has been read, so that it may forget.
    async fn report(&mut self) {
        let now = self.shared.clock.now();
        if now < self.reported_at.after(REPORT) {
            return;
        }
        let (name, place) = (self.shared.consumer.name, self.stored.unwrap_or_default().max(self.read));
        let told = self.source.db.write("tell how far events were read", move |tx| {
            Box::pin(async move { store::report(tx, name, place, now).await })
        });
        match told.await {
            Ok(()) => self.reported_at = now,
            Err(error) => warn!(consumer = name, error = error.chain(), "cannot tell how far events were read"),
        }
    }
}
