//! Values by key, in parts that are locked one by one, of which idle ones make room for new ones.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Parts that are locked one by one.
const SHARDS: usize = 64;
/// Microseconds between two searches for idle values.
const SWEEP_EVERY: u64 = 1_000_000;

/// Values by key.
pub(crate) struct Shards<V> {
    parts: Vec<Mutex<Part<V>>>,
    max_per_part: usize,
}

struct Part<V> {
    values: HashMap<u128, Entry<V>>,
    sweep_at: u64,
}

/// A value, and when it will be the same as none.
struct Entry<V> {
    value: V,
    idle_at: u64,
}

impl<V: Default> Shards<V> {
    /// Room for about `max` values.
    pub(crate) fn new(max: usize) -> Self {
        let part = || Mutex::new(Part { values: HashMap::new(), sweep_at: 0 });
        Self { parts: (0..SHARDS).map(|_| part()).collect(), max_per_part: max.div_ceil(SHARDS).max(1) }
    }

    /// Whether `key` has a value or may get one at `now` (microseconds).
    pub(crate) fn has_room(&self, key: u128, now: u64) -> bool {
        let mut part = self.part(key);
        if part.values.len() >= self.max_per_part && now >= part.sweep_at {
            part.values.retain(|_, entry| entry.idle_at > now);
            part.sweep_at = now + SWEEP_EVERY;
        }
        part.values.len() < self.max_per_part || part.values.contains_key(&key)
    }

    /// Works on the value of `key`, which begins as the default. `work` tells when the value will be idle, if that has
    /// changed.
    pub(crate) fn update<R>(&self, key: u128, work: impl FnOnce(&mut V) -> (Option<u64>, R)) -> R {
        self.update_from(key, V::default(), work)
    }

    /// The same, where a value begins as `begin`.
    pub(crate) fn update_from<R>(&self, key: u128, begin: V, work: impl FnOnce(&mut V) -> (Option<u64>, R)) -> R {
        let mut part = self.part(key);
        let entry = part.values.entry(key).or_insert(Entry { value: begin, idle_at: 0 });
        let (idle_at, result) = work(&mut entry.value);
        entry.idle_at = idle_at.unwrap_or(entry.idle_at);
        result
    }

    /// The value of `key`, if it has one.
    pub(crate) fn get(&self, key: u128) -> Option<V>
    where
        V: Copy,
    {
        self.part(key).values.get(&key).map(|entry| entry.value)
    }

    fn part(&self, key: u128) -> MutexGuard<'_, Part<V>> {
        self.parts[key as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_values_make_room_and_others_stay() {
        let shards = Shards::<u64>::new(SHARDS);
        let (busy, idle, new) = (0, SHARDS as u128, 2 * SHARDS as u128);
        shards.update(busy, |value| (Some(100), *value = 7));

        assert!(!shards.has_room(idle, 50));
        assert!(shards.has_room(busy, 50), "it has its place already");
        assert!(!shards.has_room(idle, 60 + SWEEP_EVERY - 20), "not searched again so soon");
        assert!(shards.has_room(new, 50 + SWEEP_EVERY), "the value became idle at 100");
    }
}
