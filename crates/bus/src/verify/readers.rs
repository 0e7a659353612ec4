//! Whether consumers that read outboxes stand where they can have come, and whether what they have not read is still there.

use manifold_core::Result;
use manifold_store::{Engine, SqlResultExt};

use super::Finding;
use crate::place::Source;
use crate::store::{self, Cursor, PRUNED};

pub(super) async fn verify(ledgers: &[Source]) -> Result<Vec<Finding>> {
    // Before the outboxes: those may grow meanwhile, and never shrink.
    let mut cursors = Vec::new();
    for ledger in ledgers {
        for cursor in store::cursors(&ledger.db).await? {
            cursors.push((ledger.name, cursor));
        }
    }
    let mut findings = Vec::new();
    for source in ledgers {
        let (readers, given) = (store::readers(&source.db).await?, last_given(source).await?);
        for (place, cursor) in cursors.iter().filter(|(_, cursor)| cursor.source == source.name) {
            if cursor.last_seq > given || store::is_foreign(&source.db, cursor.place()).await? {
                findings.push(ahead(place, cursor, source, given));
                continue;
            }
            // What is of no interest to a consumer moves no cursor, but is reported.
            let read = readers.get(&cursor.consumer).copied().unwrap_or_default().max(cursor.place());
            if readers.get(PRUNED).is_some_and(|pruned| *pruned > read) {
                findings.push(behind(place, cursor));
            }
        }
    }
    Ok(findings)
}

/// The highest number that an event ever got. On Postgres transactions tell it instead.
async fn last_given(source: &Source) -> Result<i64> {
    let Engine::Sqlite(pool) = source.db.engine() else { return Ok(i64::MAX) };
    let sql = "SELECT COALESCE((SELECT seq FROM sqlite_sequence WHERE name = 'outbox'), 0)";
    sqlx::query_scalar(sql).fetch_one(pool).await.during("look for the last number of an event")
}

fn ahead(place: &'static str, cursor: &Cursor, source: &Source, given: i64) -> Finding {
    let (consumer, last, name) = (&cursor.consumer, cursor.last_seq, &cursor.source);
    let (found, remedy) = match source.db.engine() {
        Engine::Sqlite(_) => (
            format!(
                "{consumer} stands behind event {last} of {name}, which has had {given}: its file is an older copy"
            ),
            format!(
                "stop the server and run UPDATE consumer_cursor SET last_seq = {given} WHERE consumer = '{consumer}' AND \
                 source = '{name}', or what comes is not read"
            ),
        ),
        Engine::Postgres(_) => (
            format!("{consumer} stands behind a transaction of {name} that this server has not come to yet"),
            store::FOREIGN.to_owned(),
        ),
    };
    Finding { check: "cursor.ahead", place, found, remedy }
}

fn behind(place: &'static str, cursor: &Cursor) -> Finding {
    let (consumer, name) = (&cursor.consumer, &cursor.source);
    Finding {
        check: "cursor.behind",
        place,
        found: format!("{consumer} has not read events of {name} that are gone: they are kept for 7 days at most"),
        remedy: format!(
            "start a process with the service {place}, and bring back from a backup what it has missed; if the consumer does \
             not exist any more: DELETE FROM consumer_cursor WHERE consumer = '{consumer}'"
        ),
    }
}
