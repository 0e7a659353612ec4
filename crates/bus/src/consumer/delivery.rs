//! One delivery: reading the event, and what becomes of an event that was not taken.

use bytes::Bytes;
use manifold_contract::events::v1::Event;
use manifold_core::{Error, EventId, Result, Timestamp};
use manifold_store::Tx;
use prost::Message;
use tracing::{error, warn};

use super::{Shared, retry};
use crate::dead::{self, DeadLetter, Kind};
use crate::event::VERSION;
use crate::failure::{Failure, pause};
use crate::place::Stored;

/// The reason of an event that came as often as its consumer lets it.
const TOO_OFTEN: &str = "MAX_DELIVERIES";

/// Reads the event in these bytes, or tells why it is given up.
pub(super) fn read(event: &mut Event, payload: &Bytes) -> Result<(), Failure> {
    event.clear();
    event.merge(payload.clone()).map_err(|error| Failure::Dead {
        reason: "UNDECODABLE",
        source: Error::internal("these bytes are no event").because(error),
    })?;
    match event.type_version {
        VERSION => Ok(()),
        version => Err(Failure::Dead {
            reason: "VERSION_UNKNOWN",
            source: Error::internal(format!("version {version} of this event is not known here")),
        }),
    }
}

/// What becomes of an event that was not taken.
#[derive(Clone)]
pub(super) struct Fate {
    stored: Stored,
    n_deliveries: i64,
    /// When it comes again; None = never.
    again_at: Option<Timestamp>,
    letter: DeadLetter,
}

impl Fate {
    /// After so many deliveries, of which the last failed.
    pub(super) fn of(shared: &Shared, stored: &Stored, kind: Kind, n_deliveries: i64, failure: &Failure) -> Self {
        let again_at = match failure {
            Failure::Retry { after, .. } if n_deliveries < shared.consumer.max_deliver => {
                let after = after.unwrap_or_else(|| pause(n_deliveries, stored.id));
                Some(shared.clock.now().after(after))
            }
            _ => None,
        };
        let reason = match failure {
            Failure::Retry { .. } => TOO_OFTEN,
            Failure::Dead { reason, .. } => reason,
        };
        let letter = DeadLetter::new(&shared.ids, &shared.clock, stored, kind, reason, failure.error());
        let letter = DeadLetter { consumer: shared.consumer.name, ..letter };
        Self { stored: stored.clone(), n_deliveries, again_at, letter }
    }

    /// Writes it, in the transaction that takes the event out of the way of others.
    pub(super) async fn write(&self, tx: &mut Tx<'_>) -> Result<()> {
        let letter = &self.letter;
        match self.again_at {
            Some(at) => {
                retry::retry_later(tx, letter.consumer, &self.stored, self.n_deliveries, at, &letter.error).await
            }
            None => dead::bury(tx, letter).await,
        }
    }

    /// Counts and logs it, once it is written.
    pub(super) fn tell(&self) {
        let (event, consumer, error) = (EventId(self.stored.id), self.letter.consumer, &self.letter.error);
        if self.again_at.is_some() {
            metrics::counter!("manifold_consumer_redelivered_total", "consumer" => consumer).increment(1);
            warn!(consumer, %event, error, "an event was not taken, it comes again");
        } else {
            metrics::counter!("manifold_dead_letters_total", "kind" => self.letter.kind.name()).increment(1);
            error!(consumer, %event, error, "an event is given up: see `manifold bus dead-letters`");
        }
    }
}
