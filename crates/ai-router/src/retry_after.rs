//! When to ask again: every place and every form in which providers say so. Absurd values are ignored.

mod form;
mod reset;

use std::time::Duration;

use http::HeaderMap;

use crate::classify::body::Body;
use crate::classify::{Class, Limits};
use form::{delay, delay_in_text};

/// Which kind of limit the headers report as used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exhausted {
    /// None is reported at zero.
    Unknown,
    /// Only limits of less than an hour.
    Short,
    /// A limit of an hour or longer.
    Long,
}

/// The wait that an answer asks for. `now_s` = seconds since 1970; without it absolute times are not understood.
pub(crate) fn told(headers: &HeaderMap, body: &Body, now_s: Option<i64>, class: Class) -> Option<Duration> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let inner = |name: &str| body.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let explicit = milliseconds(header("retry-after-ms"))
        .or_else(|| header("retry-after").and_then(|text| delay(text, now_s)))
        .or_else(|| inner("retry-after").and_then(|text| delay(text, now_s)));
    if explicit.is_some()
        || !matches!(class, Class::Rate | Class::Quota | Class::Concurrency | Class::Overloaded | Class::Server)
    {
        return explicit;
    }
    day_of(body, now_s, class)
        .or_else(|| delay(&body.retry_delay, now_s))
        .or_else(|| delay_in_text(&body.message))
        .or_else(|| inner("x-ratelimit-reset").and_then(|text| delay(text, now_s)))
        .or_else(|| if class == Class::Server { None } else { from_resets(headers, now_s) })
}

/// Whether the headers report a limit at zero, and of which length.
pub(crate) fn exhausted(headers: &HeaderMap, limits: Limits) -> Exhausted {
    let mut found = Exhausted::Unknown;
    for (dimension, remaining) in remaining(headers) {
        if remaining.parse::<f64>().is_ok_and(|left| left <= 0.0) {
            let long = ["day", "month", "hour", "week"].iter().any(|window| dimension.contains(window))
                || limits == Limits::DailyRequests && dimension == "requests";
            if long {
                return Exhausted::Long;
            }
            found = Exhausted::Short;
        }
    }
    found
}

/// `x-ratelimit-remaining-<dimension>` and its relatives.
fn remaining(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().filter_map(|(name, value)| {
        let (_, dimension) = name.as_str().split_once("ratelimit-remaining")?;
        Some((dimension.trim_start_matches('-'), value.to_str().ok()?.trim()))
    })
}

/// The reset of the limits that are used up; if none says so, the soonest one.
fn from_resets(headers: &HeaderMap, now_s: Option<i64>) -> Option<Duration> {
    let spent = |dimension: &str| {
        remaining(headers).any(|(name, left)| name == dimension && left.parse::<f64>().is_ok_and(|left| left <= 0.0))
    };
    let resets = headers.iter().filter_map(|(name, value)| {
        let (_, dimension) = name.as_str().split_once("ratelimit-reset")?;
        Some((dimension.trim_start_matches('-'), delay(value.to_str().ok()?, now_s)?))
    });
    let (mut of_spent, mut soonest) = (None, None);
    for (dimension, wait) in resets {
        if spent(dimension) {
            of_spent = of_spent.max(Some(wait));
        }
        soonest = Some(soonest.map_or(wait, |known: Duration| known.min(wait)));
    }
    of_spent.or(soonest)
}

/// A day's quota ends with the provider's day, whatever shorter delay is told beside it.
fn day_of(body: &Body, now_s: Option<i64>, class: Class) -> Option<Duration> {
    if class != Class::Quota {
        return None;
    }
    if body.mentions("PerDay") {
        return reset::until_pacific_midnight(now_s?);
    }
    let utc = body.mentions("4006")
        || body.mentions("openrouter_free_tier_daily")
        || body.message.contains("free-models-per-day");
    let told_exactly = body.headers.iter().any(|(name, _)| name == "x-ratelimit-reset");
    if utc && !told_exactly { reset::until_utc_midnight(now_s?) } else { None }
}

fn milliseconds(text: Option<&str>) -> Option<Duration> {
    let milliseconds: f64 = text?.trim().parse().ok()?;
    form::checked(milliseconds / 1_000.0)
}

#[cfg(test)]
#[path = "retry_after/tests.rs"]
mod tests;
