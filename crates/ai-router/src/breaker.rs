//! Cooldown of one candidate: closed, open for a while, then one probe at a time until two have succeeded.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use manifold_core::Timestamp;

const FIRST_OPEN: Duration = Duration::from_secs(15);
const LONGEST_OPEN: Duration = Duration::from_secs(600);
const PROBE_LIFE: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(60);
const IN_A_ROW: u32 = 3;
const AT_LEAST: u32 = 10;

/// Whether a candidate may be tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Open,
    /// Not before this time, because it failed.
    Failing(Timestamp),
    /// Not before this time, because the provider said so.
    Told(Timestamp),
}

/// State of one candidate. Checked and changed under a lock that is held for a few instructions.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    window_start: Timestamp,
    calls: u32,
    failures: u32,
    in_a_row: u32,
    /// Open until then; None = closed.
    open_until: Option<Timestamp>,
    open_for: Duration,
    /// When the running probe began.
    probe: Option<Timestamp>,
    probes_passed: u32,
    /// The provider told us to stay away until then.
    told_until: Option<Timestamp>,
}

impl Breaker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request would be admitted now, without taking the probe's place.
    pub fn peek(&self, now: Timestamp) -> Admission {
        self.state().peek(now)
    }

    /// Admits a request; while half open only one at a time.
    pub fn admit(&self, now: Timestamp) -> Admission {
        let mut state = self.state();
        let admission = state.peek(now);
        if admission == Admission::Open && state.open_until.is_some() {
            state.probe = Some(now);
        }
        admission
    }

    /// The provider answered.
    pub fn success(&self, now: Timestamp) {
        let mut state = self.state();
        state.count(now);
        state.in_a_row = 0;
        if state.open_until.is_some() {
            state.probe = None;
            state.probes_passed += 1;
            if state.probes_passed >= 2 {
                *state = State::default();
            }
        }
    }

    /// The provider failed in a way that says something about its health.
    pub fn failure(&self, now: Timestamp) {
        let mut state = self.state();
        state.count(now);
        state.failures += 1;
        state.in_a_row += 1;
        let half_open = state.open_until.is_some();
        let mostly_failing = state.calls >= AT_LEAST && state.failures * 2 >= state.calls;
        if half_open || state.in_a_row >= IN_A_ROW || mostly_failing {
            state.open(now);
        }
    }

    /// The provider told how long to stay away.
    pub fn block(&self, until: Timestamp) {
        let mut state = self.state();
        state.told_until = state.told_until.max(Some(until));
    }
}

impl State {
    fn peek(&self, now: Timestamp) -> Admission {
        if let Some(until) = self.told_until.filter(|until| *until > now) {
            return Admission::Told(until);
        }
        let Some(until) = self.open_until else {
            return Admission::Open;
        };
        if until > now {
            return Admission::Failing(until);
        }
        match self.probe.map(|begun| begun.after(PROBE_LIFE)) {
            Some(dead_at) if dead_at > now => Admission::Failing(dead_at),
            _ => Admission::Open,
        }
    }

    fn count(&mut self, now: Timestamp) {
        if now.since(self.window_start) > WINDOW {
            (self.window_start, self.calls, self.failures) = (now, 0, 0);
        }
        self.calls += 1;
    }

    fn open(&mut self, now: Timestamp) {
        self.open_for = if self.open_for.is_zero() { FIRST_OPEN } else { (self.open_for * 2).min(LONGEST_OPEN) };
        self.open_until = Some(now.after(jittered(self.open_for, now)));
        (self.probe, self.probes_passed, self.in_a_row, self.calls, self.failures) = (None, 0, 0, 0, 0);
    }
}

/// ±10 %, taken from the microseconds of the moment, so that replicas do not come back together.
fn jittered(duration: Duration, now: Timestamp) -> Duration {
    let percent = 90 + u32::try_from(now.micros().rem_euclid(21)).unwrap_or(0);
    duration * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_763_629_200_000_000);

    fn opened() -> Breaker {
        let breaker = Breaker::default();
        for _ in 0..3 {
            breaker.failure(NOW);
        }
        breaker
    }

    #[test]
    fn opens_after_three_failures_in_a_row() {
        let breaker = Breaker::default();
        breaker.failure(NOW);
        breaker.failure(NOW);
        breaker.success(NOW);
        breaker.failure(NOW);
        breaker.failure(NOW);
        assert_eq!(breaker.peek(NOW), Admission::Open);

        breaker.failure(NOW);

        assert!(
            matches!(breaker.peek(NOW), Admission::Failing(until) if until.since(NOW) >= Duration::from_millis(13_500))
        );
    }

    #[test]
    fn opens_when_half_of_ten_fail() {
        let breaker = Breaker::default();
        for _ in 0..5 {
            breaker.success(NOW);
            breaker.failure(NOW);
        }

        assert!(matches!(breaker.peek(NOW), Admission::Failing(_)));
    }

    #[test]
    fn lets_one_probe_through_and_closes_after_two() {
        let breaker = opened();
        let later = NOW.after(Duration::from_secs(20));

        assert_eq!(breaker.admit(later), Admission::Open);
        assert!(matches!(breaker.admit(later), Admission::Failing(_)));
        breaker.success(later);
        assert_eq!(breaker.admit(later), Admission::Open);
        breaker.success(later);

        assert_eq!((breaker.admit(later), breaker.admit(later)), (Admission::Open, Admission::Open));
    }

    #[test]
    fn a_lost_probe_is_dead_after_thirty_seconds() {
        let breaker = opened();
        let later = NOW.after(Duration::from_secs(20));
        breaker.admit(later);

        assert_eq!(breaker.admit(later.after(Duration::from_secs(31))), Admission::Open);
    }

    #[test]
    fn a_failed_probe_doubles_the_wait_up_to_ten_minutes() {
        let breaker = opened();
        let mut now = NOW;
        for _ in 0..10 {
            now = now.after(Duration::from_secs(700));
            breaker.failure(now);
        }

        assert!(
            matches!(breaker.peek(now), Admission::Failing(until) if until.since(now) <= Duration::from_secs(660) && until.since(now) >= Duration::from_secs(540))
        );
    }

    #[test]
    fn stays_away_as_long_as_told() {
        let breaker = Breaker::default();
        let until = NOW.after(Duration::from_secs(5));

        breaker.block(until);

        assert_eq!(breaker.peek(NOW), Admission::Told(until));
        assert_eq!(breaker.peek(until), Admission::Open);
    }
}
