//! Charging the limits that a key and its owner were given, when somebody else asks about the key.

use std::time::Duration;

use manifold_cache::Decision;
use manifold_core::{Principal, Result, Timestamp};

use super::Limited;
use crate::Identity;

/// What is left of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// As headers show it, such as `key/minute`.
    pub name: String,
    /// Uses that may follow at once.
    pub remaining: u64,
    /// Until everything has come back; of a limit that refuses, until the next use passes.
    pub reset: Duration,
}

impl Identity {
    /// Charges one use of a key to the limits that were given to it and to its owner, where its requests are counted, too: one
    /// after the other, until one refuses, which is the last then. Those of the tenant are for who asks, and charged at the door.
    ///
    /// # Errors
    /// `TEMPORARY_REDUCED_CAPACITY` if a shared limit cannot be counted and may not be exceeded.
    pub(crate) async fn charge_key(&self, key: &Principal, now: Timestamp) -> Result<(Passed, Vec<LimitState>)> {
        let mut states = Vec::new();
        for own in self.limits_of(key).iter().filter(|own| own.of != Limited::Tenant) {
            for policy in &*own.policies {
                let charge = self.inner.limiter.charge(policy, own.counter, 1, now).await?;
                let (passed, remaining, reset) = match charge.decision {
                    Decision::Admitted { remaining, reset } => (Passed::Yes, remaining, reset),
                    Decision::Denied { retry_after } => (Passed::No, 0, retry_after),
                };
                states.push(LimitState { name: policy.name().to_owned(), remaining, reset });
                if passed == Passed::No {
                    return Ok((Passed::No, states));
                }
            }
        }
        Ok((Passed::Yes, states))
    }
}

/// Whether all limits let a use pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    Yes,
    No,
}
