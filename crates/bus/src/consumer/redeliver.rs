//! Events that come again: those that a consumer did not take, and those that somebody sends to it once more.

use std::sync::Arc;
use std::time::Duration;

use manifold_contract::events::v1::Event;
use tokio::time::sleep;
use tracing::warn;

use super::embedded::{read, tell};
use super::{Failure, Shared, Stumble, Verdict, pause};
use crate::dead::{DeadLetter, Kind};
use crate::store::{self, Retry};

/// How often is looked whether an event is due.
const POLL: Duration = Duration::from_secs(1);

pub(super) struct Redelivery(pub(super) Arc<Shared>);

impl Redelivery {
    pub(super) async fn run(self) {
        let shared = &self.0;
        let mut failing = false;
        loop {
            let due = store::due(&shared.db, shared.consumer.name, shared.clock.now()).await;
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
            if n_due < store::DUE as usize || failing {
                sleep(POLL).await;
            }
        }
    }

    async fn deliver(&self, due: Vec<Retry>) -> Result<(), Stumble> {
        for retry in due {
            match self.attempt(&retry).await {
                // Another process has it.
                Ok(()) | Err(Stumble::Overtaken) => {}
                Err(Stumble::Refused(failure)) => self.set_aside(&retry, failure).await?,
                Err(away) => return Err(away),
            }
        }
        Ok(())
    }

    /// One transaction: the effect, and the end of waiting.
    async fn attempt(&self, retry: &Retry) -> Result<(), Stumble> {
        let mut event = Event::default();
        read(&mut event, &retry.stored.payload).map_err(Stumble::Refused)?;
        let verdict = Arc::new(Verdict::default());
        let work = Arc::new((Arc::clone(&self.0), retry.stored.id, retry.n_deliveries, [event], Arc::clone(&verdict)));
        let taken = self.0.db.write("consume an event again", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (shared, event, n_deliveries, events, verdict) = &*work;
                let taken = store::take_retry(tx, shared.consumer.name, *event, *n_deliveries).await?;
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

    async fn set_aside(&self, retry: &Retry, failure: Failure) -> Result<(), Stumble> {
        let shared = &self.0;
        let n = retry.n_deliveries + 1;
        let readable = read(&mut Event::default(), &retry.stored.payload).is_ok();
        let kind = if readable { Kind::Delivery } else { Kind::Decode };
        let letter = DeadLetter::of(shared, &retry.stored, kind, &failure);
        let again = match &failure {
            Failure::Retry { after, .. } if n < shared.consumer.max_deliver => {
                Some(after.unwrap_or_else(|| pause(n, retry.stored.id)))
            }
            _ => None,
        };
        let work = Arc::new((Arc::clone(shared), retry.clone(), letter));
        let written = shared.db.write("set an event aside again", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (shared, retry, letter) = &*work;
                let (name, now) = (shared.consumer.name, shared.clock.now());
                if !store::take_retry(tx, name, retry.stored.id, retry.n_deliveries).await? {
                    return Ok(());
                }
                match again {
                    Some(after) => {
                        store::retry_later(tx, name, &retry.stored, n, now.after(after), &letter.error).await
                    }
                    None => store::bury(tx, letter).await,
                }
            })
        });
        written.await.map_err(Stumble::Away)?;
        tell(shared.consumer.name, &retry.stored, failure.error(), kind, again.is_some());
        Ok(())
    }
}
