//! Rate limits as clients see them: `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.
//! The arithmetic is in the cache crate.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use manifold_cache::{Decision, Limiter, Policy};
use manifold_core::{Decimal, Principal, Timestamp};

use crate::problem::seconds_up;
use crate::refusal::{Answer, Refusal};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");
/// Keys that are counted at once; beyond, idle ones are forgotten first.
const MAX_KEYS: usize = 100_000;
const NAME: &str = "key";

/// The limit of requests per API key.
pub(crate) struct PerKey {
    policy: Policy,
    limiter: Limiter,
    policy_header: HeaderValue,
}

/// What a caller has left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    remaining: u64,
    reset: Duration,
}

impl PerKey {
    /// Nothing used yet.
    pub(crate) fn new(policy: Policy) -> Self {
        let text = format!("\"{NAME}\";q={};w={}", policy.quota(), seconds_up(policy.window()));
        let policy_header = HeaderValue::try_from(text).expect("digits and quotes are a valid header");
        Self { policy, limiter: Limiter::new(MAX_KEYS), policy_header }
    }

    /// Charges one request.
    pub(crate) fn charge(&self, caller: &Principal, now: Timestamp) -> Answer<Option<Left>> {
        let Some(key) = caller.key else { return Ok(None) };
        match self.limiter.charge(&self.policy, key.0.as_u128(), 1, now) {
            Decision::Admitted { remaining, reset } => Ok(Some(Left { remaining, reset })),
            Decision::Denied { retry_after } => Err(self.refuse(spread(retry_after, now))),
        }
    }

    /// Adds both headers to an answer.
    pub(crate) fn describe(&self, left: Left, headers: &mut HeaderMap) {
        headers.insert(POLICY, self.policy_header.clone());
        headers.insert(STATE, state(left.remaining, left.reset));
    }

    fn refuse(&self, wait: Duration) -> Refusal {
        metrics::counter!("manifold_rate_limited_total", "scope" => NAME).increment(1);
        let message = "this API key has made too many requests; wait as long as Retry-After says";
        let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED", message)
            .retry_after(wait)
            .with(POLICY, self.policy_header.clone())
            .with(STATE, state(0, wait));
        refusal.violated = Some(NAME);
        refusal
    }
}

/// `"key";r=50;t=30`.
fn state(remaining: u64, reset: Duration) -> HeaderValue {
    let text = ["\"", NAME, "\";r=", &Decimal::whole(remaining), ";t=", &Decimal::whole(seconds_up(reset))].concat();
    HeaderValue::from_maybe_shared(Bytes::from(text)).expect("digits and quotes are a valid header")
}

/// Up to a tenth longer, so that those who were refused together do not return together.
fn spread(wait: Duration, now: Timestamp) -> Duration {
    let share = u32::try_from(now.micros().rem_euclid(100)).unwrap_or_default();
    wait + wait / 1_000 * share
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use manifold_core::{KeyId, SubjectKind, TenantId};
    use uuid::Uuid;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);

    fn caller() -> Principal {
        Principal {
            tenant: TenantId(Uuid::nil()),
            subject: Arc::from("key"),
            kind: SubjectKind::Key,
            key: Some(KeyId(Uuid::nil())),
            permissions: Arc::from([]),
            environment: Arc::from("live"),
        }
    }

    #[test]
    fn tells_what_is_left_and_then_when_to_return() {
        let limit = PerKey::new(Policy::new(NAME, 2, Duration::from_secs(60), None).unwrap());

        let left = limit.charge(&caller(), NOW).unwrap().unwrap();
        let mut headers = HeaderMap::new();
        limit.describe(left, &mut headers);
        limit.charge(&caller(), NOW).unwrap();
        let refusal = limit.charge(&caller(), NOW).unwrap_err();

        assert_eq!(headers["ratelimit-policy"], "\"key\";q=2;w=60");
        assert_eq!(headers["ratelimit"], "\"key\";r=1;t=30");
        assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refusal.error.delay(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn the_wait_is_spread_by_a_tenth_at_most() {
        let wait = Duration::from_secs(100);

        for micros in [0, 50, 99] {
            let longer = spread(wait, Timestamp::from_micros(micros));

            assert!(longer >= wait && longer <= wait + wait / 10);
        }
    }
}
