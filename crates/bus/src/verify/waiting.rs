//! What waits for somebody who should have come: events that come again, dead letters, and jobs.

use std::time::Duration;

use manifold_core::{Result, Timestamp};
use manifold_store::{Micros, SqlResultExt, on};

use super::Finding;
use crate::place::Source;

/// A consumer looks every second for what comes again, and leaves what is being tried alone for a minute; a lease lasts for a
/// minute, and every five seconds is looked for those that ran out. Nothing is late for so long while somebody is there.
const LATE: Duration = Duration::from_secs(300);

const RETRIES: &str = "SELECT consumer, COUNT(*), MIN(next_at) FROM consumer_retry WHERE next_at < $1 \
                       GROUP BY consumer ORDER BY consumer";
const LEASES: &str = "SELECT kind, COUNT(*), MIN(lease_until) FROM job WHERE state = 2 AND lease_until < $1 \
                      GROUP BY kind ORDER BY kind";
const LETTERS: &str = "SELECT consumer, COUNT(*), MIN(first_at) FROM dead_letter \
                       WHERE redriven_at IS NULL AND first_at <= $1 GROUP BY consumer ORDER BY consumer";

pub(super) async fn verify(ledger: &Source, now: Timestamp) -> Result<Vec<Finding>> {
    let (place, late) = (ledger.name, now.before(LATE));
    let start = |what: &str| format!("start a process with the service {place}: {what}");
    let mut findings = Vec::new();
    for (consumer, n, since) in count(ledger, RETRIES, late).await? {
        findings.push(Finding {
            check: "retry.late",
            place,
            found: format!("{n} events should have come again to {consumer}, the first at {since}"),
            remedy: start("nobody runs this consumer; if one does, its log tells what is in its way"),
        });
    }
    for (kind, n, since) in count(ledger, LEASES, late).await? {
        findings.push(Finding {
            check: "job.abandoned",
            place,
            found: format!("{n} jobs of kind {kind} are running under leases that ran out, the first at {since}"),
            remedy: start("any worker of this kind takes them over within 5 seconds"),
        });
    }
    for (consumer, n, since) in count(ledger, LETTERS, now).await? {
        let whose = if consumer.is_empty() { "the outbox" } else { &consumer };
        findings.push(Finding {
            check: "dead_letter",
            place,
            found: format!("{n} dead letters of {whose} were not sent again, the first of {since}"),
            remedy: "see `manifold bus dead-letters`, mend the cause, and send them again with `manifold bus redrive`"
                .to_owned(),
        });
    }
    Ok(findings)
}

/// Whose, how many, and the time of the oldest.
async fn count(ledger: &Source, sql: &'static str, until: Timestamp) -> Result<Vec<(String, i64, Timestamp)>> {
    let rows: Result<Vec<(String, i64, Micros)>, _> =
        on!(&ledger.db, |pool| sqlx::query_as(sql).bind(Micros::from(until)).fetch_all(pool).await);
    let rows = rows.during("look for what waits")?;
    Ok(rows.into_iter().map(|(name, n, since)| (name, n, since.into())).collect())
}
