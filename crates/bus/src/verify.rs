//! Looks through the ledger of events for what does not add up: rows that were changed, readers that stand where they cannot
//! have come, what nobody takes up, and what the stream has lost. Changes nothing.

mod readers;
mod rows;
mod stream;
mod waiting;

use manifold_core::{Clock, Result};

use crate::jetstream::Broker;
use crate::place::Source;

/// Something that does not add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong, in a word or two: `outbox.unreadable`, `retry.late` …
    pub check: &'static str,
    /// The service in whose database it was found.
    pub place: &'static str,
    /// What was found.
    pub found: String,
    /// How to mend it.
    pub remedy: String,
}

/// Looks through the databases of all services, and through the stream if there is a broker. An error if a database does not
/// answer; a broker that is away is a finding.
pub async fn verify(ledgers: &[Source], broker: Option<&Broker>, clock: &Clock) -> Result<Vec<Finding>> {
    let now = clock.now();
    let mut findings = Vec::new();
    for ledger in ledgers {
        findings.extend(rows::verify(ledger).await?);
        findings.extend(waiting::verify(ledger, now).await?);
    }
    findings.extend(match broker {
        None => readers::verify(ledgers).await?,
        Some(broker) => stream::verify(ledgers, broker, now).await?,
    });
    Ok(findings)
}
