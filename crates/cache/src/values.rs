//! A cache of values in two tiers under one key: in this process, bounded by bytes, and in Redis, for all processes.
//!
//! What is missing is loaded once, however many ask: one of them loads and the others wait, here and in other processes.
//! A value is fresh for some time. Then whoever asks first loads it again while others are given the old one for some more
//! time, and so is everybody when it cannot be loaded. Failures are not kept.
//!
//! Spawns nothing: a load is part of the call that asked, and when that is dropped, the next one that waits takes over.
//! Without Redis, or while it is away, each process has its own values.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manifold_core::{Clock, Error, Result, Timestamp};

use crate::key::{Group, Key};
use crate::redis::Redis;
use crate::shelf::{Kept, MAX_SHARED, Shelf, State};

/// For how long a process believes its own copy before it asks Redis whether it is still the right one, and goes on with an
/// old one that could not be loaded again.
const BELIEVED: Duration = Duration::from_secs(1);
/// Between two questions whether another process has loaded a value.
const POLL: Duration = Duration::from_millis(20);
/// Loads that fail before all who wait are told so. The second may fare better: the first may have been in a hurry.
const TRIES: u32 = 2;

/// How long values are used, and how much memory they take.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// From the load of a value until it is loaded again.
    pub ttl: Duration,
    /// After that, how long the old value is given out while it is loaded again or cannot be.
    pub stale: Duration,
    /// Bytes of all values in this process.
    pub max_bytes: u64,
}

/// A value as it is given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// What was loaded.
    pub bytes: Arc<[u8]>,
    /// Whether it is older than it should be.
    pub stale: bool,
}

/// Cached values of one kind.
pub struct Values {
    terms: Terms,
    clock: Clock,
    shelf: Option<Shelf>,
    here: moka::sync::Cache<Key, Arc<Copy>>,
    flights: Mutex<HashMap<Key, Waiting>>,
    n_loads: AtomicU64,
}

/// A value in this process.
struct Copy {
    bytes: Arc<[u8]>,
    loaded_at: Timestamp,
    /// The load that it comes from.
    mark: String,
    /// Whether Redis had it, too.
    shared: bool,
    /// When to look for a newer one.
    ask_at: Timestamp,
}

/// A load, and how many wait for it.
#[derive(Default)]
struct Waiting {
    flight: Arc<Flight>,
    n: usize,
}

/// What they share. What is loaded after it was taken out of the map is given to them and not kept.
#[derive(Default)]
struct Flight {
    turn: tokio::sync::Mutex<Turn>,
}

#[derive(Default)]
struct Turn {
    outcome: Option<Result<Arc<Copy>, Arc<Error>>>,
    n_failed: u32,
}

/// One of those who wait. The last who leaves takes the flight out of the map.
struct Seat<'a> {
    values: &'a Values,
    key: &'a Key,
    flight: Arc<Flight>,
}

impl Values {
    /// An empty cache. In Redis, values of the same `name` are shared by all processes, which should have the same terms.
    pub fn new(name: &'static str, terms: Terms, redis: Option<Redis>, clock: Clock) -> Self {
        let lifetime = terms.ttl + terms.stale;
        let weigh = |key: &Key, copy: &Arc<Copy>| {
            u32::try_from(key.size() + size_of::<Copy>() + copy.mark.len() + copy.bytes.len()).unwrap_or(u32::MAX)
        };
        Self {
            terms,
            clock,
            shelf: redis.map(|redis| Shelf::new(redis, name, lifetime)),
            here: moka::sync::Cache::builder().max_capacity(terms.max_bytes).weigher(weigh).build(),
            flights: Mutex::default(),
            n_loads: AtomicU64::new(0),
        }
    }

    /// The value of `key`, which `load` makes if it is not here, or no longer fresh. Values of more than 1 MiB are not shared
    /// with other processes.
    ///
    /// # Errors
    /// That of `load`, if there is no older value to give out.
    pub async fn get_or_load(&self, key: &Key, load: impl Future<Output = Result<Vec<u8>>>) -> Result<Value> {
        if let Some(copy) = self.here.get(key).filter(|copy| self.clock.now() < copy.ask_at) {
            return Ok(self.value(&copy));
        }
        // Boxed, so that the future of a call that finds its value stays small.
        Box::pin(self.find(key, load)).await.map(|copy| self.value(&copy))
    }

    /// Forgets a value, here and for all processes: those that have it notice within a second, or, if it is too large to be
    /// shared, when its time is up. What is being loaded now is not kept. This is what a consumer calls for events that tell
    /// of a change.
    ///
    /// # Errors
    /// `UNAVAILABLE` if Redis could not be told. Here it is forgotten in any case.
    pub async fn invalidate(&self, key: &Key) -> Result<()> {
        let told = match &self.shelf {
            Some(shelf) => shelf.forget(key).await,
            None => Ok(()),
        };
        let mut flights = self.flights();
        flights.remove(key);
        self.here.invalidate(key);
        told
    }

    /// The same for all values of a group.
    ///
    /// # Errors
    /// `UNAVAILABLE` if Redis could not be told. Here they are forgotten in any case.
    pub async fn invalidate_group(&self, group: &Group) -> Result<()> {
        let told = match &self.shelf {
            Some(shelf) => shelf.forget_group(group).await,
            None => Ok(()),
        };
        let mut flights = self.flights();
        flights.retain(|key, _| key.group() != group);
        for (key, _) in self.here.iter().filter(|(key, _)| key.group() == group) {
            self.here.invalidate(key.as_ref());
        }
        told
    }

    /// Bytes of all values in this process.
    pub fn size(&self) -> u64 {
        self.here.run_pending_tasks();
        self.here.weighted_size()
    }

    /// Joins those who wait for the value, or loads it for them.
    async fn find(&self, key: &Key, load: impl Future<Output = Result<Vec<u8>>>) -> Result<Arc<Copy>> {
        let now = self.clock.now();
        let (seat, known) = {
            let mut flights = self.flights();
            let known = self.here.get(key).filter(|copy| self.is_usable(copy.loaded_at, now));
            if let Some(copy) = known.as_ref().filter(|copy| now < copy.ask_at) {
                return Ok(Arc::clone(copy));
            }
            let waiting = flights.entry(key.clone()).or_default();
            waiting.n += 1;
            (Seat { values: self, key, flight: Arc::clone(&waiting.flight) }, known)
        };
        let flight = &seat.flight;
        let mut turn = match &known {
            None => flight.turn.lock().await,
            Some(copy) => match flight.turn.try_lock() {
                Ok(turn) => turn,
                Err(_) => return Ok(Arc::clone(copy)),
            },
        };
        if let Some(outcome) = &turn.outcome {
            return outcome.as_ref().map(Arc::clone).map_err(|error| again(error));
        }
        match self.lead(key, known, load).await {
            Ok((copy, standing)) => {
                self.land(key, flight, (standing == Standing::Good).then_some(&copy));
                turn.outcome = Some(Ok(Arc::clone(&copy)));
                Ok(copy)
            }
            Err(error) => {
                turn.n_failed += 1;
                if turn.n_failed == TRIES {
                    self.land(key, flight, None);
                    turn.outcome = Some(Err(Arc::new(again(&error))));
                }
                Err(error)
            }
        }
    }

    /// Looks in Redis and loads. `known` is the old value of this process.
    async fn lead(
        &self,
        key: &Key,
        known: Option<Arc<Copy>>,
        load: impl Future<Output = Result<Vec<u8>>>,
    ) -> Result<(Arc<Copy>, Standing)> {
        let (generations, known) = match self.look(key, known).await {
            Look::Found(copy) => return Ok((copy, Standing::Good)),
            Look::Load { generations, known } => (generations, known),
        };
        let number = self.n_loads.fetch_add(1, Ordering::Relaxed);
        let loaded = load.await;
        let now = self.clock.now();
        let locked = self.shelf.as_ref().zip(generations.as_deref());
        let bytes = match loaded {
            Ok(bytes) => bytes,
            Err(error) => {
                if let Some((shelf, generations)) = locked {
                    // Else the lock ends by itself.
                    let _ = shelf.release(key, generations).await;
                }
                let Some(known) = known else { return Err(error) };
                return Ok((Arc::new(known.believed(self.next_try(known.loaded_at, now))), Standing::Good));
            }
        };
        let Some((shelf, generations)) = locked else {
            let copy =
                Copy { bytes: bytes.into(), loaded_at: now, mark: String::new(), shared: false, ask_at: self.end(now) };
            return Ok((Arc::new(copy), Standing::Good));
        };
        let kept = Kept { loaded_at: now, mark: shelf.mark(number), bytes };
        let shared = kept.bytes.len() <= MAX_SHARED;
        let told =
            if shared { shelf.keep(key, generations, &kept).await } else { shelf.release(key, generations).await };
        let ask_at = if shared { self.next_look(now, now) } else { self.end(now) };
        let copy =
            Copy { bytes: kept.bytes.into(), loaded_at: now, mark: kept.mark, shared: shared && told.is_ok(), ask_at };
        let standing = if matches!(told, Ok(false)) { Standing::Invalidated } else { Standing::Good };
        Ok((Arc::new(copy), standing))
    }

    /// What other processes know of a value, as soon as it is known who loads it.
    async fn look(&self, key: &Key, mut known: Option<Arc<Copy>>) -> Look {
        let Some(shelf) = &self.shelf else { return Look::Load { generations: None, known } };
        loop {
            let now = self.clock.now();
            let mark = known.as_ref().map_or("", |copy| &copy.mark);
            let Ok(seen) = shelf.look(key, now.before(self.terms.ttl), mark).await else {
                return match known {
                    Some(copy) if now < self.end(copy.loaded_at) => {
                        Look::Found(Arc::new(copy.believed(self.next_look(copy.loaded_at, now))))
                    }
                    known => Look::Load { generations: None, known },
                };
            };
            let ask_at = |loaded_at| match seen.state {
                State::Fresh => self.next_look(loaded_at, now),
                State::Wait | State::Load => self.next_try(loaded_at, now),
            };
            known = match (seen.kept, known) {
                (Some(kept), Some(copy)) if kept.mark == copy.mark => {
                    Some(Arc::new(copy.believed(ask_at(kept.loaded_at))))
                }
                (Some(kept), _) if self.is_usable(kept.loaded_at, now) => Some(Arc::new(Copy {
                    ask_at: ask_at(kept.loaded_at),
                    bytes: kept.bytes.into(),
                    loaded_at: kept.loaded_at,
                    mark: kept.mark,
                    shared: true,
                })),
                // What Redis had and no longer has is invalid.
                (_, copy) => copy.filter(|copy| !copy.shared),
            };
            match (seen.state, known) {
                (State::Load, known) => return Look::Load { generations: Some(seen.generations), known },
                (_, Some(copy)) => return Look::Found(copy),
                (_, None) => known = None,
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ends a flight; its value is kept unless it was invalidated meanwhile.
    fn land(&self, key: &Key, flight: &Arc<Flight>, copy: Option<&Arc<Copy>>) {
        let mut flights = self.flights();
        if flights.get(key).is_some_and(|current| Arc::ptr_eq(&current.flight, flight)) {
            flights.remove(key);
            if let Some(copy) = copy {
                self.here.insert(key.clone(), Arc::clone(copy));
            }
        }
    }

    fn value(&self, copy: &Copy) -> Value {
        Value { bytes: Arc::clone(&copy.bytes), stale: self.clock.now() >= self.end(copy.loaded_at) }
    }

    /// When a value that was loaded then is no longer fresh.
    fn end(&self, loaded_at: Timestamp) -> Timestamp {
        loaded_at.after(self.terms.ttl)
    }

    fn next_look(&self, loaded_at: Timestamp, now: Timestamp) -> Timestamp {
        self.end(loaded_at).min(now.after(BELIEVED))
    }

    fn next_try(&self, loaded_at: Timestamp, now: Timestamp) -> Timestamp {
        self.end(loaded_at).after(self.terms.stale).min(now.after(BELIEVED))
    }

    fn is_usable(&self, loaded_at: Timestamp, now: Timestamp) -> bool {
        now < self.end(loaded_at).after(self.terms.stale)
    }

    fn flights(&self) -> MutexGuard<'_, HashMap<Key, Waiting>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a look in Redis ends.
enum Look {
    Found(Arc<Copy>),
    /// Not found. With generations, the lock is ours. What is `known` may be given out if it cannot be loaded.
    Load {
        generations: Option<String>,
        known: Option<Arc<Copy>>,
    },
}

/// Whether a value that was just loaded may be kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Good,
    Invalidated,
}

impl Copy {
    /// The same until another time.
    fn believed(&self, ask_at: Timestamp) -> Self {
        Self {
            bytes: Arc::clone(&self.bytes),
            loaded_at: self.loaded_at,
            mark: self.mark.clone(),
            shared: self.shared,
            ask_at,
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut flights = self.values.flights();
        let Some(waiting) = flights.get_mut(self.key) else { return };
        if Arc::ptr_eq(&waiting.flight, &self.flight) {
            waiting.n -= 1;
            if waiting.n == 0 {
                flights.remove(self.key);
            }
        }
    }
}

/// The same failure for somebody else.
fn again(error: &Error) -> Error {
    let copy = Error::new(error.code(), error.reason().to_owned(), error.message().to_owned());
    match error.delay() {
        Some(delay) => copy.retry_after(delay),
        None => copy,
    }
}
