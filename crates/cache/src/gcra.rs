//! The generic cell rate algorithm in whole microseconds. Pure.
//!
//! The state of a key is one number: the time at which it would have regained everything it spent.

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
    Admit { state: u64, remaining: u64, reset: u64 },
    /// Store nothing. The same charge passes after `wait`.
    Deny { remaining: u64, wait: u64 },
}

/// Decides about spending `n` units at `now`, given the stored state.
pub(crate) fn step(rate: Rate, state: u64, n: u64, now: u64) -> Step {
    let capacity = rate.burst.saturating_mul(rate.interval);
    let state = state.max(now);
    let next = state.saturating_add(n.saturating_mul(rate.interval));
    let ahead = next - now;
    if ahead <= capacity {
        return Step::Admit { state: next, remaining: (capacity - ahead) / rate.interval, reset: ahead };
    }
    Step::Deny { remaining: capacity.saturating_sub(state - now) / rate.interval, wait: ahead - capacity }
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
            let outcome = match step(rate, stored, n, now) {
                Step::Admit { state, remaining, .. } => {
                    stored = state;
                    (true, remaining, 0)
                }
                Step::Deny { remaining, wait } => (false, remaining, wait),
            };

            assert_eq!(outcome, (admit, left, until), "{n} at {now}");
        }
    }

    #[test]
    fn more_than_a_burst_never_passes() {
        let rate = Rate { interval: 10, burst: 3 };

        assert_eq!(step(rate, 0, 4, 100), Step::Deny { remaining: 3, wait: 10 });
        assert!(matches!(step(rate, 0, u64::MAX, 100), Step::Deny { .. }));
    }
}
