//! Events that come again: those that a consumer did not take, and those that somebody sends to it once more.

use std::sync::Arc;
use std::time::Duration;

use manifold_contract::events::v1::Event;
use manifold_core::Error;
use tokio::time::sleep;
use tracing::warn;

use super::delivery::{Fate, read};
use super::retry::{self, Retry};
use super::{Shared, Stumble, Verdict};
use crate::dead::Kind;
use crate::failure::Failure;

/// How often is looked whether an event is due.
const POLL: Duration = Duration::from_secs(1);
/// How long others leave an event alone that is being tried. It comes again then, if whoever tried it does not live.
const LEASE: Duration = Duration::from_secs(60);

pub(super) struct Redelivery(pub(super) Arc<Shared>);

impl Redelivery {
    pub(super) async fn run(self) {
        let shared = &self.0;
        let mut failing = false;
        loop {
            let due = retry::due(&shared.db, shared.consumer.name, shared.clock.now()).await;
            let n_due = due.as_ref().map_or(0, Vec::len);
            let outcome = match due {
                Ok(due) => self.deliver(due).await,
                Err(error) => Err(Stumble::Away(error)),
            };
            match outcome {
                Ok(()) => failing = false,
                Err(Stumble::Away(error)) if !std::mem::replace(&mut failing, true) => {
                    warn!(consumer = shared.consumer.name, error = error.chain(), "cannot try events again");
                }
                Err(_) => {}
            }
            if n_due < retry::DUE as usize || failing {
                sleep(POLL).await;
            }
        }
    }

    async fn deliver(&self, due: Vec<Retry>) -> Result<(), Stumble> {
        for retry in due {
            match self.try_one(&retry).await {
                // Another process has it.
                Ok(()) | Err(Stumble::Overtaken) => {}
                Err(Stumble::Refused(failure)) => self.set_aside(&retry, &failure).await?,
                Err(Stumble::Away(error)) => {
                    // It is no fault of the event. If this fails, too, the event comes after its lease.
                    let _ = self.count(&retry, (retry.n_deliveries + 1, retry.n_deliveries), Duration::ZERO).await;
                    return Err(Stumble::Away(error));
                }
            }
        }
        Ok(())
    }

    /// The try is counted before it is made: it may be the last thing that this process does.
    async fn try_one(&self, retry: &Retry) -> Result<(), Stumble> {
        let n = retry.n_deliveries + 1;
        if !self.count(retry, (retry.n_deliveries, n), LEASE).await? {
            return Err(Stumble::Overtaken);
        }
        if n > self.0.consumer.max_deliver {
            let source = Error::internal("every try ended without an outcome: the event stops whoever handles it");
            return Err(Stumble::Refused(source.into()));
        }
        self.attempt(retry).await
    }

    /// Changes how often an event has come, and keeps it from coming for a while; false if another process was faster.
    async fn count(&self, retry: &Retry, (from, to): (i64, i64), lease: Duration) -> Result<bool, Stumble> {
        let (name, event, until) = (self.0.consumer.name, retry.stored.id, self.0.clock.now().after(lease));
        let counted = self.0.db.write("count a try of an event", move |tx| {
            Box::pin(async move { retry::count_retry(tx, name, event, (from, to), until).await })
        });
        counted.await.map_err(Stumble::Away)
    }

    /// One transaction: the effect, and the end of waiting.
    async fn attempt(&self, retry: &Retry) -> Result<(), Stumble> {
        let mut event = Event::default();
        read(&mut event, &retry.stored.payload).map_err(Stumble::Refused)?;
        let verdict = Arc::new(Verdict::default());
        let n = retry.n_deliveries + 1;
        let work = Arc::new((Arc::clone(&self.0), retry.stored.id, n, [event], Arc::clone(&verdict)));
        let taken = self.0.db.write("consume an event again", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (shared, event, n, events, verdict) = &*work;
                let taken = retry::take_retry(tx, shared.consumer.name, *event, *n).await?;
                if taken {
                    shared.handler.handle(tx, events).await.map_err(|failure| verdict.note(failure))?;
                }
                Ok(taken)
            })
        });
        match taken.await.map_err(|error| verdict.stumble(error))? {
            true => Ok(()),
            false => Err(Stumble::Overtaken),
        }
    }

    async fn set_aside(&self, retry: &Retry, failure: &Failure) -> Result<(), Stumble> {
        let n = retry.n_deliveries + 1;
        let readable = read(&mut Event::default(), &retry.stored.payload).is_ok();
        let kind = if readable { Kind::Delivery } else { Kind::Decode };
        let fate = Fate::of(&self.0, &retry.stored, kind, n, failure);
        let work = Arc::new((self.0.consumer.name, retry.stored.id, fate.clone()));
        let written = self.0.db.write("set an event aside again", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (name, event, fate) = &*work;
                let taken = retry::take_retry(tx, name, *event, n).await?;
                if taken {
                    fate.write(tx).await?;
                }
                Ok(taken)
            })
        });
        if written.await.map_err(Stumble::Away)? {
            fate.tell();
        }
        Ok(())
    }
}
