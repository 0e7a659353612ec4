//! Limits of an API key as clients see them: `RateLimit-Policy` and `RateLimit` of
//! draft-ietf-httpapi-ratelimit-headers-11. The arithmetic is in the cache crate.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use manifold_cache::{Charge, Decision, Entry, Gate, Leaving, Limiter, Place, Policy, Shared};
use manifold_core::{Decimal, Error, KeyId, RequestId, Timestamp};
use tokio::time::Instant;

use crate::config;
use crate::problem::seconds_up;
use crate::refusal::{Answer, Refusal};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
/// Keys that are counted at once; beyond, idle ones are forgotten first.
const MAX_KEYS: usize = 100_000;
/// The limit of requests in time.
const RATE: &str = "key";
/// The limit of requests at once.
const CONCURRENT: &str = "key-concurrent";
/// When a request ends nobody knows, and most end soon.
const NEXT_PLACE: Duration = Duration::from_secs(1);

/// The limits per API key.
pub(crate) struct PerKey {
    rate: Option<(Policy, Limiter)>,
    concurrent: Option<Gate>,
    /// None = it changes with the month.
    policy_header: Option<HeaderValue>,
    max_concurrent: Option<u64>,
}

/// What a caller has left of each limit.
#[derive(Debug)]
pub(crate) struct Left {
    now: Timestamp,
    rate: Option<State>,
    concurrent: Option<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    remaining: u64,
    /// None = nobody knows.
    reset: Option<Duration>,
    degraded: bool,
}

impl Left {
    /// Nothing is known yet of a request that came `now`.
    pub(crate) fn at(now: Timestamp) -> Self {
        Self { now, rate: None, concurrent: None }
    }
}

impl PerKey {
    /// Nothing used yet in this process. `shared` is where limits of several processes are counted. Somebody has to run
    /// what else is returned.
    pub(crate) fn new(limits: config::PerKey, shared: Option<Shared>) -> (Self, Option<Leaving>) {
        let max_concurrent = limits.concurrent.map(|limit| limit.max);
        let even = limits.rate.as_ref().is_none_or(Policy::is_even);
        let policy_header = even.then(|| policies(limits.rate.as_ref(), max_concurrent, Timestamp::default()));
        let (concurrent, leaving) = match (limits.concurrent, &shared) {
            (Some(limit), Some(shared)) if limit.shared => {
                let (gate, leaving) =
                    Gate::shared(CONCURRENT, limit.max, MAX_KEYS, shared.clone(), limit.on_store_failure);
                (Some(gate), Some(leaving))
            }
            (limit, _) => (limit.map(|limit| Gate::local(limit.max, MAX_KEYS)), None),
        };
        let rate = limits.rate.map(|policy| (policy, Limiter::new(MAX_KEYS, shared)));
        (Self { rate, concurrent, policy_header, max_concurrent }, leaving)
    }

    /// Charges one request.
    pub(crate) async fn charge(&self, key: KeyId, left: &mut Left) -> Answer<()> {
        let Some((policy, limiter)) = &self.rate else { return Ok(()) };
        let charged = limiter.charge(policy, key.0.as_u128(), 1, left.now).await;
        count_degraded(RATE, !matches!(charged, Ok(Charge { degraded: false, .. })));
        let Charge { decision, degraded } = charged.map_err(|error| away(error, RATE))?;
        match decision {
            Decision::Admitted { remaining, reset } => {
                left.rate = Some(State { remaining, reset: Some(reset), degraded });
                Ok(())
            }
            Decision::Denied { retry_after } => {
                let wait = spread(retry_after, left.now);
                left.rate = Some(State { remaining: 0, reset: Some(wait), degraded });
                let message = "this API key has made too many requests; wait as long as Retry-After says";
                Err(refuse(message, RATE, wait))
            }
        }
    }

    /// Gives a request its place among those that are answered at once. In Redis it is free again at `until`, whether the
    /// request has ended or not.
    pub(crate) async fn enter(
        &self,
        key: KeyId,
        request: RequestId,
        until: Instant,
        left: &mut Left,
    ) -> Answer<Option<Box<Place>>> {
        let Some(gate) = &self.concurrent else { return Ok(None) };
        let lifetime = until.saturating_duration_since(Instant::now());
        // Boxed, so that the future of a request without this limit stays small.
        let entered = Box::pin(gate.enter(key.0.as_u128(), request.0.as_u128(), lifetime, left.now)).await;
        let degraded = match &entered {
            Ok(Entry::Entered(place)) => place.degraded(),
            Ok(Entry::Full { degraded, .. }) => *degraded,
            Err(_) => true,
        };
        count_degraded(CONCURRENT, degraded);
        match entered.map_err(|error| away(error, CONCURRENT))? {
            Entry::Entered(place) => {
                left.concurrent = Some(State { remaining: place.remaining(), reset: None, degraded });
                Ok(Some(Box::new(place)))
            }
            Entry::Full { retry_after, .. } => {
                let wait = spread(retry_after.min(NEXT_PLACE), left.now);
                left.concurrent = Some(State { remaining: 0, reset: Some(wait), degraded });
                let message = "this API key has too many requests that are being answered; let some of them end first";
                Err(refuse(message, CONCURRENT, wait))
            }
        }
    }

    /// Adds both headers to an answer.
    pub(crate) fn describe(&self, left: &Left, headers: &mut HeaderMap) {
        let policies = match &self.policy_header {
            Some(known) => known.clone(),
            None => policies(self.rate.as_ref().map(|(policy, _)| policy), self.max_concurrent, left.now),
        };
        headers.insert(POLICY, policies);
        let states = [left.rate.map(|state| print(RATE, state)), left.concurrent.map(|state| print(CONCURRENT, state))];
        let text = match states {
            [Some(rate), Some(concurrent)] => [rate, concurrent].join(", "),
            [Some(state), None] | [None, Some(state)] => state,
            [None, None] => return,
        };
        let value = HeaderValue::from_maybe_shared(Bytes::from(text));
        headers.insert(STATE, value.expect("digits and quotes are a valid header"));
    }
}

/// `"key";q=600;w=60, "key-concurrent";q=8;qu="concurrent-requests"`
fn policies(rate: Option<&Policy>, max_concurrent: Option<u64>, now: Timestamp) -> HeaderValue {
    let rate = rate.map(|policy| {
        let window = seconds_up(policy.window_at(now));
        format!("\"{RATE}\";q={};w={window}", policy.quota())
    });
    let concurrent = max_concurrent.map(|max| format!("\"{CONCURRENT}\";q={max};qu=\"concurrent-requests\""));
    let text = rate.into_iter().chain(concurrent).collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(text).expect("digits and quotes are a valid header")
}

/// `"key";r=50;t=30`, and a mark if this process counted alone what several should count together.
fn print(name: &str, state: State) -> String {
    let remaining = Decimal::whole(state.remaining);
    let mark = if state.degraded { ";mf-degraded" } else { "" };
    match state.reset {
        Some(reset) => ["\"", name, "\";r=", &remaining, ";t=", &Decimal::whole(seconds_up(reset)), mark].concat(),
        None => ["\"", name, "\";r=", &remaining, mark].concat(),
    }
}

fn count_degraded(name: &'static str, degraded: bool) {
    if degraded {
        metrics::counter!("manifold_rate_limit_degraded_total", "scope" => name).increment(1);
    }
}

fn refuse(message: &'static str, name: &'static str, wait: Duration) -> Refusal {
    metrics::counter!("manifold_rate_limited_total", "scope" => name).increment(1);
    let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED", message).retry_after(wait);
    Refusal { violated: Some(name), ..refusal }
}

fn away(error: Error, name: &'static str) -> Refusal {
    Refusal { violated: Some(name), ..Refusal::from(error) }
}

/// Up to a tenth or a minute longer, so that those who were refused together do not return together.
fn spread(wait: Duration, now: Timestamp) -> Duration {
    let share = u32::try_from(now.micros().rem_euclid(100)).unwrap_or_default();
    wait + (wait / 1_000 * share).min(Duration::from_secs(60))
}

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
