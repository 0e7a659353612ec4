//! Keys and what they spent, in the bounded memory of this process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use manifold_core::Timestamp;

use crate::Decision;
use crate::gcra::{self, Rate};
use crate::policy::{Policy, Rule};
use crate::shards::Shards;
use crate::window::{self, Counts, Span};

/// Parts that are locked one by one.
const SHARDS: usize = 64;

/// Counts what keys spend. Never admits more than the policy, whatever the number of threads and keys: when there are
/// more active keys than fit, new ones share one allowance until room is made.
pub(crate) struct Local {
    shards: Vec<RwLock<Shard>>,
    max_per_shard: usize,
    windows: Shards<Counts>,
}

#[derive(Default)]
struct Shard {
    states: HashMap<u128, AtomicU64>,
    /// What the keys that found no room spend together, by policy.
    shared: HashMap<u128, AtomicU64>,
    /// When the first of `states` becomes idle, as of the last look.
    idle_at: u64,
}

impl Local {
    /// Room for `max_keys` active keys.
    pub(crate) fn new(max_keys: usize) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::default()).collect();
        Self { shards, max_per_shard: max_keys.div_ceil(SHARDS).max(1), windows: Shards::new(max_keys) }
    }

    /// Spends `n` units of what `policy` grants to `key`, which is an id of ours and thus random in its lowest bits.
    pub(crate) fn charge(&self, policy: &Policy, key: u128, n: u64, now: Timestamp) -> Decision {
        let now = u64::try_from(now.micros()).unwrap_or(0);
        let slot = key ^ policy.salt();
        let rate = match policy.rule() {
            Rule::Gcra(rate) => rate,
            Rule::Window(span) => return self.count(span, slot, policy.salt(), n, now),
        };
        let shard = &self.shards[slot as usize % SHARDS];
        if let Some(state) = shard.read().unwrap_or_else(PoisonError::into_inner).states.get(&slot) {
            return spend(state, rate, n, now);
        }
        let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
        spend(shard.enter(slot, policy.salt(), self.max_per_shard, now), rate, n, now)
    }

    /// The same for windows.
    fn count(&self, span: Span, slot: u128, policy: u128, n: u64, now: u64) -> Decision {
        let slot = if self.windows.has_room(slot, now) { slot } else { policy };
        // A new key may have spent from the shared allowance before.
        let known = self.windows.get(slot).or_else(|| self.windows.get(policy)).unwrap_or_default();
        self.windows.update_from(slot, known, |counts| match window::step(span, *counts, n, n, now) {
            window::Step::Deny { counts: next, wait, .. } => {
                *counts = next;
                (None, Decision::denied(wait))
            }
            window::Step::Admit { counts: next, remaining, reset, .. } => {
                *counts = next;
                (Some(now + reset), Decision::admitted(remaining, reset))
            }
        })
    }
}

impl Shard {
    /// The state of a new key, or the shared one if there is no room.
    fn enter(&mut self, slot: u128, policy: u128, max: usize, now: u64) -> &AtomicU64 {
        let full = self.states.len() >= max && !self.states.contains_key(&slot);
        if full && self.idle_at < now {
            self.forget_idle(now);
        }
        if self.states.len() >= max && !self.states.contains_key(&slot) {
            return self.shared.entry(policy).or_default();
        }
        // The key may have spent from the shared allowance before.
        let spent = self.shared.get(&policy).map_or(0, |state| state.load(Ordering::Relaxed));
        self.states.entry(slot).or_insert_with(|| AtomicU64::new(spent))
    }

    /// A key that has regained everything is the same as a new one.
    fn forget_idle(&mut self, now: u64) {
        self.states.retain(|_, state| *state.get_mut() >= now);
        self.shared.retain(|_, state| *state.get_mut() >= now);
        self.idle_at = self.states.values_mut().map(|state| *state.get_mut()).min().unwrap_or(0);
    }
}

fn spend(state: &AtomicU64, rate: Rate, n: u64, now: u64) -> Decision {
    let mut stored = state.load(Ordering::Relaxed);
    loop {
        let (next, decision) = match gcra::step(rate, stored, n, n, now) {
            gcra::Step::Deny { state, wait, .. } => (state, Decision::denied(wait)),
            gcra::Step::Admit { state, remaining, reset, .. } => (state, Decision::admitted(remaining, reset)),
        };
        // What is refused changes nothing, as a rule.
        if next == stored {
            return decision;
        }
        match state.compare_exchange_weak(stored, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return decision,
            Err(current) => stored = current,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Algorithm;

    const START: Timestamp = Timestamp::from_micros(1_000_000);

    fn policy(name: &str, quota: u64) -> Policy {
        Policy::new(name, quota, Duration::from_secs(60), None).unwrap()
    }

    fn admitted(limiter: &Local, policy: &Policy, key: u128, tries: u32) -> u64 {
        let passes = |_: &u32| matches!(limiter.charge(policy, key, 1, START), Decision::Admitted { .. });
        (0..tries).filter(passes).count() as u64
    }

    #[test]
    fn never_admits_more_than_the_burst_under_threads() {
        for round in 0..50 {
            let (limiter, policy) = (Local::new(64), policy("burst", 100 + round));

            let total: u64 = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| admitted(&limiter, &policy, 7, 60))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });

            assert_eq!(total, 100 + round);
        }
    }

    #[test]
    fn never_admits_more_than_the_rate_over_time() {
        let (limiter, policy) = (Local::new(64), policy("steady", 60));

        // Ten tries per second for ten minutes: the burst of 60, and one per second from then on.
        let times = (0..6_000).map(|tenth| START.after(Duration::from_millis(tenth * 100)));
        let total =
            times.filter(|now| matches!(limiter.charge(&policy, 1, 1, *now), Decision::Admitted { .. })).count();

        assert_eq!(total, 60 + 599);
    }

    #[test]
    fn policies_and_keys_do_not_share() {
        let limiter = Local::new(1_000);
        let (one, other) = (policy("one", 2), policy("other", 2));

        assert_eq!(admitted(&limiter, &one, 1, 5), 2);
        assert_eq!(admitted(&limiter, &one, 2, 5), 2);
        assert_eq!(admitted(&limiter, &other, 1, 5), 2);
    }

    #[test]
    fn keys_that_find_no_room_share_one_allowance_and_memory_stays_bounded() {
        let (limiter, policy) = (Local::new(SHARDS), policy("burst", 5));

        let total: u64 = (0..10_000).map(|key| admitted(&limiter, &policy, key, 1)).sum();

        let size = |shard: &RwLock<Shard>| shard.read().unwrap().states.len() + shard.read().unwrap().shared.len();
        assert!(limiter.shards.iter().map(size).sum::<usize>() <= 2 * SHARDS);
        assert_eq!(total, SHARDS as u64 * 6);
    }

    #[test]
    fn a_key_that_gets_room_later_keeps_what_it_spent() {
        let (limiter, policy) = (Local::new(1), policy("burst", 5));
        // In the same shard as key 0.
        let stranger = SHARDS as u128;
        assert_eq!(admitted(&limiter, &policy, 0, 1), 1);
        assert_eq!(admitted(&limiter, &policy, stranger, 9), 5);

        // After 12 seconds one unit is back: the first key is forgotten and the second takes its place.
        let later = START.after(Duration::from_secs(13));
        let decisions = [0; 2].map(|_| limiter.charge(&policy, stranger, 1, later));

        assert!(matches!(decisions[0], Decision::Admitted { remaining: 0, .. }), "{decisions:?}");
        assert!(matches!(decisions[1], Decision::Denied { .. }), "{decisions:?}");
    }

    #[test]
    fn idle_keys_make_room() {
        let (limiter, policy) = (Local::new(SHARDS), policy("burst", 5));
        for key in 0..1_000 {
            limiter.charge(&policy, key, 1, START);
        }

        let later = START.after(Duration::from_secs(120));
        let fresh = (5_000..5_100).filter(|key| {
            let decision = limiter.charge(&policy, *key, 5, later);
            matches!(decision, Decision::Admitted { .. })
        });

        assert!(fresh.count() >= SHARDS / 2);
    }

    #[test]
    fn windows_are_counted_under_threads_and_in_bounded_memory() {
        let limiter = Local::new(64);
        let policy = policy("window", 100).counted(Algorithm::Sliding).unwrap();

        let total: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| admitted(&limiter, &policy, 7, 60))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let strangers: u64 = (100..10_000).map(|key| admitted(&limiter, &policy, key, 1)).sum();

        assert_eq!(total, 100);
        assert!(strangers <= 64 * 101, "{strangers}: those without room share one allowance per part");
    }

    #[test]
    fn a_clock_that_steps_back_or_a_faster_policy_locks_nobody_out() {
        let (day, minute) = (Duration::from_secs(24 * 3_600), Duration::from_secs(60));
        let slow = Policy::new("same", 1_000, day, None).unwrap();
        let fast = Policy::new("same", 1_000, minute, None).unwrap();
        for (before, began) in [(slow, START), (fast.clone(), START.after(Duration::from_secs(3_600)))] {
            let limiter = Local::new(64);
            limiter.charge(&before, 7, 1_000, began);

            let at_once = limiter.charge(&fast, 7, 1, START);
            let soon = limiter.charge(&fast, 7, 1, START.after(minute / 1_000));

            assert_eq!(at_once, Decision::Denied { retry_after: minute / 1_000 });
            assert!(matches!(soon, Decision::Admitted { .. }), "{soon:?}");
        }
    }

    #[test]
    fn a_key_that_gets_room_later_keeps_what_it_spent_in_its_window() {
        let limiter = Local::new(1);
        let short = Policy::new("short", 5, Duration::from_secs(2), None).unwrap().counted(Algorithm::Fixed).unwrap();
        let long = policy("long", 5).counted(Algorithm::Sliding).unwrap();
        // Takes the only place of its part, which is that of the stranger, and not that of the shared allowance.
        let stranger = (0..).find(|key| (key ^ long.salt()) % 64 != long.salt() % 64).unwrap();
        let first = stranger ^ 64 ^ long.salt() ^ short.salt();
        assert_eq!(admitted(&limiter, &short, first, 1), 1);
        assert_eq!(admitted(&limiter, &long, stranger, 9), 5);

        // The first key is forgotten and the second takes its place.
        let later = START.after(Duration::from_secs(3));
        let decision = limiter.charge(&long, stranger, 1, later);

        assert!(matches!(decision, Decision::Denied { .. }), "{decision:?}");
    }
}
