//! Why an event or a job was not done, and how long it rests before it comes again.

use std::time::Duration;

use manifold_core::Error;
use uuid::Uuid;

/// First and longest pause before a failed event comes again.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));

/// Why a handler does not take an event.
#[derive(Debug)]
pub enum Failure {
    /// It may do so later: after this long, or after a pause that grows.
    Retry {
        /// None = 1 s, 2 s, 4 s … 5 min.
        after: Option<Duration>,
        /// Why.
        source: Error,
    },
    /// It never will.
    Dead {
        /// Upper snake case.
        reason: &'static str,
        /// Why.
        source: Error,
    },
}

impl From<Error> for Failure {
    fn from(source: Error) -> Self {
        Self::Retry { after: None, source }
    }
}

impl Failure {
    pub(crate) fn error(&self) -> &Error {
        match self {
            Self::Retry { source, .. } | Self::Dead { source, .. } => source,
        }
    }

    pub(crate) fn into_error(self) -> Error {
        match self {
            Self::Retry { source, .. } | Self::Dead { source, .. } => source,
        }
    }
}

/// How long an event or a job waits that has come `n` times: 1 s, 2 s, 4 s … 5 min, a fifth more or less, told by its id, so that
/// what failed together does not come together.
pub(crate) fn pause(n: i64, event: Uuid) -> Duration {
    let doublings = u32::try_from(n - 1).unwrap_or(0);
    let pause = BACKOFF.0.saturating_mul(2u32.saturating_pow(doublings)).min(BACKOFF.1);
    let share = (event.as_u128() as u32 ^ doublings) % 401;
    pause * (800 + share) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes() {
        let pauses = [1, 2, 3, 9, 10, 40].map(|n| pause(n, Uuid::from_u128(200 ^ (n as u128 - 1))).as_millis());

        assert_eq!(pauses, [1_000, 2_000, 4_000, 256_000, 300_000, 300_000]);
    }

    #[test]
    fn pauses_differ_by_a_fifth_at_most() {
        for event in (0..1_000).map(Uuid::from_u128) {
            assert!((800..=1_200).contains(&pause(1, event).as_millis()));
        }
    }
}
