//! Opened keys that are used again for a short while, in memory only.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manifold_core::Timestamp;

/// How long an opened key is used. It is swept away as long after that at the latest, so none stays for over a minute.
pub const FOR: Duration = Duration::from_secs(30);
/// More are not held: the next one takes the place of all.
const MAX: usize = 10_000;

/// What was opened, and when.
pub struct Held<K, V> {
    entries: Mutex<HashMap<K, (Timestamp, Arc<V>)>>,
}

impl<K: Hash + Eq, V> Held<K, V> {
    /// Nothing is held.
    pub fn new() -> Self {
        Self { entries: Mutex::new(HashMap::new()) }
    }

    /// What was put there a short while ago.
    pub fn get(&self, key: &K, now: Timestamp) -> Option<Arc<V>> {
        let entries = self.lock();
        entries.get(key).filter(|(at, _)| is_young(*at, now)).map(|(_, value)| Arc::clone(value))
    }

    /// Holds it from now on.
    pub fn put(&self, key: K, value: V, now: Timestamp) -> Arc<V> {
        let value = Arc::new(value);
        let mut entries = self.lock();
        if entries.len() >= MAX {
            entries.clear();
        }
        entries.insert(key, (now, Arc::clone(&value)));
        value
    }

    /// Lets go of it.
    pub fn forget(&self, key: &K) {
        self.lock().remove(key);
    }

    /// Lets go of all that is not used any more.
    pub fn sweep(&self, now: Timestamp) {
        self.lock().retain(|_, (at, _)| is_young(*at, now));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, (Timestamp, Arc<V>)>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that was set back makes it old, not young.
fn is_young(at: Timestamp, now: Timestamp) -> bool {
    at <= now && now.since(at) < FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_held_for_longer_than_half_a_minute() {
        let (held, now) = (Held::new(), Timestamp::from_micros(1_000_000));
        held.put("k", 7, now);

        assert_eq!(held.get(&"k", now.after(FOR / 2)).as_deref(), Some(&7));
        assert!(held.get(&"k", now.after(FOR)).is_none());
        assert!(held.get(&"k", now.before(FOR)).is_none());
        held.sweep(now.after(FOR));
        assert!(held.lock().is_empty());
    }

    #[test]
    fn only_so_many_are_held() {
        let (held, now) = (Held::new(), Timestamp::default());

        for number in 0..=MAX {
            held.put(number, (), now);
        }

        assert_eq!(held.lock().len(), 1);
    }
}
