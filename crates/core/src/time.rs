//! Time as every row stores it, and the clock that tests can move.

mod steady;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Microseconds since 1970-01-01T00:00:00Z. Bound as BIGINT on both database engines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From microseconds since 1970.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Later by `duration`.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Earlier by `duration`.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to `self`; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|time| Self(time.as_microsecond()))
    }
}

/// Reads a length of time in the form of ISO 8601, such as `PT90S`, `PT12H`, `P7D` or `P2W`; days have 24 hours. None for
/// months, years and what is negative.
pub fn parse_iso_duration(text: &str) -> Option<Duration> {
    let span = text.strip_prefix('P').and_then(|_| text.parse::<jiff::Span>().ok())?;
    span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}

/// RFC 3339 in UTC: `2026-11-20T09:00:10.000001Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(formatter, "{time}"),
            Err(_) => write!(formatter, "{}us", self.0),
        }
    }
}

/// Where time comes from. The system's, or one that a test moves by hand. When somebody sets the clock of the machine, the
/// system's goes twice or half as fast until it has followed: leases and pauses hold meanwhile.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        Self(Some(Arc::new(AtomicI64::new(start.0))))
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.0.as_ref().map_or_else(steady::now, |manual| manual.load(Ordering::SeqCst)))
    }

    /// Sets a manual clock, also to an earlier time; the system's ignores it.
    pub fn set(&self, now: Timestamp) {
        if let Some(manual) = &self.0 {
            manual.store(now.0, Ordering::SeqCst);
        }
    }

    /// Moves a manual clock; the system's ignores it.
    pub fn advance(&self, by: Duration) {
        if let Some(manual) = &self.0 {
            manual.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_rfc_3339() {
        let time = Timestamp::from_micros(1_763_629_200_000_001);

        assert_eq!(time.to_string(), "2025-11-20T09:00:00.000001Z");
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
    }

    #[test]
    fn reads_lengths_of_time_of_iso_8601() {
        for (text, seconds) in [
            ("PT90S", Some(90)),
            ("PT1H30M", Some(5_400)),
            ("P7D", Some(604_800)),
            ("P1W", Some(604_800)),
            ("PT0S", Some(0)),
        ] {
            assert_eq!(parse_iso_duration(text).map(|time| time.as_secs()), seconds, "{text}");
        }
        for text in ["", "P", "7d", "P1M", "P1Y", "-P1D", "PT-1S", "P1D ", "3600"] {
            assert_eq!(parse_iso_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(Timestamp::from_micros(0));

        clock.advance(Duration::from_secs(1));

        assert_eq!(clock.now().micros(), 1_000_000);
        assert_eq!(clock.now().since(Timestamp::from_micros(2_000_000)), Duration::ZERO);
    }
}
