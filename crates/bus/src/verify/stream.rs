//! Whether the stream has what it was given, by the same looks as the relay's, and whether everybody reads it.

use std::time::Duration;

use async_nats::jetstream::stream::Stream;
use manifold_core::{Error, Result, Timestamp};
use manifold_store::Engine;
use sqlx::PgPool;

use super::Finding;
use crate::jetstream::{Broker, STREAM};
use crate::place::{Place, Source};
use crate::status::outbox_status;
use crate::store::{self, PRUNED};
use crate::{inbox, relay};

/// An event waits for milliseconds while a relay is there.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn verify(ledgers: &[Source], broker: &Broker, now: Timestamp) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let stream = match broker.look().await {
        Ok(stream) => stream,
        Err(error) => {
            findings.push(away(&error));
            None
        }
    };
    let gone = stream.is_none() && findings.is_empty();
    for ledger in ledgers {
        let Engine::Postgres(pool) = ledger.db.engine() else { continue };
        findings.extend(outbox(ledger, now).await?);
        let looked = match &stream {
            Some(stream) => look(ledger.name, pool, stream, now).await,
            None if gone && relay::was_published(pool).await? => Ok(vec![lost(ledger.name, 0)]),
            None => Ok(Vec::new()),
        };
        match looked {
            Ok(found) => findings.extend(found),
            Err(error) if error.reason() == "BUS_UNAVAILABLE" => findings.push(away(&error)),
            Err(error) => return Err(error),
        }
    }
    Ok(findings)
}

/// What no relay took up, and what was deleted before one did.
async fn outbox(ledger: &Source, now: Timestamp) -> Result<Vec<Finding>> {
    let (place, status) = (ledger.name, outbox_status(&ledger.db).await?);
    let mut findings = Vec::new();
    if let Some(since) = status.waiting_since.filter(|since| *since < now.before(PATIENCE)) {
        findings.push(Finding {
            check: "outbox.waiting",
            place,
            found: format!("{} events wait for the stream, the first since {since}", status.n_waiting),
            remedy: format!("start a process with the service {place}; if one runs, its log tells what NATS refuses"),
        });
    }
    let readers = store::readers(&ledger.db).await?;
    let place_of = |name| readers.get(name).copied().unwrap_or_default();
    let (done, pruned) = (place_of(relay::READER), place_of(PRUNED));
    if done != Place::default() && pruned > done {
        findings.push(Finding {
            check: "outbox.pruned",
            place,
            found: "events were deleted that not all consumers have read: they are kept for 7 days at most".to_owned(),
            remedy: format!("start a process with the service {place}, and bring back from a backup what was missed"),
        });
    }
    Ok(findings)
}

/// What the stream lacks.
async fn look(place: &'static str, pool: &PgPool, stream: &Stream, now: Timestamp) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    if let Some(whole) = relay::whole_up_to(pool, stream).await? {
        findings.push(lost(place, whole));
    } else {
        let n = relay::gone_unread(pool, stream).await?;
        if n > 0 {
            findings.push(Finding {
                check: "stream.gap",
                place,
                found: format!("{n} events are gone from {STREAM} that not all consumers have read"),
                remedy: repaired(place),
            });
        }
    }
    let durables = relay::durables(stream).await?;
    for consumer in inbox::consumers(pool, now).await? {
        if !durables.iter().any(|durable| durable.name == consumer) {
            findings.push(Finding {
                check: "consumer.missing",
                place,
                found: format!("{consumer} has read {STREAM} and is not known there any more: nothing is kept for it"),
                remedy: format!(
                    "start a process with the service {place}: it reads the stream from the start, and nothing takes effect twice"
                ),
            });
        }
    }
    Ok(findings)
}

fn lost(place: &'static str, whole: i64) -> Finding {
    Finding {
        check: "stream.lost",
        place,
        found: format!("{STREAM} lost events that were published, behind its number {whole}"),
        remedy: repaired(place),
    }
}

fn repaired(place: &str) -> String {
    format!("start a process with the service {place}: within 30 seconds its relay publishes them again")
}

fn away(error: &Error) -> Finding {
    Finding {
        check: "bus.away",
        place: "nats",
        found: format!("{}: events wait in the databases", error.message()),
        remedy: "start NATS, or correct bus.nats_url".to_owned(),
    }
}
