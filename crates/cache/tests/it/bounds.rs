//! Three processes on one Redis never admit more than was promised.

use std::sync::Arc;
use std::time::{Duration, Instant};

use manifold_cache::{Algorithm, Decision, Mode, OnStoreFailure, Policy, Window};
use manifold_core::Clock;
use tokio::task::JoinSet;

use crate::server::{Process, name, processes, setting, slack, url};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Requests of a crowd at once, per process.
const AT_ONCE: u64 = 16;

/// Requests in all; `MANIFOLD_TEST_REQUESTS=1000000` makes a long run.
fn requests() -> u64 {
    setting("MANIFOLD_TEST_REQUESTS").map_or(30_000, |text| text.parse().expect("MANIFOLD_TEST_REQUESTS is a number"))
}

/// Lets all processes charge one key as fast as they can; how many were admitted, and how long it took.
async fn crowd(policy: Policy, requests: u64) -> (u64, Duration) {
    let (policy, started) = (Arc::new(policy), Instant::now());
    let mut crowd = JoinSet::new();
    let processes = processes(&url()).await;
    let each = requests.div_ceil(processes.len() as u64 * AT_ONCE);
    for process in processes.into_iter().map(Arc::new) {
        for _ in 0..AT_ONCE {
            crowd.spawn(caller(process.clone(), policy.clone(), each));
        }
    }
    let admitted = crowd.join_all().await.into_iter().sum();
    (admitted, started.elapsed())
}

async fn caller(process: Arc<Process>, policy: Arc<Policy>, requests: u64) -> u64 {
    let (clock, mut admitted) = (Clock::system(), 0);
    for _ in 0..requests {
        let charge = process.limiter.charge(&policy, 7, 1, clock.now()).await.unwrap();
        assert!(!charge.degraded);
        admitted += u64::from(matches!(charge.decision, Decision::Admitted { .. }));
    }
    admitted
}

fn policy(quota: u64, mode: Mode) -> Policy {
    Policy::new(name("crowd"), quota, DAY, None).unwrap().shared(mode, OnStoreFailure::Deny)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_admits_not_one_more_than_the_limit() {
    let quota = 1_000;

    let (admitted, took) = crowd(policy(quota, Mode::Strict), requests()).await;

    let came_back = took.as_micros() as u64 * quota / DAY.as_micros() as u64;
    assert!((quota..=quota + came_back).contains(&admitted), "{admitted} admitted, {came_back} came back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_windows_admit_not_one_more_than_the_limit() {
    for algorithm in [Algorithm::Sliding, Algorithm::Fixed] {
        // So long that none ends meanwhile.
        let policy = Policy::new(name("window"), 1_000, 300 * DAY, None).unwrap().counted(algorithm).unwrap();

        let (admitted, _) = crowd(policy.shared(Mode::Strict, OnStoreFailure::Deny), 6_000).await;

        assert_eq!(admitted, 1_000, "{algorithm:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn months_are_shared_exactly_or_with_stocks() {
    for (mode, slack_of) in [(Mode::Strict, None), (Mode::Leased, Some(slack))] {
        let policy = Policy::new(name("month"), 3_000, Window::Month, None).unwrap().shared(mode, OnStoreFailure::Deny);
        let slack = slack_of.map_or(0, |slack| slack(&policy));

        let (admitted, _) = crowd(policy, 9_000).await;

        assert!((3_000 - slack..=3_000).contains(&admitted), "{mode:?}: {admitted}, unless a month has just begun");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leased_admits_all_but_what_died_in_stock() {
    let policy = policy(3_000, Mode::Leased);
    let (quota, slack) = (3_000, slack(&policy));

    let (admitted, took) = crowd(policy, requests()).await;

    let came_back = took.as_micros() as u64 * quota / DAY.as_micros() as u64;
    assert!(admitted <= quota + came_back, "{admitted}: nothing was in stock before");
    assert!(admitted >= quota - slack, "{admitted}: only stocks are lost");
}
