//! What was read from the database and is used without asking it again, until a revocation names it. Bounded, shared by all
//! requests, in memory only.

use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use moka::sync;

/// Entries, and how often something was revoked.
pub struct Remembered<K, V> {
    entries: sync::Cache<K, Arc<V>>,
    /// Grows with every revocation. Whoever puts something in must have read it in the present epoch, or a row read before
    /// a revocation could arrive after it.
    epoch: Mutex<u64>,
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Send + Sync + 'static> Remembered<K, V> {
    /// At most `n` entries, each for at most `time`, if that is told.
    pub fn new(n: u64, time: Option<Duration>) -> Self {
        let entries = sync::Cache::builder().max_capacity(n);
        let entries = match time {
            Some(time) => entries.time_to_live(time),
            None => entries,
        };
        Self { entries: entries.build(), epoch: Mutex::new(0) }
    }

    /// What was put in before, however long ago.
    pub fn find(&self, key: &K) -> Option<Arc<V>> {
        self.entries.get(key)
    }

    /// The present epoch; ask before reading.
    pub fn epoch(&self) -> u64 {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was read in `epoch`. False if that epoch is over: it has to be read again.
    pub fn remember(&self, key: K, value: &Arc<V>, epoch: u64) -> bool {
        let present = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if *present != epoch {
            return false;
        }
        self.entries.insert(key, Arc::clone(value));
        true
    }

    /// Drops one entry that was found to be wrong.
    pub fn remove(&self, key: &K) {
        self.entries.invalidate(key);
    }

    /// Drops what is `gone`, whoever is reading it now included.
    pub fn forget(&self, gone: impl Fn(&V) -> bool) {
        self.next_epoch();
        for (key, value) in &self.entries {
            if gone(&value) {
                self.entries.invalidate(&*key);
            }
        }
    }

    /// Drops everything.
    pub fn forget_all(&self) {
        self.next_epoch();
        self.entries.invalidate_all();
    }

    fn next_epoch(&self) {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_revocation_does_not_come_back_after_it() {
        let remembered = Remembered::new(10, None);
        let value = Arc::new("a");
        let epoch = remembered.epoch();

        remembered.forget(|_| true);
        let late = remembered.remember(1, &value, epoch);

        assert!(!late);
        assert!(remembered.find(&1).is_none());
        assert!(remembered.remember(1, &value, remembered.epoch()));
    }

    #[test]
    fn forgets_what_is_gone_and_nothing_else() {
        let remembered = Remembered::new(10, None);
        for value in ["gone", "stays"] {
            remembered.remember(value, &Arc::new(value), 0);
        }

        remembered.forget(|value| *value == "gone");

        assert!(remembered.find(&"gone").is_none());
        assert!(remembered.find(&"stays").is_some());
        remembered.forget_all();
        assert!(remembered.find(&"stays").is_none());
    }
}
