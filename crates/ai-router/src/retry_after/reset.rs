//! When a provider's day ends.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The rule of California's clock since 2007, so that no time zone database is needed.
const PACIFIC: &str = "PST8PDT,M3.2.0,M11.1.0";

/// Google counts its days in California.
pub(super) fn until_pacific_midnight(now_s: i64) -> Option<Duration> {
    until_midnight(now_s, &TimeZone::posix(PACIFIC).ok()?)
}

/// Most others count in UTC.
pub(super) fn until_utc_midnight(now_s: i64) -> Option<Duration> {
    until_midnight(now_s, &TimeZone::UTC)
}

fn until_midnight(now_s: i64, zone: &TimeZone) -> Option<Duration> {
    let now = Timestamp::from_second(now_s).ok()?;
    let tomorrow = now.to_zoned(zone.clone()).date().tomorrow().ok()?;
    let midnight = tomorrow.to_zoned(zone.clone()).ok()?.timestamp();
    Duration::try_from(midnight.duration_since(now)).ok()
}
