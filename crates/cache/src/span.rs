//! How long a quota lasts, and how that is written.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use humantime_serde::re::humantime;
use serde::de::{Error as _, Unexpected};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The time in which a quota may be spent. Written `60s`, `day` or `month`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// So long, whenever it begins.
    Lasting(Duration),
    /// A day of UTC.
    Day,
    /// A month of UTC.
    Month,
}

impl Window {
    /// Reads what [`fmt::Display`] writes, and other lengths of time such as `1h 30m`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "day" => Some(Self::Day),
            "month" => Some(Self::Month),
            text => humantime::parse_duration(text).ok().map(Self::Lasting),
        }
    }
}

impl From<Duration> for Window {
    fn from(duration: Duration) -> Self {
        Self::Lasting(duration)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lasting(duration) => write!(formatter, "{}", humantime::format_duration(*duration)),
            Self::Day => formatter.write_str("day"),
            Self::Month => formatter.write_str("month"),
        }
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let expected = &"a duration such as 60s, or day, or month";
        Self::parse(&text).ok_or_else(|| D::Error::invalid_value(Unexpected::Str(&text), expected))
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (text, window, written) in [
            ("60s", Window::Lasting(Duration::from_secs(60)), "1m"),
            ("1h 30m", Window::Lasting(Duration::from_secs(5_400)), "1h 30m"),
            ("1day", Window::Lasting(Duration::from_secs(86_400)), "1day"),
            ("day", Window::Day, "day"),
            ("month", Window::Month, "month"),
        ] {
            assert_eq!(Window::parse(text), Some(window));
            assert_eq!(window.to_string(), written);
            assert_eq!(Window::parse(written), Some(window));
        }
        assert!(["week", "60", "", "-1s"].into_iter().all(|text| Window::parse(text).is_none()));
    }
}
