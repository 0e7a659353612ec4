//! Values in two tiers: loaded once, shared, given out when they are old, forgotten when told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use manifold_cache::{Group, Key, Terms, Value, Values};
use manifold_core::{Clock, Error, Result, TenantId, Timestamp};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::server::{Network, Process, name, url};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const TERMS: Terms = Terms { ttl: MINUTE, stale: MINUTE, max_bytes: 8 << 20 };

fn clock() -> Clock {
    Clock::manual(Timestamp::from_micros(1_700_000_000_000_000))
}

/// A process that shares values in the Redis at `url`.
async fn process(url: &str, clock: &Clock) -> Arc<Values> {
    Arc::new(Values::new("test", TERMS, Some(Process::at(url).await.redis), clock.clone()))
}

async fn two(clock: &Clock) -> [Arc<Values>; 2] {
    [process(&url(), clock).await, process(&url(), clock).await]
}

/// A value that no other test has.
fn key() -> Key {
    Group::of_house(name("group")).key("one")
}

/// What it gives out where a load would make `text`, and whether that is old.
async fn get(values: &Values, key: &Key, text: &str) -> (String, bool) {
    let Value { bytes, stale } = values.get_or_load(key, async { Ok(text.as_bytes().to_vec()) }).await.unwrap();
    (String::from_utf8(bytes.to_vec()).unwrap(), stale)
}

async fn fail(values: &Values, key: &Key) -> Result<(String, bool)> {
    let Value { bytes, stale } = values.get_or_load(key, async { Err(broken()) }).await?;
    Ok((String::from_utf8(bytes.to_vec()).unwrap(), stale))
}

fn broken() -> Error {
    Error::new(manifold_core::Code::Unavailable, "UPSTREAM_ERROR", "it is away").retry_after(SECOND)
}

fn fresh(text: &str) -> (String, bool) {
    (text.to_owned(), false)
}

fn stale(text: &str) -> (String, bool) {
    (text.to_owned(), true)
}

/// A load that says when it has begun and ends when it may.
#[derive(Default)]
struct Slow {
    begun: Notify,
    may_end: Notify,
}

impl Slow {
    async fn load(&self, text: &str) -> Result<Vec<u8>> {
        self.begun.notify_one();
        self.may_end.notified().await;
        Ok(text.as_bytes().to_vec())
    }
}

/// Somebody who asks for a value that takes long, in a task.
fn ask_slowly(tasks: &mut JoinSet<Result<Value>>, values: &Arc<Values>, key: &Key, text: &'static str) -> Arc<Slow> {
    let slow = Arc::new(Slow::default());
    let (values, key, load) = (Arc::clone(values), key.clone(), Arc::clone(&slow));
    tasks.spawn(async move { values.get_or_load(&key, load.load(text)).await });
    slow
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_who_miss_in_two_processes_cause_one_load() {
    let (clock, key) = (clock(), key());
    let (n_asked, n_loads) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let processes = two(&clock).await;
    let mut crowd = JoinSet::new();

    for n in 0..5_000 {
        let (values, key) = (Arc::clone(&processes[n % 2]), key.clone());
        let (n_asked, n_loads) = (Arc::clone(&n_asked), Arc::clone(&n_loads));
        crowd.spawn(async move {
            n_asked.fetch_add(1, Ordering::SeqCst);
            let load = async {
                n_loads.fetch_add(1, Ordering::SeqCst);
                while n_asked.load(Ordering::SeqCst) < 5_000 {
                    tokio::task::yield_now().await;
                }
                Ok(b"value".to_vec())
            };
            values.get_or_load(&key, load).await.unwrap().bytes
        });
    }
    let answers = crowd.join_all().await;

    assert!(answers.len() == 5_000 && answers.iter().all(|bytes| **bytes == *b"value"));
    assert!((1..=2).contains(&n_loads.load(Ordering::SeqCst)), "one, or two if the first took longer than its lock");
}

#[tokio::test]
async fn a_value_is_loaded_once_for_all_processes_and_again_when_its_time_is_up() {
    let (clock, key) = (clock(), key());
    let [here, there] = two(&clock).await;

    let mut seen = vec![get(&here, &key, "a").await, get(&there, &key, "b").await];
    clock.advance(MINUTE - SECOND / 10);
    seen.push(get(&here, &key, "c").await);
    clock.advance(SECOND / 10);
    seen.push(get(&here, &key, "d").await);
    clock.advance(SECOND);
    seen.push(get(&there, &key, "e").await);
    clock.advance(3 * MINUTE);
    seen.push(get(&there, &key, "f").await);

    assert_eq!(seen, ["a", "a", "a", "d", "d", "f"].map(fresh));
}

#[tokio::test]
async fn while_one_loads_again_others_get_the_old_value() {
    let (clock, key, mut tasks) = (clock(), key(), JoinSet::new());
    let [here, there] = two(&clock).await;
    get(&here, &key, "old").await;
    get(&there, &key, "-").await;
    clock.advance(MINUTE);

    let slow = ask_slowly(&mut tasks, &here, &key, "new");
    slow.begun.notified().await;
    let meanwhile = [get(&here, &key, "-").await, get(&there, &key, "-").await];
    slow.may_end.notify_one();
    let loaded = tasks.join_next().await.unwrap().unwrap().unwrap();
    let after = get(&here, &key, "-").await;
    clock.advance(SECOND);
    let noticed = get(&there, &key, "-").await;

    assert_eq!(meanwhile, ["old", "old"].map(stale));
    assert_eq!((&*loaded.bytes, loaded.stale), (&b"new"[..], false));
    assert_eq!([after, noticed], ["new", "new"].map(fresh));
}

#[tokio::test]
async fn what_cannot_be_loaded_again_is_given_out_old_for_its_time_and_no_longer() {
    let (clock, key) = (clock(), key());
    let [here, there] = two(&clock).await;
    get(&here, &key, "old").await;
    clock.advance(MINUTE);

    let known = fail(&here, &key).await.unwrap();
    let at_once = get(&here, &key, "new").await;
    let elsewhere = fail(&there, &key).await.unwrap();
    clock.advance(MINUTE - SECOND / 2);
    let to_the_end = fail(&here, &key).await.unwrap();
    clock.advance(SECOND / 2);
    let error = fail(&here, &key).await.unwrap_err();
    let recovered = get(&here, &key, "new").await;

    assert_eq!([known, elsewhere, to_the_end], ["old", "old", "old"].map(stale));
    assert_eq!(at_once, stale("old"), "it is not tried again within a second");
    assert_eq!((error.reason(), error.delay()), ("UPSTREAM_ERROR", Some(SECOND)));
    assert_eq!(recovered, fresh("new"), "failures are not kept");
}

#[tokio::test]
async fn all_who_wait_hear_of_a_failure_after_two_loads() {
    let (key, n_loads) = (key(), Arc::new(AtomicU32::new(0)));
    let values = Arc::new(Values::new("test", TERMS, None, clock()));
    let mut crowd = JoinSet::new();

    for _ in 0..100 {
        let (values, key, n_loads) = (Arc::clone(&values), key.clone(), Arc::clone(&n_loads));
        crowd.spawn(async move {
            let load = async {
                n_loads.fetch_add(1, Ordering::SeqCst);
                // On one thread, all others come before this goes on.
                tokio::task::yield_now().await;
                Err(broken())
            };
            values.get_or_load(&key, load).await.map(|_| ())
        });
    }
    let outcomes = crowd.join_all().await;

    assert!(outcomes.iter().all(|outcome| outcome.as_ref().is_err_and(|error| error.reason() == "UPSTREAM_ERROR")));
    assert_eq!(n_loads.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_load_that_panics_or_is_given_up_blocks_nobody() {
    let clock = clock();
    let [here, there] = two(&clock).await;
    let group = Group::of_house(name("group"));
    let (given_up, panicking) = (group.key("given up"), group.key("panicking"));
    let mut tasks = JoinSet::new();
    let slow = ask_slowly(&mut tasks, &here, &given_up, "never");
    slow.begun.notified().await;

    tasks.shutdown().await;
    let (values, key) = (Arc::clone(&here), panicking.clone());
    tasks.spawn(async move { values.get_or_load(&key, async { panic!("as told") }).await });
    let panicked = tasks.join_next().await.unwrap();

    assert!(panicked.is_err_and(|error| error.is_panic()));
    for key in [given_up, panicking] {
        assert_eq!([get(&here, &key, "after").await, get(&there, &key, "-").await], ["after", "after"].map(fresh));
    }
}

#[tokio::test]
async fn who_waits_takes_over_when_the_one_who_loads_leaves() {
    let (clock, key) = (clock(), key());
    let values = process(&url(), &clock).await;
    let (mut first, mut second) = (JoinSet::new(), JoinSet::new());
    let slow = ask_slowly(&mut first, &values, &key, "never");
    slow.begun.notified().await;

    let next = ask_slowly(&mut second, &values, &key, "next");
    first.shutdown().await;
    next.begun.notified().await;
    next.may_end.notify_one();
    let loaded = second.join_next().await.unwrap().unwrap().unwrap();

    assert_eq!(*loaded.bytes, *b"next");
}

#[tokio::test]
async fn what_is_invalidated_is_loaded_again_everywhere() {
    let clock = clock();
    let [here, there] = two(&clock).await;
    let group = Group::of_tenant(TenantId(uuid::Uuid::new_v4()), "prices");
    let stranger = Group::of_tenant(TenantId(uuid::Uuid::new_v4()), "prices");
    let keys = [group.key("a"), group.key("b"), stranger.key("a")];
    let all = async |text: &str| {
        let mut seen = Vec::new();
        for values in [&here, &there] {
            for key in &keys {
                seen.push(get(values, key, text).await.0);
            }
        }
        seen
    };

    let first = all("1").await;
    here.invalidate(&keys[0]).await.unwrap();
    let at_once = get(&here, &keys[0], "2").await;
    clock.advance(SECOND);
    let one = all("-").await;
    there.invalidate_group(&group).await.unwrap();
    clock.advance(SECOND);
    let group = all("3").await;

    assert_eq!(first, ["1"; 6]);
    assert_eq!(at_once, fresh("2"));
    assert_eq!(one, ["2", "1", "1", "2", "1", "1"]);
    assert_eq!(group, ["3", "3", "1", "3", "3", "1"]);
}

#[tokio::test]
async fn what_was_being_loaded_when_it_was_invalidated_is_not_kept() {
    let (clock, key) = (clock(), key());
    let [here, there] = two(&clock).await;
    for invalidator in [&here, &there] {
        let mut tasks = JoinSet::new();
        let slow = ask_slowly(&mut tasks, &here, &key, "before");
        slow.begun.notified().await;

        invalidator.invalidate(&key).await.unwrap();
        slow.may_end.notify_one();
        let answer = tasks.join_next().await.unwrap().unwrap().unwrap();
        let seen = [get(&here, &key, "after").await, get(&there, &key, "-").await];

        assert_eq!(*answer.bytes, *b"before");
        assert_eq!(seen, ["after", "after"].map(fresh));
        here.invalidate(&key).await.unwrap();
        clock.advance(SECOND);
    }
}

#[tokio::test]
async fn nor_is_it_in_a_process_alone() {
    let (key, mut tasks) = (key(), JoinSet::new());
    let values = Arc::new(Values::new("test", TERMS, None, clock()));
    let slow = ask_slowly(&mut tasks, &values, &key, "before");
    slow.begun.notified().await;

    values.invalidate_group(key.group()).await.unwrap();
    let meanwhile = get(&values, &key, "after").await;
    slow.may_end.notify_one();
    let answer = tasks.join_next().await.unwrap().unwrap().unwrap();

    assert_eq!((meanwhile, &*answer.bytes), (fresh("after"), &b"before"[..]));
    assert_eq!(get(&values, &key, "-").await, fresh("after"));
}

#[tokio::test]
async fn a_value_that_is_too_large_stays_in_its_process() {
    let (clock, key) = (clock(), key());
    let [here, there] = two(&clock).await;
    let large = vec![7; (1 << 20) + 1];
    let load = async |values: &Values, bytes: &[u8]| {
        values.get_or_load(&key, async { Ok(bytes.to_vec()) }).await.map(|value| value.bytes).unwrap()
    };

    let first = load(&here, &large).await;
    clock.advance(MINUTE / 2);
    let again = load(&here, b"-").await;
    let elsewhere = load(&there, b"there").await;

    assert!(*first == *large && *again == *large);
    assert_eq!(*elsewhere, *b"there");
}

#[tokio::test]
async fn memory_is_bounded_by_bytes() {
    let values = Values::new("bounded", Terms { max_bytes: 100_000, ..TERMS }, None, clock());
    let group = Group::of_house("bounded");

    for n in 0..1_000 {
        values.get_or_load(&group.key(n.to_string()), async { Ok(vec![0; 1_000]) }).await.unwrap();
    }

    assert!(values.size() <= 100_000, "{} bytes", values.size());
}

#[tokio::test]
async fn without_redis_each_process_goes_on_with_its_own_values() {
    let (clock, key) = (clock(), key());
    let network = Network::start().await;
    let shared = Process::at(&network.url()).await.redis;
    let here = Values::new("test", TERMS, Some(shared.clone()), clock.clone());
    let there = process(&url(), &clock).await;
    get(&here, &key, "shared").await;

    network.silence();
    clock.advance(SECOND);
    let alone = get(&here, &key, "alone").await;
    let untold = here.invalidate(&key).await.map(|()| "told").unwrap_err();
    let forgotten = get(&here, &key, "again").await;
    let elsewhere = get(&there, &key, "-").await;
    network.mend();
    shared.refresh().await.unwrap();
    clock.advance(MINUTE);
    let together = [get(&here, &key, "together").await, get(&there, &key, "-").await];

    assert_eq!(alone, fresh("shared"), "what cannot be asked about is believed");
    assert_eq!(untold.reason(), "UNAVAILABLE");
    assert_eq!((forgotten, elsewhere), (fresh("again"), fresh("shared")));
    assert_eq!(together, ["together", "together"].map(fresh));
}
