//! What a limit says.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Error, Result, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Window;
use crate::gcra::Rate;
use crate::window::{self, MONTH, Span};

/// Intervals are whole microseconds, rounded up: up to here that makes a rate slower by one in a hundred at most.
const MAX_PER_SECOND: u128 = 10_000;
/// Longest time that a full burst may take to refill: a year.
const MAX_REFILL_MICROS: u128 = 366 * 24 * 3_600 * 1_000_000;

/// The numbers of Lua are exact up to 2^53; products stay below half of it.
const MAX_PRODUCT: u128 = 1 << 52;

/// How spending is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// Units come back one by one, evenly.
    #[default]
    Gcra,
    /// What was spent in the last window, the part before its begin taken as evenly spent.
    Sliding,
    /// Everything comes back when the next window begins.
    Fixed,
}

/// Who counts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Each process for itself; no call ever leaves it.
    #[default]
    Local,
    /// All processes, each taking small stocks from the shared count. More than the limit is admitted by at most one
    /// stock per process.
    Leased,
    /// All processes, with one call per request. Never more than the limit.
    Strict,
}

/// What happens to a shared limit while the store of shared counts is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnStoreFailure {
    /// Each process goes on with its share of the limit.
    #[default]
    Local,
    /// Requests are refused.
    Deny,
}

/// A limit: `quota` units per `window`, of which `burst` may come at once.
#[derive(Clone, Debug)]
pub struct Policy {
    name: Arc<str>,
    quota: u64,
    /// Of a month the longest.
    window: Duration,
    calendar: bool,
    burst: u64,
    rule: Rule,
    salt: u128,
    mode: Mode,
    on_store_failure: OnStoreFailure,
}

/// A policy in the terms of its algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Gcra(Rate),
    Window(Span),
}

/// Milliseconds of the longest month.
const LONGEST_MONTH: u64 = 31 * window::DAY;

impl Policy {
    /// Checks a limit. No burst means that the whole quota may come at once. It is counted by GCRA until told otherwise;
    /// days and months are fixed windows.
    ///
    /// # Errors
    /// `LIMIT_INVALID` if it cannot be counted exactly.
    pub fn new(name: impl Into<Arc<str>>, quota: u64, window: impl Into<Window>, burst: Option<u64>) -> Result<Self> {
        let (length, calendar) = match window.into() {
            Window::Lasting(length) => (length, None),
            Window::Day => (Duration::from_millis(window::DAY), Some(window::DAY)),
            Window::Month => (Duration::from_millis(LONGEST_MONTH), Some(MONTH)),
        };
        let policy = Self::steady(name.into(), quota, length, burst)?;
        let Some(length) = calendar else { return Ok(policy) };
        let policy = policy.counted(Algorithm::Fixed)?;
        Ok(Self { calendar: true, rule: Rule::Window(Span { length, quota, slides: false }), ..policy })
    }

    fn steady(name: Arc<str>, quota: u64, window: Duration, burst: Option<u64>) -> Result<Self> {
        let burst = burst.unwrap_or(quota);
        let micros = window.as_micros();
        if quota == 0 || micros == 0 {
            return Err(invalid(&name, "quota and window must not be zero"));
        }
        if burst == 0 {
            return Err(invalid(&name, "the burst must be at least 1"));
        }
        if u128::from(quota) * 1_000_000 > MAX_PER_SECOND * micros {
            return Err(invalid(
                &name,
                "more than 10,000 per second cannot be counted exactly; choose a lower quota or a longer window",
            ));
        }
        let interval = micros.div_ceil(u128::from(quota));
        let refill = interval * u128::from(burst);
        if refill > MAX_REFILL_MICROS {
            return Err(invalid(&name, "a full burst must refill within a year"));
        }
        let rule = Rule::Gcra(Rate { interval: interval as u64, burst });
        let salt = salt(&name);
        let (mode, on_store_failure) = (Mode::default(), OnStoreFailure::default());
        Ok(Self { name, quota, window, calendar: false, burst, rule, salt, mode, on_store_failure })
    }

    /// The same limit, counted by `algorithm`. Windows know no burst other than the quota; days and months are always fixed.
    ///
    /// # Errors
    /// `LIMIT_INVALID` if that does not go together.
    pub fn counted(mut self, algorithm: Algorithm) -> Result<Self> {
        if self.calendar {
            return match algorithm {
                Algorithm::Fixed => Ok(self),
                _ => Err(invalid(
                    &self.name,
                    "a day or month of the calendar is always `fixed`; leave the algorithm out",
                )),
            };
        }
        let slides = match algorithm {
            Algorithm::Gcra => return Ok(self),
            Algorithm::Sliding => true,
            Algorithm::Fixed => false,
        };
        if self.burst != self.quota {
            return Err(invalid(&self.name, "a sliding or fixed window has no burst; leave it out"));
        }
        let length = self.window.as_millis();
        if self.window.as_nanos() != length * 1_000_000 {
            return Err(invalid(&self.name, "a sliding or fixed window lasts whole milliseconds"));
        }
        let weight = if slides { length } else { 1 };
        if weight * u128::from(self.quota) > MAX_PRODUCT {
            return Err(invalid(&self.name, "the quota of so long a window is too large to be counted exactly"));
        }
        self.rule = Rule::Window(Span { length: length as u64, quota: self.quota, slides });
        Ok(self)
    }

    /// The same limit, counted together with other processes.
    #[must_use]
    pub fn shared(mut self, mode: Mode, on_store_failure: OnStoreFailure) -> Self {
        (self.mode, self.on_store_failure) = (mode, on_store_failure);
        self
    }

    /// What one of `replicas` processes may admit when they cannot count together; at least one unit at once.
    pub(crate) fn share(&self, replicas: u64) -> Self {
        let part = |units: u64| (units / replicas).max(1);
        let rule = match self.rule {
            Rule::Gcra(rate) => Rule::Gcra(Rate { interval: rate.interval * replicas, burst: part(rate.burst) }),
            Rule::Window(span) => Rule::Window(Span { quota: part(span.quota), ..span }),
        };
        Self { rule, ..self.clone() }
    }

    /// Units that one of `replicas` processes may hold in stock: a tenth of its share, at most half a burst and at most
    /// 100.
    pub fn max_lease(&self, replicas: u32) -> u64 {
        let most = (self.burst / 2).clamp(1, 100);
        (self.quota / (10 * u64::from(replicas.max(1)))).clamp(1, most)
    }

    /// How long a stock may be used: a tenth of the window, at most a second.
    pub fn lease_ttl(&self) -> Duration {
        (self.window / 10).min(Duration::from_secs(1))
    }

    /// Who counts together.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What happens while they cannot.
    pub fn on_store_failure(&self) -> OnStoreFailure {
        self.on_store_failure
    }

    /// What it is called in headers and messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Units per window.
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// How long the window is in which `now` lies.
    pub fn window_at(&self, now: Timestamp) -> Duration {
        match self.rule {
            Rule::Window(Span { length: MONTH, .. }) => {
                let now = u64::try_from(now.micros()).unwrap_or(0);
                Duration::from_millis(window::window(MONTH, now / 1_000).1)
            }
            _ => self.window,
        }
    }

    /// Whether every window is as long as the next.
    pub fn is_even(&self) -> bool {
        !matches!(self.rule, Rule::Window(Span { length: MONTH, .. }))
    }

    /// Units that may come at once.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    /// Keeps the keys of different policies apart in this process.
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
            (10_001, second, Some(1)),
            (99_999, second, None),
            (u64::MAX, second, None),
            (1, Duration::from_secs(400 * 24 * 3_600), None),
        ] {
            assert!(Policy::new("burst", quota, window, burst).is_err(), "{quota} {window:?} {burst:?}");
        }
    }

    #[test]
    fn takes_the_quota_as_burst_unless_told() {
        let policy = Policy::new("burst", 10_000, Duration::from_secs(1), None).unwrap();

        assert_eq!(policy.burst(), 10_000);
        assert_eq!(policy.rule(), Rule::Gcra(Rate { interval: 100, burst: 10_000 }));
    }

    #[test]
    fn no_rate_is_slower_than_asked_for_by_more_than_one_in_a_hundred() {
        let rates = (1..=100_000).filter_map(|quota| Policy::new("burst", quota, Duration::from_secs(1), None).ok());
        for policy in rates {
            let Rule::Gcra(Rate { interval, .. }) = policy.rule() else { panic!("counted by GCRA") };

            assert!(interval * policy.quota() <= 1_010_000, "{} per second", policy.quota());
        }
    }

    #[test]
    fn refuses_windows_that_cannot_be_counted_exactly() {
        let day = Duration::from_secs(24 * 3_600);
        for (quota, window, burst) in
            [(10, Duration::from_micros(1_500), None), (10, Duration::from_secs(1), Some(5)), (100_000_000, day, None)]
        {
            let policy = Policy::new("window", quota, window, burst).unwrap();

            assert!(policy.counted(Algorithm::Sliding).is_err(), "{quota} {window:?} {burst:?}");
        }
        assert!(Policy::new("daily", 10_000_000, day, None).unwrap().counted(Algorithm::Sliding).is_ok());
    }

    #[test]
    fn days_and_months_are_fixed_windows_without_burst() {
        let day = Policy::new("daily", 10, Window::Day, None).unwrap();
        let month = Policy::new("monthly", 100_000_000, Window::Month, None).unwrap();
        let february = Timestamp::parse("2024-02-29T23:59:59Z").unwrap();

        assert_eq!(day.rule(), Rule::Window(Span { length: 86_400_000, quota: 10, slides: false }));
        assert_eq!(day.window_at(february), Duration::from_secs(86_400));
        assert_eq!(month.window_at(february), Duration::from_secs(29 * 86_400));
        assert!(month.clone().counted(Algorithm::Fixed).is_ok());
        assert!(month.clone().counted(Algorithm::Gcra).is_err() && day.counted(Algorithm::Sliding).is_err());
        assert!(Policy::new("daily", 10, Window::Day, Some(5)).is_err());
        assert_eq!(month.share(4).rule(), Rule::Window(Span { length: MONTH, quota: 25_000_000, slides: false }));
    }

    #[test]
    fn a_lease_is_a_tenth_of_a_share_and_small() {
        for (quota, burst, replicas, lease) in [
            (600, None, 1, 60),
            (600, None, 3, 20),
            (5, None, 1, 1),
            (9_000, None, 1, 100),
            (600, Some(10), 1, 5),
            (600, Some(1), 1, 1),
        ] {
            let policy = Policy::new("burst", quota, Duration::from_secs(60), burst).unwrap();

            assert_eq!(policy.max_lease(replicas), lease, "{quota} {burst:?} {replicas}");
        }
    }

    #[test]
    fn shares_of_all_processes_are_no_more_than_the_limit() {
        let policy = Policy::new("burst", 90, Duration::from_secs(60), None).unwrap();

        let share = policy.share(3);

        assert_eq!(share.rule(), Rule::Gcra(Rate { interval: 3 * 666_667, burst: 30 }));
    }
}
