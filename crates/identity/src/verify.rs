//! Checking a presented key. A known key costs a checksum, a cache look-up and an HMAC: no SQL, no allocation.
//!
//! A cached key is fresh for five seconds, then it is read again in the background: revocations arrive by their feed
//! and need no reading. While the database is away cached keys go on for the configured grace.

pub mod cache;
pub mod question;
pub mod used;

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Code, Error, KeyId, OwnerId, Principal, Result, ResultExt, SubjectKind, TenantId, Timestamp};
use metrics::Counter;
use subtle::ConstantTimeEq;
use tokio::time::timeout;
use tracing::debug;

use crate::Identity;
use crate::key::format::{Environment, Lookup, parse_key};
use crate::key::pepper::Hash;
use crate::key::restriction::Visit;
use crate::store::key::{self as store, Credential};
use cache::{Known, Standing};

/// How long a cached key is used without a question.
pub(crate) const FRESH: Duration = Duration::from_secs(5);
/// How long a look-up may take, the wait for its turn included.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// Look-ups at the same time: enough to keep the readers busy, too few for a flood of unknown keys to fill the pool.
pub(crate) const LOOKUPS: usize = 8;
/// How often a look-up is repeated because a revocation arrived meanwhile.
pub(crate) const TRIES: usize = 3;
/// What an unknown key is compared with, so that it takes the same time.
const NO_HASH: Hash = [0; 32];

const AWAY: &str = "the database is not available, and this API key is not in the cache";

impl Identity {
    /// Who presents this key, of whose call nothing else is known: restrictions refuse it. As [`Identity::admit`].
    pub async fn authenticate(&self, presented: &str) -> Result<Principal> {
        self.admit(presented, &Visit::default()).await
    }

    /// Who presents this key so. `INVALID_KEY`, `KEY_DISABLED`, `KEY_EXPIRED` and `KEY_RESTRICTED` are the caller's fault;
    /// unavailable means that the key is not cached and the database is away.
    pub async fn admit(&self, presented: &str, visit: &Visit<'_>) -> Result<Principal> {
        let outcome = self.check(presented, visit).await;
        self.inner.outcomes.of(&outcome).increment(1);
        outcome
    }

    async fn check(&self, presented: &str, visit: &Visit<'_>) -> Result<Principal> {
        let now = self.inner.clock.now();
        let known = self.recognise(presented, now).await?;
        if let Err(error) = known.admits(visit, now) {
            self.count_refused(&known.principal, &error, now);
            return Err(error);
        }
        self.inner.used.mark(&known.usage, now);
        Ok(known.principal.clone())
    }

    /// The key whose secret was presented, dead or alive, but no canary. Unknown keys are compared too, so that time tells
    /// nothing.
    async fn recognise(&self, presented: &str, now: Timestamp) -> Result<Arc<Known>> {
        let parsed = parse_key(presented).ok_or_else(invalid)?;
        let known = self.find(parsed.lookup, now).await?;
        let proven = self.is_proven(known.as_deref(), parsed.secret)?;
        let fits = |known: &Arc<Known>| proven && known.environment == parsed.environment && !known.canary;
        known.filter(fits).ok_or_else(invalid)
    }

    /// The key whose secret was presented a moment ago, canaries included, if it is still remembered.
    pub(crate) fn recall(&self, presented: &str) -> Option<Arc<Known>> {
        let parsed = parse_key(presented)?;
        let known = self.inner.cache.find(parsed.lookup)?;
        self.is_proven(Some(&known), parsed.secret).ok()?.then_some(known)
    }

    /// Whether this is the secret of the key. Nobody's takes the same time.
    fn is_proven(&self, known: Option<&Known>, secret: &str) -> Result<bool> {
        let pepper = known.map_or(self.inner.peppers.current(), |known| known.pepper_id);
        let hash = self.inner.peppers.hash(pepper, secret).ok_or_else(|| Error::internal("a pepper is missing"))?;
        Ok(hash.ct_eq(known.map_or(&NO_HASH, |known| &known.hash)).into())
    }

    /// Adds a refusal to the usage of a key.
    fn count_refused(&self, principal: &Principal, error: &Error, now: Timestamp) {
        let outcome = match error.reason() {
            "KEY_DISABLED" => "key_disabled",
            "KEY_EXPIRED" => "key_expired",
            "KEY_RESTRICTED" => "key_restricted",
            _ => return,
        };
        if let Some(key) = principal.key {
            self.inner.used.count(key, principal.tenant, "call", outcome, now);
        }
    }

    /// The key behind a lookup, from the cache if possible; None if there is none.
    async fn find(&self, lookup: Lookup, now: Timestamp) -> Result<Option<Arc<Known>>> {
        let Some(known) = self.inner.cache.find(lookup) else {
            return if self.inner.cache.is_unknown(lookup, now) { Ok(None) } else { self.read(lookup).await };
        };
        let age = known.age(now);
        if age < FRESH {
            return Ok(Some(known));
        }
        if age <= self.inner.grace && self.inner.pulse.heard_within(FRESH, now) {
            self.read_again(lookup, &known);
            return Ok(Some(known));
        }
        match self.read(lookup).await {
            Err(error) if error.code() == Code::Unavailable && age <= self.inner.grace => Ok(Some(known)),
            outcome => outcome,
        }
    }

    /// Reads a cached key again without making anybody wait.
    fn read_again(&self, lookup: Lookup, known: &Known) {
        if self.inner.pulse.is_away() || !known.begin_reading() {
            return;
        }
        let identity = self.clone();
        self.inner.tasks.spawn("identity read key", async move {
            if let Err(error) = identity.read(lookup).await {
                debug!(%error, "cannot read a cached key again");
                // What was cached stays, and the next request may try again.
                if let Some(known) = identity.inner.cache.find(lookup) {
                    known.end_reading();
                }
            }
        });
    }

    /// Reads a key from the database into the cache.
    async fn read(&self, lookup: Lookup) -> Result<Option<Arc<Known>>> {
        if self.inner.pulse.is_away() {
            return Err(away(AWAY));
        }
        let found = timeout(LOOKUP_TIMEOUT, self.read_in_turn(lookup)).await;
        found.map_err(|_| away(AWAY)).and_then(|found| found)
    }

    async fn read_in_turn(&self, lookup: Lookup) -> Result<Option<Arc<Known>>> {
        let _turn = self.inner.lookups.acquire().await.or_err(Code::Internal, "wait for a look-up")?;
        let now = self.inner.clock.now();
        // Whoever had the turn before may have asked for the same key.
        if let Some(known) = self.inner.cache.find(lookup).filter(|known| known.age(now) < FRESH) {
            return Ok(Some(known));
        }
        for _ in 0..TRIES {
            let epoch = self.inner.cache.epoch();
            let Some(row) = store::find_credential(&self.inner.db, lookup).await? else {
                self.inner.cache.remember_unknown(lookup, now);
                return Ok(None);
            };
            let known = Arc::new(known(lookup, row, now)?);
            if self.inner.cache.remember(lookup, &known, epoch) {
                return Ok(Some(known));
            }
        }
        Err(away(AWAY))
    }
}

/// What the cache keeps of a row.
fn known(lookup: Lookup, row: Credential, read_at: Timestamp) -> Result<Known> {
    let (key, tenant) = (KeyId(row.id), TenantId(row.tenant_id));
    let hash = row.hash.try_into().map_err(|_| Error::internal("the hash of an API key has another length"))?;
    let environment = Environment::parse(&row.environment);
    let environment = environment.ok_or_else(|| Error::internal("an API key has an unknown environment"))?;
    let standing = match (row.tenant_state.as_str(), row.state.as_str(), row.secret_state.as_str()) {
        (_, _, "revoked") => Standing::Ended,
        ("active", "active", _) => Standing::Active,
        (_, "active", _) => Standing::Suspended,
        _ => Standing::Ended,
    };
    let ends = [row.expires_at, row.secret_expires_at].into_iter().flatten().map(Timestamp::from);
    let principal = Principal {
        tenant,
        subject: key.to_string().into(),
        kind: SubjectKind::Key,
        key: Some(key),
        permissions: row.grants.0.into(),
        environment: environment.name().into(),
        owner: row.owner_id.map(OwnerId),
        metered: row.credits.is_some(),
        ..Principal::anonymous()
    };
    Ok(Known {
        hash,
        pepper_id: row.pepper_id,
        environment,
        standing,
        expires_at: ends.clone().min(),
        ended_at: ends.chain(row.revoked_at.map(Timestamp::from)).min(),
        canary: row.canary,
        fence: row.restrictions.0.fence()?,
        usage: used::Usage::new(lookup, key, tenant),
        principal,
        read_at,
        reading: false.into(),
    })
}

/// Counts what came of the checks.
pub(crate) struct Outcomes {
    valid: Counter,
    invalid: Counter,
    disabled: Counter,
    expired: Counter,
    restricted: Counter,
    failed: Counter,
}

impl Outcomes {
    /// Counters of the exporter that is installed now.
    pub fn new() -> Self {
        let counter = |outcome: &'static str| metrics::counter!("manifold_key_checks_total", "outcome" => outcome);
        Self {
            valid: counter("valid"),
            invalid: counter("invalid"),
            disabled: counter("disabled"),
            expired: counter("expired"),
            restricted: counter("restricted"),
            failed: counter("failed"),
        }
    }

    fn of(&self, outcome: &Result<Principal>) -> &Counter {
        match outcome.as_ref().map_err(Error::reason) {
            Ok(_) => &self.valid,
            Err("INVALID_KEY") => &self.invalid,
            Err("KEY_DISABLED" | "TENANT_SUSPENDED") => &self.disabled,
            Err("KEY_EXPIRED") => &self.expired,
            Err("KEY_RESTRICTED") => &self.restricted,
            Err(_) => &self.failed,
        }
    }
}

fn invalid() -> Error {
    Error::new(Code::Unauthenticated, "INVALID_KEY", "this API key is not valid")
}

pub(crate) fn away(message: &'static str) -> Error {
    Error::new(Code::Unavailable, "STORE_UNAVAILABLE", message).retry_after(Duration::from_secs(1))
}
