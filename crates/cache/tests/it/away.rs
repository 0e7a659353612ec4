//! A Redis that falls silent and comes back.

use std::time::Duration;

use manifold_cache::{Decision, Mode, OnStoreFailure, Policy, Redis};
use manifold_core::{Clock, Secret, Timestamp};
use redis::aio::MultiplexedConnection;

use crate::server::{Network, Process, REPLICAS, name, slack, url};

const MINUTE: Duration = Duration::from_secs(60);

fn policy(quota: u64, mode: Mode, failure: OnStoreFailure) -> Policy {
    Policy::new(name("away"), quota, MINUTE, None).unwrap().shared(mode, failure)
}

/// Charges until `n` requests were admitted by a process that counts alone, or one is refused.
async fn admitted_alone(process: &Process, policy: &Policy, now: Timestamp) -> u64 {
    let mut admitted = 0;
    loop {
        let charge = process.limiter.charge(policy, 7, 1, now).await.unwrap();
        assert!(charge.degraded);
        match charge.decision {
            Decision::Admitted { .. } => admitted += 1,
            Decision::Denied { .. } => return admitted,
        }
    }
}

#[tokio::test]
async fn a_process_goes_on_with_its_share_and_says_so() {
    let (network, clock) = (Network::start().await, Clock::system());
    let process = Process::at(&network.url()).await;
    let policy = policy(30, Mode::Strict, OnStoreFailure::Local);
    let shared = process.limiter.charge(&policy, 7, 1, clock.now()).await.unwrap();

    network.silence();
    let alone = admitted_alone(&process, &policy, clock.now()).await;

    assert!(!shared.degraded);
    assert_eq!(alone, u64::from(30 / REPLICAS));
}

#[tokio::test]
async fn a_limit_that_may_not_be_exceeded_refuses_meanwhile() {
    let (network, clock) = (Network::start().await, Clock::system());
    let process = Process::at(&network.url()).await;
    let policy = policy(30, Mode::Strict, OnStoreFailure::Deny);

    network.silence();

    for _ in 0..3 {
        let error = process.limiter.charge(&policy, 7, 1, clock.now()).await.unwrap_err();
        assert_eq!((error.reason(), error.delay()), ("TEMPORARY_REDUCED_CAPACITY", Some(Duration::from_secs(1))));
    }
}

#[tokio::test]
async fn it_is_asked_again_once_it_answers() {
    let (network, clock) = (Network::start().await, Clock::system());
    let process = Process::at(&network.url()).await;
    let policy = policy(600, Mode::Strict, OnStoreFailure::Local);
    network.silence();
    let alone = process.limiter.charge(&policy, 7, 1, clock.now()).await.unwrap();
    let unreachable = process.redis.refresh().await;

    network.mend();
    process.redis.refresh().await.unwrap();
    let together = process.limiter.charge(&policy, 7, 1, clock.now()).await.unwrap();

    assert!(alone.degraded && unreachable.is_err());
    assert!(!together.degraded);
}

async fn connection() -> MultiplexedConnection {
    redis::Client::open(url()).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Puts something into the place of a count of `key` that is none.
async fn spoil(policy: &Policy, key: u128) {
    let count = format!("mf:gcra:{}:{key:032x}", policy.name());
    redis::cmd("RPUSH").arg(count).arg("spoilt").exec_async(&mut connection().await).await.unwrap();
}

#[tokio::test]
async fn a_count_that_redis_refuses_concerns_nobody_else() {
    let (process, clock) = (Process::at(&url()).await, Clock::system());
    let policy = policy(600, Mode::Strict, OnStoreFailure::Local);
    spoil(&policy, 7).await;

    let refused = process.limiter.charge(&policy, 7, 1, clock.now()).await.unwrap();
    let other = process.limiter.charge(&policy, 8, 1, clock.now()).await.unwrap();

    let (look, next) = (process.redis.refresh().await, process.redis.refresh().await);

    assert!(refused.degraded);
    assert!(!other.degraded);
    assert!(look.unwrap_err().message().contains("WRONGTYPE"), "the operator hears of it");
    next.unwrap();
}

#[tokio::test]
async fn one_that_answers_and_takes_no_writes_is_away() {
    let user = name("reader");
    let mut acl = redis::cmd("ACL");
    acl.arg("SETUSER").arg(&user).arg("on").arg(">canary").arg("~*").arg("+@all").arg("-@write");
    acl.exec_async(&mut connection().await).await.unwrap();
    let address = url().replace("redis://", &format!("redis://{user}:canary@"));
    let redis = Redis::new(&Secret::from(address.as_str()), MINUTE).unwrap();

    let error = redis.refresh().await.unwrap_err();

    assert_eq!((error.reason(), error.message()), ("UNAVAILABLE", "Redis refuses what it is asked: NOPERM"));
}

#[tokio::test]
async fn a_limiter_without_redis_finds_it_away() {
    let limiter = manifold_cache::Limiter::new(10, None);
    let policy = policy(30, Mode::Leased, OnStoreFailure::Local);

    let charge = limiter.charge(&policy, 7, 1, Clock::system().now()).await.unwrap();

    assert!(charge.degraded);
}

#[tokio::test]
async fn a_server_that_does_not_speak_tls_is_away_for_who_wants_tls() {
    let url = url().replace("redis://", "rediss://");
    let redis = Redis::new(&Secret::from(url.as_str()), MINUTE).unwrap();

    let error = redis.refresh().await.unwrap_err();

    assert_eq!(error.reason(), "UNAVAILABLE", "{}", error.chain());
}

/// Something that was admitted, between these two instants.
struct Admission {
    began: Timestamp,
    ended: Timestamp,
}

/// Charges until `refusals` requests were refused or could not be counted, or `most` were admitted.
async fn press(process: &Process, policy: &Policy, most: usize, refusals: u32, admissions: &mut Vec<Admission>) {
    let (clock, mut refused, end) = (Clock::system(), 0, admissions.len() + most);
    while refused < refusals && admissions.len() < end {
        let began = clock.now();
        match process.limiter.charge(policy, 7, 1, began).await.map(|charge| charge.decision) {
            Ok(Decision::Admitted { .. }) => admissions.push(Admission { began, ended: clock.now() }),
            Ok(Decision::Denied { .. }) | Err(_) => refused += 1,
        }
    }
}

/// Until Redis, whose clock nobody moves, has a full burst again.
async fn regain(policy: &Policy) {
    let interval = policy.window_at(Timestamp::default()) / u32::try_from(policy.quota()).unwrap();
    tokio::time::sleep(interval * u32::try_from(policy.burst()).unwrap()).await;
}

/// Leaves a process with the largest stock: leases of 1, 2, 4, 8, 16 and 32 are spent, and one unit of the next.
async fn stock_up(process: &Process, policy: &Policy, admissions: &mut Vec<Admission>) {
    for n in [63, 1] {
        press(process, policy, n, 100, admissions).await;
        regain(policy).await;
    }
}

/// The most that was surely admitted in some window beyond what the rate allows there.
fn excess(mut admissions: Vec<Admission>, quota: u64, window: Duration, burst: u64) -> i64 {
    admissions.sort_by_key(|admission| admission.ended);
    let interval = (window.as_micros() as u64).div_ceil(quota);
    let mut most = i64::MIN;
    for first in &admissions {
        let mut inside = 0;
        for admission in admissions.iter().filter(|admission| admission.began >= first.began) {
            inside += 1;
            let length = admission.ended.since(first.began).as_micros() as u64;
            most = most.max(inside - (burst + length / interval) as i64);
        }
    }
    most
}

/// The worst that can happen: every process has a full stock, Redis has a full burst, and all is spent at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leased_keeps_its_bound_while_redis_is_cut_off_and_comes_back() {
    let (quota, window, burst) = (20_000, Duration::from_secs(10), 100);
    let policy = Policy::new(name("cut"), quota, window, Some(burst)).unwrap();
    let policy = policy.shared(Mode::Leased, OnStoreFailure::Deny);
    let network = Network::start().await;
    let processes = crate::server::processes(&network.url()).await;
    let mut admissions: [Vec<Admission>; 3] = [const { Vec::new() }; 3];

    for cut in [false, true, false] {
        network.mend();
        for (process, admissions) in processes.iter().zip(&mut admissions) {
            process.redis.refresh().await.unwrap();
            stock_up(process, &policy, admissions).await;
        }
        if cut {
            network.silence();
        }
        let [a, b, c] = &mut admissions;
        tokio::join!(
            press(&processes[0], &policy, usize::MAX / 2, 20, a),
            press(&processes[1], &policy, usize::MAX / 2, 20, b),
            press(&processes[2], &policy, usize::MAX / 2, 20, c),
        );
    }

    let admissions: Vec<_> = admissions.into_iter().flatten().collect();
    let n = admissions.len();
    let excess = excess(admissions, quota, window, burst);
    assert!(n as u64 > 3 * burst, "{n} were admitted: it worked before and after");
    assert!(excess <= slack(&policy) as i64, "{excess} more than the rate allows");
}
