//! Rate limits as clients see them: `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-11.
//! The arithmetic is in the cache crate.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use manifold_cache::{Charge, Decision, Limiter, Policy, Shared};
use manifold_core::{Decimal, Error, Principal, Timestamp};

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
    degraded: bool,
}

impl PerKey {
    /// Nothing used yet in this process. `shared` is where limits of several processes are counted.
    pub(crate) fn new(policy: Policy, shared: Option<Shared>) -> Self {
        let text = format!("\"{NAME}\";q={};w={}", policy.quota(), seconds_up(policy.window()));
        let policy_header = HeaderValue::try_from(text).expect("digits and quotes are a valid header");
        Self { policy, limiter: Limiter::new(MAX_KEYS, shared), policy_header }
    }

    /// Charges one request.
    pub(crate) async fn charge(&self, caller: &Principal, now: Timestamp) -> Answer<Option<Left>> {
        let Some(key) = caller.key else { return Ok(None) };
        let charged = self.limiter.charge(&self.policy, key.0.as_u128(), 1, now).await;
        if !matches!(charged, Ok(Charge { degraded: false, .. })) {
            metrics::counter!("manifold_rate_limit_degraded_total", "scope" => NAME).increment(1);
        }
        let Charge { decision, degraded } = charged.map_err(|error| self.away(error))?;
        match decision {
            Decision::Admitted { remaining, reset } => Ok(Some(Left { remaining, reset, degraded })),
            Decision::Denied { retry_after } => Err(self.refuse(spread(retry_after, now), degraded)),
        }
    }

    /// Adds both headers to an answer.
    pub(crate) fn describe(&self, left: Left, headers: &mut HeaderMap) {
        headers.insert(POLICY, self.policy_header.clone());
        headers.insert(STATE, state(left));
    }

    fn refuse(&self, wait: Duration, degraded: bool) -> Refusal {
        metrics::counter!("manifold_rate_limited_total", "scope" => NAME).increment(1);
        let message = "this API key has made too many requests; wait as long as Retry-After says";
        let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED", message)
            .retry_after(wait)
            .with(POLICY, self.policy_header.clone())
            .with(STATE, state(Left { remaining: 0, reset: wait, degraded }));
        refusal.violated = Some(NAME);
        refusal
    }

    fn away(&self, error: Error) -> Refusal {
        let mut refusal = Refusal::from(error).with(POLICY, self.policy_header.clone());
        refusal.violated = Some(NAME);
        refusal
    }
}

/// `"key";r=50;t=30`, and a mark if this process counted alone what several should count together.
fn state(left: Left) -> HeaderValue {
    let (remaining, reset) = (Decimal::whole(left.remaining), Decimal::whole(seconds_up(left.reset)));
    let mark = if left.degraded { ";mf-degraded" } else { "" };
    let text = ["\"", NAME, "\";r=", &remaining, ";t=", &reset, mark].concat();
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

    use manifold_cache::{Mode, OnStoreFailure};
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

    fn policy() -> Policy {
        Policy::new(NAME, 2, Duration::from_secs(60), None).unwrap()
    }

    #[tokio::test]
    async fn tells_what_is_left_and_then_when_to_return() {
        let limit = PerKey::new(policy(), None);

        let left = limit.charge(&caller(), NOW).await.unwrap().unwrap();
        let mut headers = HeaderMap::new();
        limit.describe(left, &mut headers);
        limit.charge(&caller(), NOW).await.unwrap();
        let refusal = limit.charge(&caller(), NOW).await.unwrap_err();

        assert_eq!(headers["ratelimit-policy"], "\"key\";q=2;w=60");
        assert_eq!(headers["ratelimit"], "\"key\";r=1;t=30");
        assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refusal.error.delay(), Some(Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn a_shared_limit_says_that_it_was_counted_alone() {
        let policy = policy().shared(Mode::Strict, OnStoreFailure::Local);
        let limit = PerKey::new(policy, None);

        let left = limit.charge(&caller(), NOW).await.unwrap().unwrap();
        let mut headers = HeaderMap::new();
        limit.describe(left, &mut headers);
        limit.charge(&caller(), NOW).await.unwrap();
        let refusal = limit.charge(&caller(), NOW).await.unwrap_err();

        assert_eq!(headers["ratelimit"], "\"key\";r=1;t=30;mf-degraded");
        let state = &refusal.headers.iter().find(|(name, _)| name == STATE).unwrap().1;
        assert_eq!(state, "\"key\";r=0;t=30;mf-degraded");
    }

    #[tokio::test]
    async fn a_shared_limit_that_may_not_be_exceeded_refuses_while_nobody_counts() {
        let limit = PerKey::new(policy().shared(Mode::Strict, OnStoreFailure::Deny), None);

        let refusal = limit.charge(&caller(), NOW).await.unwrap_err();

        assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refusal.error.reason(), "TEMPORARY_REDUCED_CAPACITY");
        assert_eq!((refusal.violated, refusal.error.delay()), (Some(NAME), Some(Duration::from_secs(1))));
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
