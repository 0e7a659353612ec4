//! Keys that were looked up before, found and not found. Bounded, shared by all requests, in memory only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manifold_core::{Principal, Timestamp};
use moka::sync;

use super::used::Usage;
use crate::key::format::{Environment, Lookup};
use crate::key::pepper::Hash;

const MAX_KEYS: u64 = 100_000;
const MAX_UNKNOWN: u64 = 10_000;
/// How long a lookup that was not found is not looked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);

/// A key of the database.
pub struct Known {
    /// What is stored of its secret.
    pub hash: Hash,
    /// The pepper's version.
    pub pepper_id: i32,
    /// What it is for.
    pub environment: Environment,
    /// Whether it, its secret and its tenant are alive.
    pub standing: Standing,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// Who presents it.
    pub principal: Principal,
    /// Where its uses are noted.
    pub usage: Arc<Usage>,
    /// When it was read.
    pub read_at: Timestamp,
    /// Whether somebody reads it again right now.
    pub reading: AtomicBool,
}

/// Whether a key is alive, apart from its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It works.
    Active,
    /// It was revoked or disabled, or its tenant was.
    Ended,
}

impl Known {
    /// Time since it was read. A clock that was set back makes it old, not young.
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.read_at).max(self.read_at.since(now))
    }

    /// True for the one who shall read it again.
    pub fn begin_reading(&self) -> bool {
        !self.reading.load(Ordering::Relaxed) && !self.reading.swap(true, Ordering::AcqRel)
    }

    /// Lets somebody else try.
    pub fn end_reading(&self) {
        self.reading.store(false, Ordering::Release);
    }
}

/// What look-ups found.
pub struct Cache {
    keys: sync::Cache<Lookup, Arc<Known>>,
    unknown: sync::Cache<Lookup, Timestamp>,
    /// Grows with every revocation. Whoever puts a key in must have read it in the present epoch, or a row read before
    /// a revocation could arrive after it.
    epoch: Mutex<u64>,
}

impl Cache {
    /// Nothing is known.
    pub fn new() -> Self {
        Self { keys: sync::Cache::new(MAX_KEYS), unknown: sync::Cache::new(MAX_UNKNOWN), epoch: Mutex::new(0) }
    }

    /// A key that was found before, however long ago.
    pub fn find(&self, lookup: Lookup) -> Option<Arc<Known>> {
        self.keys.get(&lookup)
    }

    /// Whether the lookup was not found a short while ago.
    pub fn is_unknown(&self, lookup: Lookup, now: Timestamp) -> bool {
        let asked_at = self.unknown.get(&lookup);
        asked_at.is_some_and(|asked_at| asked_at <= now && now.since(asked_at) < UNKNOWN_FOR)
    }

    /// The present epoch; ask before reading.
    pub fn epoch(&self) -> u64 {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a key that was read in `epoch`. False if that epoch is over: it has to be read again.
    pub fn remember(&self, lookup: Lookup, known: &Arc<Known>, epoch: u64) -> bool {
        let present = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        if *present != epoch {
            return false;
        }
        self.keys.insert(lookup, Arc::clone(known));
        true
    }

    /// Keeps that nothing was found.
    pub fn remember_unknown(&self, lookup: Lookup, now: Timestamp) {
        self.keys.invalidate(&lookup);
        self.unknown.insert(lookup, now);
    }

    /// Drops the keys that are `gone`, whoever is reading them now included.
    pub fn forget(&self, gone: impl Fn(&Known) -> bool) {
        self.next_epoch();
        for (lookup, known) in &self.keys {
            if gone(&known) {
                self.keys.invalidate(&*lookup);
            }
        }
    }

    /// Drops everything.
    pub fn forget_all(&self) {
        self.next_epoch();
        self.keys.invalidate_all();
        self.unknown.invalidate_all();
    }

    fn next_epoch(&self) {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
}
