//! Keys that were looked up before, found and not found. Bounded, shared by all requests, in memory only.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use manifold_core::{Code, Error, Principal, Result, Timestamp};
use moka::sync;

use super::used::Usage;
use crate::key::format::{Environment, Lookup};
use crate::key::pepper::Hash;
use crate::key::restriction::{Fence, Visit};
use crate::remembered::Remembered;
use crate::tenant;

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
    /// When it ended in whichever way, or will.
    pub ended_at: Option<Timestamp>,
    /// Whether nobody should ever use it.
    pub canary: bool,
    /// From where and for what it may be used; None = from everywhere and for everything.
    pub fence: Option<Box<Fence>>,
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
    /// Its tenant was suspended.
    Suspended,
    /// It was revoked or disabled.
    Ended,
}

impl Known {
    /// Whether it may be used `now`, and so.
    ///
    /// # Errors
    /// `TENANT_SUSPENDED`, `KEY_DISABLED`, `KEY_EXPIRED`, `KEY_RESTRICTED`, in this order.
    pub fn admits(&self, visit: &Visit<'_>, now: Timestamp) -> Result<()> {
        match self.standing {
            Standing::Active => {}
            Standing::Suspended => return Err(tenant::suspended()),
            Standing::Ended => {
                return Err(Error::new(
                    Code::Unauthenticated,
                    "KEY_DISABLED",
                    "this API key was revoked or is disabled",
                ));
            }
        }
        if self.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(Error::new(Code::Unauthenticated, "KEY_EXPIRED", "this API key has expired"));
        }
        if self.fence.as_ref().is_some_and(|fence| !fence.admits(visit)) {
            let message = "this API key may not be used from there, or not for this";
            return Err(Error::new(Code::Denied, "KEY_RESTRICTED", message));
        }
        Ok(())
    }

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
    keys: Remembered<Lookup, Known>,
    unknown: sync::Cache<Lookup, Timestamp>,
}

impl Cache {
    /// Nothing is known.
    pub fn new() -> Self {
        Self { keys: Remembered::new(MAX_KEYS, None), unknown: sync::Cache::new(MAX_UNKNOWN) }
    }

    /// A key that was found before, however long ago.
    pub fn find(&self, lookup: Lookup) -> Option<Arc<Known>> {
        self.keys.find(&lookup)
    }

    /// Whether the lookup was not found a short while ago.
    pub fn is_unknown(&self, lookup: Lookup, now: Timestamp) -> bool {
        let asked_at = self.unknown.get(&lookup);
        asked_at.is_some_and(|asked_at| asked_at <= now && now.since(asked_at) < UNKNOWN_FOR)
    }

    /// The present epoch; ask before reading.
    pub fn epoch(&self) -> u64 {
        self.keys.epoch()
    }

    /// Keeps a key that was read in `epoch`. False if that epoch is over: it has to be read again.
    pub fn remember(&self, lookup: Lookup, known: &Arc<Known>, epoch: u64) -> bool {
        self.keys.remember(lookup, known, epoch)
    }

    /// Keeps that nothing was found.
    pub fn remember_unknown(&self, lookup: Lookup, now: Timestamp) {
        self.keys.remove(&lookup);
        self.unknown.insert(lookup, now);
    }

    /// Drops the keys that are `gone`, whoever is reading them now included.
    pub fn forget(&self, gone: impl Fn(&Known) -> bool) {
        self.keys.forget(gone);
    }

    /// Drops everything.
    pub fn forget_all(&self) {
        self.keys.forget_all();
        self.unknown.invalidate_all();
    }
}

#[cfg(test)]
mod tests {
    use manifold_core::{KeyId, SubjectKind, TenantId};
    use uuid::Uuid;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn known(key: KeyId) -> Arc<Known> {
        let tenant = TenantId(Uuid::nil());
        let principal = Principal {
            tenant,
            subject: "key_x".into(),
            kind: SubjectKind::Key,
            key: Some(key),
            permissions: [].into(),
            environment: "live".into(),
            ..Principal::anonymous()
        };
        Arc::new(Known {
            hash: [0; 32],
            pepper_id: 1,
            environment: Environment::Live,
            standing: Standing::Active,
            expires_at: None,
            ended_at: None,
            canary: false,
            fence: None,
            usage: Usage::new(Lookup::from_random([1; 10]), key, tenant),
            principal,
            read_at: at(100),
            reading: false.into(),
        })
    }

    #[test]
    fn unknown_lookups_are_remembered_for_ten_seconds() {
        let (cache, lookup) = (Cache::new(), Lookup::from_random([1; 10]));

        cache.remember_unknown(lookup, at(100));

        assert!(cache.is_unknown(lookup, at(109)));
        assert!(!cache.is_unknown(lookup, at(110)));
        assert!(!cache.is_unknown(lookup, at(99)));
        assert!(!cache.is_unknown(Lookup::from_random([2; 10]), at(100)));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_keys_old_and_not_young() {
        let known = known(KeyId(Uuid::max()));

        assert_eq!(known.age(at(103)), Duration::from_secs(3));
        assert_eq!(known.age(at(90)), Duration::from_secs(10));
    }

    #[test]
    fn one_reader_at_a_time() {
        let known = known(KeyId(Uuid::max()));

        assert!(known.begin_reading());
        assert!(!known.begin_reading());
        known.end_reading();
        assert!(known.begin_reading());
    }
}
