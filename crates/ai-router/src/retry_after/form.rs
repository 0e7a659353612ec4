//! The forms of a delay: `20`, `1.5`, `6m0s`, `120ms`, epoch seconds and milliseconds, RFC 3339, an HTTP date, a sentence.

use std::time::{Duration, UNIX_EPOCH};

/// What is longer is a mistake.
const LONGEST: f64 = 32.0 * 86_400.0;
/// Numbers from here on are seconds since 1970.
const EPOCH_SECONDS: f64 = 1e9;
/// Numbers from here on are milliseconds since 1970.
const EPOCH_MILLISECONDS: f64 = 1e12;
/// What stands before a delay in a sentence, lowercase.
const LEADS: &[&str] = &[
    "try again in ",
    "retry in ",
    "retry after ",
    "try again after ",
    "retrying in ",
    "resets in ",
    "reset in ",
    "reset after ",
    "wait ",
];

/// A delay in any form. Negative, not a number, in the past or beyond 32 days = None.
pub(super) fn delay(text: &str, now_s: Option<i64>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(number) = text.parse::<f64>() {
        return match number {
            number if number >= EPOCH_MILLISECONDS => checked(number / 1_000.0 - seconds(now_s?)),
            number if number >= EPOCH_SECONDS => checked(number - seconds(now_s?)),
            number => checked(number),
        };
    }
    units(text).or_else(|| checked(moment(text)? - seconds(now_s?)))
}

/// A delay inside a sentence.
pub(super) fn delay_in_text(text: &str) -> Option<Duration> {
    let lower = text.to_lowercase();
    let after = LEADS.iter().find_map(|lead| lower.split_once(lead).map(|(_, rest)| rest))?;
    let mut words = after.split_whitespace();
    let first = words.next()?.trim_end_matches(['.', ',', ';', ')', '!']);
    let Ok(number) = first.parse::<f64>() else {
        return units(first);
    };
    let unit = words.next().unwrap_or("seconds").trim_end_matches(['.', ',', ';', ')', '!']);
    checked(number * scale_of_word(unit)?)
}

/// Seconds as a duration, if they make sense.
pub(super) fn checked(seconds: f64) -> Option<Duration> {
    if (0.0..=LONGEST).contains(&seconds) { Duration::try_from_secs_f64(seconds).ok() } else { None }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 stay far below 2^53")]
fn seconds(now_s: i64) -> f64 {
    now_s as f64
}

/// `1h2m3.5s` and `120ms`.
fn units(text: &str) -> Option<Duration> {
    let (mut rest, mut total) = (text, 0.0);
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let tail = &rest[digits..];
        let (unit, scale) = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3_600.0), ("d", 86_400.0)]
            .into_iter()
            .find(|(unit, _)| tail.starts_with(unit))?;
        total += number * scale;
        rest = &tail[unit.len()..];
    }
    checked(total)
}

fn scale_of_word(word: &str) -> Option<f64> {
    match word {
        "ms" | "millisecond" | "milliseconds" => Some(0.001),
        "minute" | "minutes" | "min" | "mins" => Some(60.0),
        "hour" | "hours" => Some(3_600.0),
        "day" | "days" => Some(86_400.0),
        // A number that is followed by the next sentence is in seconds.
        _ => Some(1.0),
    }
}

/// Seconds since 1970 of RFC 3339 or an HTTP date.
fn moment(text: &str) -> Option<f64> {
    if let Ok(timestamp) = text.parse::<jiff::Timestamp>() {
        return Some(timestamp.as_duration().as_secs_f64());
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(UNIX_EPOCH).ok()?.as_secs_f64())
}
