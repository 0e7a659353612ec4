//! At most so many at once: places that are held until their holder leaves, in this process or in Redis.
//!
//! Who vanishes without leaving, as a killed process does, holds places in Redis until their time is up.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use manifold_core::{Result, Timestamp};
use redis::Script;
use tokio::sync::mpsc;

use crate::limiter::{Shared, away};
use crate::policy::OnStoreFailure;
use crate::redis::Redis;
use crate::shards::Shards;

static ENTER: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("enter.lua")));
static LEAVE: LazyLock<Script> = LazyLock::new(|| Script::new("return redis.call('ZREM', KEYS[1], ARGV[1])"));

/// Holders that have left and are not told to Redis yet; of more, the places are free when their time is up.
const MAX_LEAVING: usize = 10_000;
/// Stands for the clock of Redis.
const NOW: u64 = 0;

/// A limit of how many may hold a place of the same key at once.
pub struct Gate {
    places: u64,
    here: Arc<Shards<u64>>,
    together: Option<Together>,
}

struct Together {
    name: String,
    shared: Shared,
    on_store_failure: OnStoreFailure,
    leaving: mpsc::Sender<Holder>,
}

/// Who holds a place in Redis.
#[derive(Debug)]
struct Holder {
    set: String,
    id: u128,
}

/// What becomes of somebody at the gate.
pub enum Entry {
    /// Go on; the place is free again when it is dropped.
    Entered(Place),
    /// All places are held.
    Full {
        /// When the next one is free at the latest.
        retry_after: Duration,
        /// Whether this process decided alone, because Redis is away.
        degraded: bool,
    },
}

/// A place that is held.
pub struct Place {
    remaining: u64,
    degraded: bool,
    held: Held,
}

enum Held {
    Here(Arc<Shards<u64>>, u128),
    Together(mpsc::Sender<Holder>, Holder),
    Nothing,
}

/// Those who have left, on their way to Redis.
pub struct Leaving {
    redis: Redis,
    leaving: mpsc::Receiver<Holder>,
}

impl Gate {
    /// `places` per key in this process; room for `max_keys` active keys, others share the places of one.
    pub fn local(places: u64, max_keys: usize) -> Self {
        Self { places, here: Arc::new(Shards::new(max_keys)), together: None }
    }

    /// `places` per key in all processes that count under `name`. Somebody has to run what else is returned.
    pub fn shared(
        name: impl Into<String>,
        places: u64,
        max_keys: usize,
        shared: Shared,
        on_store_failure: OnStoreFailure,
    ) -> (Self, Leaving) {
        let (sender, receiver) = mpsc::channel(MAX_LEAVING);
        let leaving = Leaving { redis: shared.redis.clone(), leaving: receiver };
        let together = Together { name: name.into(), shared, on_store_failure, leaving: sender };
        (Self { together: Some(together), ..Self::local(places, max_keys) }, leaving)
    }

    /// Lets `holder` (an id that nobody else has) in if there is a place of `key`, for `lifetime` at most.
    ///
    /// # Errors
    /// `TEMPORARY_REDUCED_CAPACITY` if Redis is away and the gate is to be shut meanwhile.
    pub async fn enter(&self, key: u128, holder: u128, lifetime: Duration, now: Timestamp) -> Result<Entry> {
        let Some(together) = &self.together else { return Ok(self.enter_here(key, self.places, lifetime, now, false)) };
        let set = format!("mf:gate:{}:{key:032x}", together.name);
        let mut call = ENTER.prepare_invoke();
        let micros = u64::try_from(lifetime.as_micros()).unwrap_or(u64::MAX);
        call.key(&set).arg(NOW).arg(self.places).arg(format!("{holder:032x}")).arg(micros);
        // Held from now on: whoever stops waiting for the answer leaves, too.
        let held = Held::Together(together.leaving.clone(), Holder { set, id: holder });
        let mut place = Place { remaining: 0, degraded: false, held };
        match together.shared.redis.run::<(u8, u64)>(&call).await {
            Ok((1, remaining)) => {
                place.remaining = remaining;
                Ok(Entry::Entered(place))
            }
            Ok((_, wait)) => {
                place.held = Held::Nothing;
                Ok(Entry::Full { retry_after: Duration::from_micros(wait), degraded: false })
            }
            Err(_) if together.on_store_failure == OnStoreFailure::Deny => Err(away()),
            Err(_) => {
                let share = (self.places / u64::from(together.shared.replicas.max(1))).max(1);
                Ok(self.enter_here(key, share, lifetime, now, true))
            }
        }
    }

    fn enter_here(&self, key: u128, places: u64, lifetime: Duration, now: Timestamp, degraded: bool) -> Entry {
        let now = u64::try_from(now.micros()).unwrap_or(0);
        let slot = if self.here.has_room(key, now) { key } else { 0 };
        let left = self.here.update(slot, |held| {
            let left = places.checked_sub(*held + 1);
            *held += u64::from(left.is_some());
            (Some(u64::MAX), left)
        });
        match left {
            Some(remaining) => Entry::Entered(Place { remaining, degraded, held: Held::Here(self.here.clone(), slot) }),
            None => Entry::Full { retry_after: lifetime, degraded },
        }
    }
}

impl Place {
    /// How many places of the key are free besides, those of this process if it decided alone.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Whether this process decided alone, because Redis is away.
    pub fn degraded(&self) -> bool {
        self.degraded
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Here(places, slot) => places.update(slot, |held| {
                *held = held.saturating_sub(1);
                (Some(if *held == 0 { 0 } else { u64::MAX }), ())
            }),
            Held::Together(leaving, holder) => {
                // A full queue means that Redis is away; the time of the place will be up.
                let _ = leaving.try_send(holder);
            }
            Held::Nothing => {}
        }
    }
}

impl Leaving {
    /// Tells Redis who has left, until the gate and all its places are gone.
    pub async fn run(mut self) {
        while let Some(Holder { set, id }) = self.leaving.recv().await {
            let mut call = LEAVE.prepare_invoke();
            call.key(set).arg(format!("{id:032x}"));
            // Who cannot be told about is forgotten by Redis when the time is up.
            let _ = self.redis.run::<u64>(&call).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    async fn enter(gate: &Gate, key: u128) -> Option<Place> {
        match gate.enter(key, 1, MINUTE, NOW).await.unwrap() {
            Entry::Entered(place) => Some(place),
            Entry::Full { .. } => None,
        }
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_holder_leaves() {
        let gate = Gate::local(2, 10);

        let (one, two) = (enter(&gate, 7).await, enter(&gate, 7).await);
        let (three, stranger) = (enter(&gate, 7).await, enter(&gate, 8).await);
        drop(one);
        let four = enter(&gate, 7).await;

        assert!(two.is_some() && three.is_none() && four.is_some());
        assert_eq!(stranger.map(|place| place.remaining()), Some(1));
    }

    #[tokio::test]
    async fn keys_without_room_share_the_places_of_one() {
        let gate = Gate::local(1, 1);
        let mut places = Vec::new();

        for key in 1..1_000 {
            places.push(enter(&gate, key).await);
        }

        assert_eq!(places.iter().flatten().count(), 65, "one key per part, and one for all others");
    }
}
