//! When keys were used, and how often they were refused: noted in memory by every request, written every five seconds in a few
//! statements.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manifold_core::{KeyId, TenantId, Timestamp};
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;

use crate::Identity;
use crate::key::format::Lookup;
use crate::store::key::{self as store, LastUse};
use crate::store::usage::{self, Slot, Sums};
use crate::usage::hour;

const EVERY: Duration = Duration::from_secs(5);
/// Keys per statement.
const CHUNK: usize = 256;
/// Keys that may wait; beyond, uses go unnoted until the next flush.
const MAX_WAITING: usize = 100_000;

/// The uses of one secret of a key.
pub struct Usage {
    lookup: Lookup,
    key: KeyId,
    tenant: TenantId,
    last_at: AtomicI64,
    waiting: AtomicBool,
}

impl Usage {
    /// Not used yet.
    pub fn new(lookup: Lookup, key: KeyId, tenant: TenantId) -> Arc<Self> {
        Arc::new(Self { lookup, key, tenant, last_at: AtomicI64::new(0), waiting: AtomicBool::new(false) })
    }
}

/// What happened to keys since the last flush.
#[derive(Default)]
pub struct Used {
    waiting: Mutex<Vec<Arc<Usage>>>,
    counts: Mutex<BTreeMap<Slot<'static>, i64>>,
}

impl Used {
    /// Notes a use. Only the first since the last flush takes the lock.
    pub fn mark(&self, usage: &Arc<Usage>, now: Timestamp) {
        usage.last_at.store(now.micros(), Ordering::Relaxed);
        if usage.waiting.load(Ordering::Relaxed) || usage.waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.push(Arc::clone(usage));
        } else {
            usage.waiting.store(false, Ordering::Release);
        }
    }

    /// Counts what no service tells of: a call that was refused at the door, or a question about a key.
    pub fn count(&self, key: KeyId, tenant: TenantId, operation: &'static str, outcome: &'static str, now: Timestamp) {
        let slot = Slot { key, tenant, hour: hour(now), outcome: outcome.into(), operation: operation.into() };
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() < MAX_WAITING || counts.contains_key(&slot) {
            *counts.entry(slot).or_default() += 1;
        }
    }

    /// The last use of each secret, once: one that was read again meanwhile has two notes.
    fn take(&self) -> Vec<LastUse> {
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        let mut uses = HashMap::with_capacity(waiting.len());
        for usage in waiting {
            usage.waiting.store(false, Ordering::Release);
            let at = Timestamp::from_micros(usage.last_at.load(Ordering::Relaxed));
            let Usage { lookup, key, tenant, .. } = *usage;
            let last = uses.entry(lookup).or_insert(LastUse { lookup, key, tenant, at });
            last.at = last.at.max(at);
        }
        uses.into_values().collect()
    }
}

/// Writes the uses down until shutdown, and once more then.
pub async fn run(identity: Identity) {
    let stop = identity.inner.tasks.token();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        flush(&identity).await;
    }
    flush(&identity).await;
}

/// Writes what was noted so far. What cannot be written is dropped: the next use notes it again.
pub async fn flush(identity: &Identity) {
    for chunk in identity.inner.used.take().chunks(CHUNK) {
        let uses: Arc<[LastUse]> = chunk.into();
        let written = identity.inner.db.write("note the use of API keys", move |tx| {
            let uses = Arc::clone(&uses);
            Box::pin(async move { store::update_last_used(tx, &uses).await })
        });
        if let Err(error) = written.await {
            debug!(%error, "cannot note when API keys were used");
        }
    }
    let counts = std::mem::take(&mut *identity.inner.used.counts.lock().unwrap_or_else(PoisonError::into_inner));
    if counts.is_empty() {
        return;
    }
    let counts = Arc::new(counts);
    let written = identity.inner.db.write("count what happened to API keys", move |tx| {
        let counts = Arc::clone(&counts);
        Box::pin(async move {
            // In the order of the map, so that two processes never wait for each other.
            for (slot, n) in &*counts {
                usage::add(tx, slot, &Sums { n: *n, ..Sums::default() }).await?;
            }
            Ok(())
        })
    });
    if let Err(error) = written.await {
        debug!(%error, "cannot count what happened to API keys");
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn usage(key: u8) -> Arc<Usage> {
        Usage::new(Lookup::from_random([key; 10]), KeyId(Uuid::from_u128(key.into())), TenantId(Uuid::nil()))
    }

    #[test]
    fn many_uses_of_one_key_are_one_note_with_the_last_time() {
        let (used, first, again) = (Used::default(), usage(1), usage(1));
        for (usage, micros) in [(&first, 1), (&again, 5), (&first, 3)] {
            used.mark(usage, Timestamp::from_micros(micros));
        }

        let uses = used.take();

        assert_eq!(uses.len(), 1);
        assert_eq!(uses[0].at.micros(), 5);
        assert!(used.take().is_empty());
    }

    #[test]
    fn a_key_is_noted_again_after_the_flush() {
        let (used, usage) = (Used::default(), usage(1));
        used.mark(&usage, Timestamp::from_micros(1));
        used.take();

        used.mark(&usage, Timestamp::from_micros(2));

        assert_eq!(used.take()[0].at.micros(), 2);
    }
}
