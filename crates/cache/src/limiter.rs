//! One call for every limit, whoever counts it. Limits of one process are decided without waiting.

use std::time::Duration;

use manifold_core::{Code, Error, Result, Timestamp};

use crate::lease::{Granted, Leases, Next, Terms};
use crate::local::Local;
use crate::policy::{Mode, OnStoreFailure, Policy};
use crate::redis::Redis;
use crate::take::take;

/// What becomes of a charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Admitted {
        /// Units that may follow at once.
        remaining: u64,
        /// Until everything has come back.
        reset: Duration,
    },
    /// Stop.
    Denied {
        /// When the same charge passes. Never, if it is larger than the burst.
        retry_after: Duration,
    },
}

impl Decision {
    /// Times in microseconds, as in all arithmetic.
    pub(crate) fn admitted(remaining: u64, reset: u64) -> Self {
        Self::Admitted { remaining, reset: Duration::from_micros(reset) }
    }

    pub(crate) fn denied(wait: u64) -> Self {
        Self::Denied { retry_after: Duration::from_micros(wait) }
    }
}

/// What becomes of a charge, and who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Go on or stop.
    pub decision: Decision,
    /// A shared limit was decided by this process alone, because the store is away.
    pub degraded: bool,
}

/// What several processes count with.
#[derive(Clone)]
pub struct Shared {
    /// Where the counts are.
    pub redis: Redis,
    /// Processes that count together: decides the size of leases, and of each one's share while Redis is away.
    pub replicas: u32,
}

/// Counts what keys spend.
///
/// More than a policy grants is admitted in any window by at most: nothing, if it is local (per process) or strict;
/// [`Policy::max_lease`] per process, if it is leased. While Redis is away, a policy with [`OnStoreFailure::Deny`] keeps
/// these bounds; with [`OnStoreFailure::Local`] each process admits its share, whatever was spent before.
pub struct Limiter {
    local: Local,
    leases: Leases,
    shared: Option<Shared>,
}

impl Limiter {
    /// Room for `max_keys` active keys in this process. Without `shared`, limits that are not local find their store
    /// away.
    pub fn new(max_keys: usize, shared: Option<Shared>) -> Self {
        Self { local: Local::new(max_keys), leases: Leases::new(max_keys), shared }
    }

    /// Spends `n` units of what `policy` grants to `key`, which is an id of ours and thus random in its lowest bits.
    ///
    /// # Errors
    /// `TEMPORARY_REDUCED_CAPACITY` if the limit is shared, its store is away, and the policy says not to go on without.
    pub async fn charge(&self, policy: &Policy, key: u128, n: u64, now: Timestamp) -> Result<Charge> {
        let alone = || Ok(Charge { decision: self.local.charge(policy, key, n, now), degraded: false });
        let micros = u64::try_from(now.micros()).unwrap_or(0);
        match policy.mode() {
            Mode::Local => alone(),
            // The largest charge that can ever pass is known without asking.
            _ if n > policy.burst() => alone(),
            // Boxed, so that the future of a request that asks nobody stays small.
            Mode::Strict => Box::pin(self.ask(policy, key, n, None, now)).await,
            Mode::Leased => match self.leases.pay(key ^ policy.salt(), self.terms(policy), n, micros) {
                Next::Paid(decision) => Ok(Charge { decision, degraded: false }),
                Next::Fetch(units) => Box::pin(self.ask(policy, key, n, Some(units), now)).await,
                Next::Bypass => Box::pin(self.ask(policy, key, n, None, now)).await,
            },
        }
    }

    /// Spends `n` units of the shared count. With `fetch`, takes so many of them, and what is left becomes a stock.
    async fn ask(&self, policy: &Policy, key: u128, n: u64, fetch: Option<u64>, now: Timestamp) -> Result<Charge> {
        let Some(shared) = &self.shared else { return self.without_store(policy, key, n, now) };
        let Ok(taken) = take(&shared.redis, policy, key, fetch.unwrap_or(n), n).await else {
            return self.without_store(policy, key, n, now);
        };
        if taken.granted < n {
            return Ok(Charge { decision: Decision::denied(taken.wait), degraded: false });
        }
        let left = taken.remaining + taken.granted - n;
        if fetch.is_some() {
            let granted = Granted { units: taken.granted, remaining: taken.remaining, reset: taken.reset };
            let micros = u64::try_from(now.micros()).unwrap_or(0);
            self.leases.stock(key ^ policy.salt(), self.terms(policy), n, granted, micros);
        }
        Ok(Charge { decision: Decision::admitted(left, taken.reset), degraded: false })
    }

    fn without_store(&self, policy: &Policy, key: u128, n: u64, now: Timestamp) -> Result<Charge> {
        match policy.on_store_failure() {
            OnStoreFailure::Local => {
                let share = policy.share(u64::from(self.replicas()));
                Ok(Charge { decision: self.local.charge(&share, key, n, now), degraded: true })
            }
            OnStoreFailure::Deny => Err(away()),
        }
    }

    fn terms(&self, policy: &Policy) -> Terms {
        Terms { max: policy.max_lease(self.replicas()), ttl: policy.lease_ttl() }
    }

    fn replicas(&self) -> u32 {
        self.shared.as_ref().map_or(1, |shared| shared.replicas.max(1))
    }
}

/// Nobody counts, and the limit may not be exceeded.
pub(crate) fn away() -> Error {
    let message = "what counts this limit is away, and the limit may not be exceeded meanwhile";
    Error::new(Code::Unavailable, "TEMPORARY_REDUCED_CAPACITY", message).retry_after(Duration::from_secs(1))
}
