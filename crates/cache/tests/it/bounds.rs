//! Three processes on one Redis never admit more than was promised. `MANIFOLD_TEST_REQUESTS=1000000` makes a long run, in which
//! Redis is cut off for `MANIFOLD_TEST_OUTAGE` seconds.

use std::time::{Duration, Instant};

use manifold_cache::Mode;
use tokio::time::sleep;

use crate::crowd::{Counted, Crowd, Order, WINDOW, work_as_told};
use crate::server::{Network, REPLICAS, name, setting, slack, url};

/// Units that come back from the beginning of a long window to its end.
fn came_back(quota: u64, took: Duration) -> u64 {
    (took.as_micros() * u128::from(quota) / WINDOW.as_micros()) as u64
}

fn number(variable: &str, default: u64) -> u64 {
    setting(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn requests() -> u64 {
    number("MANIFOLD_TEST_REQUESTS", 30_000)
}

#[expect(clippy::print_stdout, reason = "the figures of a long run")]
fn tell(what: &str, requests: u64, admitted: u64, quota: u64, took: Duration) {
    println!("{what}: {admitted} of {requests} requests were admitted, {quota} are allowed; {took:.1?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_admits_not_one_more_than_the_limit() {
    if work_as_told().await {
        return;
    }
    let (quota, requests, begun) = (1_000, requests(), Instant::now());
    let order = Order { url: &url(), quota, mode: Mode::Strict, counted: Counted::Gcra, requests };

    let (admitted, vain) = Crowd::start("bounds::strict_admits_not_one_more_than_the_limit", order).end().await;

    tell("strict", requests, admitted, quota, begun.elapsed());
    let came_back = came_back(quota, begun.elapsed());
    assert!((quota..=quota + came_back).contains(&admitted), "{admitted} admitted, {came_back} came back");
    assert_eq!(vain, [0; REPLICAS as usize]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_windows_admit_not_one_more_than_the_limit() {
    if work_as_told().await {
        return;
    }
    for counted in [Counted::Sliding, Counted::Fixed] {
        let order = Order { url: &url(), quota: 1_000, mode: Mode::Strict, counted, requests: 6_000 };

        let crowd = Crowd::start("bounds::strict_windows_admit_not_one_more_than_the_limit", order);

        assert_eq!(crowd.end().await.0, 1_000, "{counted:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn months_are_shared_exactly_or_with_stocks() {
    if work_as_told().await {
        return;
    }
    let (quota, counted) = (3_000, Counted::Month);
    for mode in [Mode::Strict, Mode::Leased] {
        let slack = if mode == Mode::Leased { slack(&counted.policy(name("slack"), quota, mode)) } else { 0 };
        let order = Order { url: &url(), quota, mode, counted, requests: 9_000 };

        let (admitted, _) = Crowd::start("bounds::months_are_shared_exactly_or_with_stocks", order).end().await;

        assert!((quota - slack..=quota).contains(&admitted), "{mode:?}: {admitted}, unless a month has just begun");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leased_admits_all_but_what_died_in_stock() {
    if work_as_told().await {
        return;
    }
    let (quota, requests, begun) = (3_000, requests(), Instant::now());
    let order = Order { url: &url(), quota, mode: Mode::Leased, counted: Counted::Gcra, requests };

    let (admitted, _) = Crowd::start("bounds::leased_admits_all_but_what_died_in_stock", order).end().await;

    tell("leased", requests, admitted, quota, begun.elapsed());
    let slack = slack(&Counted::Gcra.policy(name("slack"), quota, Mode::Leased));
    let came_back = came_back(quota, begun.elapsed());
    assert!(admitted <= quota + came_back, "{admitted}: nothing was in stock before");
    assert!(admitted >= quota - slack, "{admitted}: only stocks are lost");
}

/// Lets a crowd work, cuts Redis off from it for a while, and lets it work again. How many were admitted.
async fn cut_off(test: &str, mode: Mode) -> (u64, u64, Duration) {
    let (network, requests, begun) = (Network::start().await, requests(), Instant::now());
    let quota = requests / 2;
    let order = Order { url: &network.url(), quota, mode, counted: Counted::Gcra, requests };
    let mut crowd = Crowd::start(test, order);

    crowd.working().await;
    network.silence();
    sleep(Duration::from_secs(number("MANIFOLD_TEST_OUTAGE", 1))).await;
    network.mend();
    let (admitted, vain) = crowd.end().await;

    tell(&format!("{mode:?}, with Redis cut off"), requests, admitted, quota, begun.elapsed());
    assert!(vain.iter().all(|n| *n > 0), "all of them were cut off: {vain:?}");
    (admitted, quota, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict_admits_not_one_more_when_redis_is_cut_off_meanwhile() {
    if work_as_told().await {
        return;
    }
    let test = "bounds::strict_admits_not_one_more_when_redis_is_cut_off_meanwhile";

    let (admitted, quota, took) = cut_off(test, Mode::Strict).await;

    assert!(admitted > 0 && admitted <= quota + came_back(quota, took), "{admitted} of {quota}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leased_keeps_to_the_limit_when_redis_is_cut_off_meanwhile() {
    if work_as_told().await {
        return;
    }
    let test = "bounds::leased_keeps_to_the_limit_when_redis_is_cut_off_meanwhile";

    let (admitted, quota, took) = cut_off(test, Mode::Leased).await;

    assert!(admitted > 0 && admitted <= quota + came_back(quota, took), "{admitted} of {quota}");
}
