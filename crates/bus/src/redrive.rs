//! Sends dead letters once more, whatever they are of.

use std::sync::Arc;

use manifold_core::{Clock, Code, Error, EventId, JobId, Result, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};

use crate::chain::HOP_LIMIT;
use crate::dead::{Buried, Kind, Which, dead_letters};
use crate::{job, outbox};

/// Sends dead letters once more, each to the consumer that gave it up and to no other, or into the stream if it did not come
/// there, and queues jobs anew; counts them. A running consumer or worker takes them within a second. A job stays dead while
/// another one with its key waits or runs.
pub async fn redrive(db: &Db, which: &Which, clock: &Clock) -> Result<u64> {
    let mut n_redriven = 0;
    for letter in dead_letters(db, which).await? {
        let (letter, now) = (Arc::new(letter), clock.now());
        let sent = db.write("send a dead letter again", move |tx| {
            let letter = Arc::clone(&letter);
            Box::pin(async move { redrive_one(tx, &letter, now).await })
        });
        n_redriven += sent.await?;
    }
    Ok(n_redriven)
}

/// Hands a dead letter back to the consumer that gave it up, or queues its job anew; 0 if somebody did so before.
async fn redrive_one(tx: &mut Tx<'_>, letter: &Buried, now: Timestamp) -> Result<u64> {
    let job = JobId::parse(&letter.reference);
    if let Some(job) = job
        && !job::again(tx, job, now).await?
    {
        return Ok(0);
    }
    let mark = "UPDATE dead_letter SET redriven_at = $2 WHERE id = $1 AND redriven_at IS NULL";
    let marked = on!(tx, |executor| {
        let query = sqlx::query(mark).bind(letter.id).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    let marked = marked.during("mark a dead letter")?;
    let Some(event) = EventId::parse(&letter.reference).filter(|_| marked > 0) else { return Ok(marked) };
    let unpublished = letter.kind == Kind::Bus.name();
    if unpublished && letter.reason == HOP_LIMIT {
        let sql = "SELECT payload FROM dead_letter WHERE id = $1";
        let payload = on!(tx, |executor| sqlx::query_scalar(sql).bind(letter.id).fetch_one(executor).await);
        outbox::let_through(tx, payload.during("read a dead letter")?, now).await?;
        return Ok(marked);
    }
    if unpublished {
        let sql = "UPDATE outbox SET published_at = NULL WHERE event_id = $1";
        let sent =
            on!(tx, |executor| sqlx::query(sql).bind(event.0).execute(executor).await.map(|done| done.rows_affected()));
        let gone = "the outbox has forgotten this event: it keeps events for 24 hours";
        return match sent.during("publish an event again")? {
            0 => Err(Error::new(Code::Precondition, "FAILED_PRECONDITION", gone)),
            n => Ok(n),
        };
    }
    let again = "INSERT INTO consumer_retry (consumer, event_id, payload, n_deliveries, next_at, error) \
                 SELECT consumer, $2, payload, 0, $3, '' FROM dead_letter WHERE id = $1 \
                 ON CONFLICT (consumer, event_id) DO NOTHING";
    let sent = on!(tx, |executor| {
        let query = sqlx::query(again).bind(letter.id).bind(event.0).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    sent.during("send a dead letter again")
}
