//! Limits as clients see them: `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use manifold_cache::Policy;
use manifold_core::{Decimal, Timestamp};

use crate::problem::seconds_up;

pub(super) const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
pub(super) const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// Both headers of one answer, as they grow.
#[derive(Debug, Default)]
pub(crate) struct Told {
    policies: String,
    states: String,
}

impl Told {
    /// Adds a limit that applies.
    pub(super) fn policy(&mut self, text: &str) {
        part(&mut self.policies, &[text]);
    }

    /// Adds what is left of a limit: `"key";r=50;t=30`, and a mark if this process counted alone what several should
    /// count together. No reset = nobody knows.
    pub(super) fn state(&mut self, name: &str, remaining: u64, reset: Option<Duration>, degraded: bool) {
        let remaining = Decimal::whole(remaining);
        let mark = if degraded { ";mf-degraded" } else { "" };
        match reset {
            Some(reset) => {
                let reset = Decimal::whole(seconds_up(reset));
                part(&mut self.states, &["\"", name, "\";r=", &remaining, ";t=", &reset, mark]);
            }
            None => part(&mut self.states, &["\"", name, "\";r=", &remaining, mark]),
        }
    }

    /// Moves both headers into an answer.
    pub(crate) fn describe(&mut self, headers: &mut HeaderMap) {
        for (name, text) in [(POLICY, &mut self.policies), (STATE, &mut self.states)] {
            if !text.is_empty() {
                let value = HeaderValue::from_maybe_shared(Bytes::from(std::mem::take(text)));
                headers.insert(name, value.expect("names, digits and quotes are a valid header"));
            }
        }
    }
}

/// `"key";q=600;w=60`
pub(super) fn rate(policy: &Policy, now: Timestamp) -> String {
    format!("\"{}\";q={};w={}", policy.name(), policy.quota(), seconds_up(policy.window_at(now)))
}

/// `"key-concurrent";q=8;qu="concurrent-requests"`
pub(super) fn at_once(name: &str, max: u64) -> String {
    format!("\"{name}\";q={max};qu=\"concurrent-requests\"")
}

/// Appends to a list.
fn part(list: &mut String, pieces: &[&str]) {
    let length: usize = pieces.iter().map(|piece| piece.len()).sum();
    list.reserve_exact(length + 2);
    if !list.is_empty() {
        list.push_str(", ");
    }
    pieces.iter().for_each(|piece| list.push_str(piece));
}
