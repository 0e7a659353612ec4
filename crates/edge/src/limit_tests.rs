use std::time::Duration;

use http::HeaderMap;
use manifold_cache::{Mode, OnStoreFailure, Window};
use uuid::Uuid;

use super::*;
use crate::config::Concurrent;

const NOW: Timestamp = Timestamp::from_micros(1_000_000);
const KEY: KeyId = KeyId(Uuid::nil());
const MINUTE: Duration = Duration::from_secs(60);

fn policy() -> Policy {
    Policy::new(RATE, 2, MINUTE, None).unwrap()
}

fn limits(rate: Option<Policy>, concurrent: Option<u64>) -> PerKey {
    let on_store_failure = OnStoreFailure::Local;
    let concurrent = concurrent.map(|max| Concurrent { max, shared: false, on_store_failure });
    PerKey::new(config::PerKey { rate, concurrent }, None).0
}

/// The outcome of one more request, and the headers of its answer: policies and states.
async fn ask(limits: &PerKey) -> (Answer<Option<Box<Place>>>, [String; 2]) {
    let mut left = Left::at(NOW);
    let outcome = match limits.charge(KEY, &mut left).await {
        Ok(()) => limits.enter(KEY, RequestId(Uuid::nil()), Instant::now() + MINUTE, &mut left).await,
        Err(refusal) => Err(refusal),
    };
    let mut headers = HeaderMap::new();
    limits.describe(&left, &mut headers);
    let printed = [POLICY, STATE].map(|name| headers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned());
    (outcome, printed)
}

#[tokio::test]
async fn tells_what_is_left_and_then_when_to_return() {
    let limits = limits(Some(policy()), None);

    let (_, [policy, first]) = ask(&limits).await;
    ask(&limits).await.0.unwrap();
    let (refusal, [_, third]) = ask(&limits).await;

    let refusal = refusal.map(|_| ()).unwrap_err();
    assert_eq!(policy, "\"key\";q=2;w=60");
    assert_eq!([first, third], ["\"key\";r=1;t=30", "\"key\";r=0;t=30"]);
    assert_eq!((refusal.status, refusal.violated), (StatusCode::TOO_MANY_REQUESTS, Some("key")));
    assert_eq!(refusal.error.delay(), Some(Duration::from_secs(30)));
}

#[tokio::test]
async fn a_month_is_told_with_its_own_length_and_end() {
    let limits = limits(Some(Policy::new(RATE, 1, Window::Month, None).unwrap()), None);
    let mut printed = Vec::new();

    for now in ["2024-02-29T23:59:58Z", "2024-02-29T23:59:58Z", "2024-03-01T00:00:00Z"] {
        let mut left = Left::at(Timestamp::parse(now).unwrap());
        let outcome = limits.charge(KEY, &mut left).await;
        let mut headers = HeaderMap::new();
        limits.describe(&left, &mut headers);
        printed.push((outcome.is_ok(), headers[POLICY].clone(), headers[STATE].clone()));
    }

    let told = |passed, policy, state| (passed, HeaderValue::from_static(policy), HeaderValue::from_static(state));
    assert_eq!(
        printed,
        [
            told(true, "\"key\";q=1;w=2505600", "\"key\";r=0;t=2"),
            told(false, "\"key\";q=1;w=2505600", "\"key\";r=0;t=2"),
            told(true, "\"key\";q=1;w=2678400", "\"key\";r=0;t=2678400"),
        ]
    );
}

#[tokio::test]
async fn requests_at_once_are_told_beside_those_in_time() {
    let limits = limits(Some(Policy::new(RATE, 60, MINUTE, None).unwrap()), Some(2));

    let (one, [policy, first]) = ask(&limits).await;
    let (two, _) = ask(&limits).await;
    let (refusal, [_, third]) = ask(&limits).await;
    drop(one);
    let (again, _) = ask(&limits).await;

    let refusal = refusal.map(|_| ()).unwrap_err();
    assert_eq!(policy, "\"key\";q=60;w=60, \"key-concurrent\";q=2;qu=\"concurrent-requests\"");
    assert_eq!(first, "\"key\";r=59;t=1, \"key-concurrent\";r=1");
    assert_eq!(third, "\"key\";r=57;t=3, \"key-concurrent\";r=0;t=1");
    assert_eq!((refusal.status, refusal.violated), (StatusCode::TOO_MANY_REQUESTS, Some("key-concurrent")));
    assert_eq!(refusal.error.delay(), Some(NEXT_PLACE));
    assert!(matches!((two, again), (Ok(Some(_)), Ok(Some(_)))));
}

#[tokio::test]
async fn a_shared_limit_says_that_it_was_counted_alone() {
    let limits = limits(Some(policy().shared(Mode::Strict, OnStoreFailure::Local)), None);

    let (_, [_, first]) = ask(&limits).await;
    ask(&limits).await.0.unwrap();
    let (_, [_, third]) = ask(&limits).await;

    assert_eq!([first, third], ["\"key\";r=1;t=30;mf-degraded", "\"key\";r=0;t=30;mf-degraded"]);
}

#[tokio::test]
async fn a_shared_limit_that_may_not_be_exceeded_refuses_while_nobody_counts() {
    let limits = limits(Some(policy().shared(Mode::Strict, OnStoreFailure::Deny)), None);

    let (refusal, [policy, state]) = ask(&limits).await;

    let refusal = refusal.map(|_| ()).unwrap_err();
    assert_eq!(refusal.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refusal.error.reason(), "TEMPORARY_REDUCED_CAPACITY");
    assert_eq!((refusal.violated, refusal.error.delay()), (Some("key"), Some(Duration::from_secs(1))));
    assert_eq!([policy.as_str(), &state], ["\"key\";q=2;w=60", ""]);
}

#[test]
fn the_wait_is_spread_by_a_tenth_or_a_minute_at_most() {
    let (wait, month) = (Duration::from_secs(100), Duration::from_secs(30 * 86_400));

    for micros in [0, 50, 99] {
        let longer = spread(wait, Timestamp::from_micros(micros));

        assert!(longer >= wait && longer <= wait + wait / 10);
        assert!(spread(month, Timestamp::from_micros(micros)) <= month + MINUTE);
    }
}
