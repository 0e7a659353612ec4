//! What a limit says.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use manifold_core::{Error, Result};

use crate::gcra::Rate;

/// So many units per second can be told apart with times in whole microseconds.
const MAX_PER_SECOND: u128 = 100_000;
/// Longest time that a full burst may take to refill: a year.
const MAX_REFILL_MICROS: u128 = 366 * 24 * 3_600 * 1_000_000;

/// A limit: `quota` units per `window`, of which `burst` may come at once.
#[derive(Clone, Debug)]
pub struct Policy {
    name: String,
    quota: u64,
    window: Duration,
    burst: u64,
    rate: Rate,
    salt: u128,
}

impl Policy {
    /// Checks a limit. No burst means that the whole quota may come at once.
    pub fn new(name: impl Into<String>, quota: u64, window: Duration, burst: Option<u64>) -> Result<Self> {
        let (name, burst) = (name.into(), burst.unwrap_or(quota));
        let micros = window.as_micros();
        if quota == 0 || micros == 0 {
            return Err(invalid(&name, "quota and window must not be zero"));
        }
        if burst == 0 {
            return Err(invalid(&name, "the burst must be at least 1"));
        }
        if u128::from(quota) * 1_000_000 > MAX_PER_SECOND * micros {
            return Err(invalid(&name, "more than 100,000 per second cannot be counted"));
        }
        let interval = micros.div_ceil(u128::from(quota));
        let refill = interval * u128::from(burst);
        if refill > MAX_REFILL_MICROS {
            return Err(invalid(&name, "a full burst must refill within a year"));
        }
        let rate = Rate { interval: interval as u64, burst };
        let salt = salt(&name);
        Ok(Self { name, quota, window, burst, rate, salt })
    }

    /// What it is called in headers and messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Units per window.
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// The window.
    pub fn window(&self) -> Duration {
        self.window
    }

    /// Units that may come at once.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    pub(crate) fn rate(&self) -> Rate {
        self.rate
    }

    /// Keeps the keys of different policies apart.
    pub(crate) fn salt(&self) -> u128 {
        self.salt
    }
}

fn salt(name: &str) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, name).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

fn invalid(name: &str, message: &str) -> Error {
    Error::invalid("LIMIT_INVALID", format!("limit {name:?}: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be_counted() {
        let second = Duration::from_secs(1);
        for (quota, window, burst) in [
            (0, second, None),
            (1, Duration::ZERO, None),
            (1, second, Some(0)),
            (100_001, second, Some(1)),
            (u64::MAX, second, None),
            (1, Duration::from_secs(400 * 24 * 3_600), None),
        ] {
            assert!(Policy::new("burst", quota, window, burst).is_err(), "{quota} {window:?} {burst:?}");
        }
    }

    #[test]
    fn takes_the_quota_as_burst_unless_told() {
        let policy = Policy::new("burst", 100_000, Duration::from_secs(1), None).unwrap();

        assert_eq!(policy.burst(), 100_000);
        assert_eq!(policy.rate(), Rate { interval: 10, burst: 100_000 });
    }
}
