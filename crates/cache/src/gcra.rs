//! The generic cell rate algorithm in whole microseconds. Pure, and the same as `gcra.lua`.
//!
//! The state of a key is one number: the time at which it would have regained everything it spent. That is at most one full
//! burst away. A state far beyond was made by a clock that ran ahead, or by a slower policy of the same name: it counts as
//! a burst that has just been spent.

/// Microseconds by which the clocks of those who charge may differ.
pub(crate) const SKEW: u64 = 10_000_000;

/// A policy in the terms of the algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Microseconds in which one unit comes back.
    pub(crate) interval: u64,
    /// Units that may be spent at once.
    pub(crate) burst: u64,
}

/// What becomes of a charge. Times are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Store `state`. Everything has come back after `reset`.
    Admit { state: u64, granted: u64, remaining: u64, reset: u64 },
    /// Store `state`, which is as it was unless the policy cannot have made it. The least that was asked for passes after
    /// `wait`.
    Deny { state: u64, remaining: u64, wait: u64 },
}

/// Decides about spending `want` units at `now`, or fewer but no less than `least`, given the stored state.
/// `gcra.lua` is the same arithmetic.
pub(crate) fn step(rate: Rate, state: u64, want: u64, least: u64, now: u64) -> Step {
    let capacity = rate.burst.saturating_mul(rate.interval);
    let foreign = state > now.saturating_add(capacity).saturating_add(SKEW);
    let state = if foreign { now + capacity } else { state };
    let ahead = state.saturating_sub(now);
    let affordable = capacity.saturating_sub(ahead) / rate.interval;
    if affordable < least {
        let needed = ahead.saturating_add(least.saturating_mul(rate.interval));
        return Step::Deny { state, remaining: affordable, wait: needed - capacity };
    }
    let granted = want.min(affordable);
    let reset = ahead + granted * rate.interval;
    Step::Admit { state: now + reset, granted, remaining: affordable - granted, reset }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_published_vectors() {
        let rate = Rate { interval: 600_000, burst: 3 };
        let vectors = [
            (1_000_000, 1, true, 2, 0),
            (1_000_000, 1, true, 1, 0),
            (1_000_000, 1, true, 0, 0),
            (1_000_000, 1, false, 0, 600_000),
            (1_600_000, 1, true, 0, 0),
            (2_500_000, 2, false, 1, 300_000),
            (2_800_000, 2, true, 0, 0),
        ];
        let mut stored = 0;
        for (now, n, admit, left, until) in vectors {
            let outcome = match step(rate, stored, n, n, now) {
                Step::Admit { state, remaining, .. } => {
                    stored = state;
                    (true, remaining, 0)
                }
                Step::Deny { remaining, wait, .. } => (false, remaining, wait),
            };

            assert_eq!(outcome, (admit, left, until), "{n} at {now}");
        }
    }

    #[test]
    fn more_than_a_burst_never_passes() {
        let rate = Rate { interval: 10, burst: 3 };

        assert_eq!(step(rate, 0, 4, 4, 100), Step::Deny { state: 0, remaining: 3, wait: 10 });
        assert!(matches!(step(rate, 0, u64::MAX, u64::MAX, 100), Step::Deny { .. }));
    }

    #[test]
    fn who_takes_less_gets_what_is_there() {
        let rate = Rate { interval: 10, burst: 3 };

        assert_eq!(step(rate, 110, 9, 1, 100), Step::Admit { state: 130, granted: 2, remaining: 0, reset: 30 });
        assert_eq!(step(rate, 130, 9, 1, 100), Step::Deny { state: 130, remaining: 0, wait: 10 });
    }

    #[test]
    fn a_state_that_the_policy_cannot_have_made_counts_as_a_spent_burst() {
        let (rate, now) = (Rate { interval: 10, burst: 3 }, 100);

        let foreign = step(rate, 86_400_000_000, 1, 1, now);

        assert_eq!(foreign, Step::Deny { state: 130, remaining: 0, wait: 10 });
        assert!(matches!(step(rate, 130, 1, 1, now + 10), Step::Admit { .. }));
    }

    #[test]
    fn a_clock_that_lags_a_little_gives_nothing_back() {
        let (rate, now) = (Rate { interval: 10, burst: 3 }, SKEW);

        let lagging = step(rate, now + 30, 1, 1, 0);

        assert_eq!(lagging, Step::Deny { state: now + 30, remaining: 0, wait: now + 10 });
    }
}
