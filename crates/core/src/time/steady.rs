//! The time of this process. It goes on evenly although somebody sets the clock of the machine: nothing is due an hour early,
//! and nothing waits an hour.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Smaller corrections are ordinary, and are followed at once. Microseconds, as everything here.
const ORDINARY: i64 = 2_000_000;
/// So small a difference comes from reading two clocks one after the other.
const READING: i64 = 1_000;
/// How often a clock that was set is followed by a piece.
const FOLLOW: i64 = 1_000_000;
/// A clock that is wrong by more had never been set, or stood still with the whole machine: it is followed at once.
const DAY: i64 = 24 * 60 * 60 * 1_000_000;

static STEADY: LazyLock<Steady> = LazyLock::new(|| Steady::new(wall() - passed()));

/// Microseconds since 1970.
pub(super) fn now() -> i64 {
    STEADY.at(passed(), wall())
}

/// Microseconds since the machine was started, those in which it slept included.
fn passed() -> i64 {
    let time = clock_gettime(ClockId::Boottime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

#[expect(clippy::disallowed_methods, reason = "this is the home of the system clock")]
fn wall() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

struct Steady {
    /// The time when nothing had passed.
    origin: AtomicI64,
    followed_at: AtomicI64,
}

impl Steady {
    fn new(origin: i64) -> Self {
        Self { origin: AtomicI64::new(origin), followed_at: AtomicI64::new(0) }
    }

    /// The time when so much has passed and the machine says that it is `wall`. A clock that was set is followed in small
    /// pieces: time goes twice or half as fast, until the difference is an ordinary one.
    fn at(&self, passed: i64, wall: i64) -> i64 {
        let steady = passed.saturating_add(self.origin.load(Ordering::Relaxed));
        let ahead = wall.saturating_sub(steady);
        if ahead.saturating_abs() < ORDINARY || ahead.saturating_abs() > DAY {
            if ahead.abs() > READING {
                self.origin.fetch_add(ahead, Ordering::Relaxed);
            }
            return wall;
        }
        let followed_at = self.followed_at.load(Ordering::Relaxed);
        let due = passed.saturating_sub(followed_at) >= FOLLOW;
        // One of several threads follows.
        if !due || self.followed_at.compare_exchange(followed_at, passed, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return steady;
        }
        let piece = ahead.clamp(-FOLLOW / 2, FOLLOW);
        self.origin.fetch_add(piece, Ordering::Relaxed);
        steady + piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3_600 * SECOND;
    const START: i64 = 1_763_629_200 * SECOND;

    #[test]
    fn time_goes_on_evenly_although_the_clock_of_the_machine_is_set() {
        for jump in [-HOUR, HOUR, 600 * SECOND] {
            let steady = Steady::new(START);
            let mut last = steady.at(0, START);

            for passed in (1..=8 * HOUR / SECOND).map(|seconds| seconds * SECOND) {
                let now = steady.at(passed, START + passed + jump);

                // The last piece is an ordinary correction.
                let slack = if now == START + passed + jump { ORDINARY } else { 0 };
                let moved = now - last;
                assert!(
                    (SECOND / 2 - slack..=2 * SECOND + slack).contains(&moved),
                    "{jump}: by {moved} after {passed}"
                );
                last = now;
            }
            assert_eq!(last, START + 8 * HOUR + jump, "in the end it is the time of the machine");
        }
    }

    #[test]
    fn small_corrections_are_followed_at_once() {
        let steady = Steady::new(START);

        let times = [
            steady.at(SECOND, START + SECOND),
            steady.at(2 * SECOND, START + 3 * SECOND),
            steady.at(2 * SECOND, START + 2 * SECOND),
        ];

        assert_eq!(times, [START + SECOND, START + 3 * SECOND, START + 2 * SECOND]);
    }

    #[test]
    fn a_clock_that_had_never_been_set_is_followed_at_once() {
        let steady = Steady::new(0);

        assert_eq!(steady.at(SECOND, START), START);
        assert_eq!(steady.at(2 * SECOND, START + SECOND), START + SECOND);
    }
}
