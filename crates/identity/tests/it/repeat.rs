//! Requests with an idempotency key, whatever they ask for.

use std::time::Duration;

use manifold_core::{IdempotencyKey, Principal};
use manifold_identity::{Promise, Repeat, Repeatable};

use crate::house::{House, Process};

const LEASE: Duration = Duration::from_secs(70);

on_both_engines!(
    the_first_answer_is_given_again_and_is_kept_sealed,
    who_asks_meanwhile_is_told_to_wait_and_one_of_many_is_the_first,
    what_was_not_done_may_be_asked_for_anew,
    a_request_that_was_never_answered_is_begun_anew_after_its_time,
);

async fn ask(process: &Process, caller: &Principal, key: &str, body: &str) -> Result<Repeat, String> {
    let key = IdempotencyKey::parse(key).unwrap();
    let asked = Repeatable { caller, operation: "createThing", key: &key, request: &[body.as_bytes()] };
    process.identity.begin_request(&asked, LEASE).await.map_err(|error| error.reason().to_owned())
}

fn first(turn: Result<Repeat, String>) -> Option<Promise> {
    match turn {
        Ok(Repeat::First(promise)) => Some(promise),
        _ => None,
    }
}

async fn the_first_answer_is_given_again_and_is_kept_sealed(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await.principal;
    let other = Principal { subject: "key_other".into(), ..admin.clone() };

    let promise = first(ask(&process, &admin, "k", "a").await).unwrap();
    process.identity.keep_answer(promise, b"the secret").await.unwrap();
    let again = ask(&process, &admin, "k", "a").await;
    let reused = ask(&process, &admin, "k", "b").await;
    let kept = process.bytes("SELECT answer FROM idempotency").await;

    assert!(matches!(again, Ok(Repeat::Again(answer)) if answer.expose() == b"the secret"));
    assert_eq!(reused.unwrap_err(), "IDEMPOTENCY_KEY_REUSED");
    assert!(first(ask(&process, &other, "k", "a").await).is_some(), "keys of two callers keep apart");
    assert!(!kept.windows(6).any(|bytes| bytes == b"secret"));
    process.stop().await;
}

async fn who_asks_meanwhile_is_told_to_wait_and_one_of_many_is_the_first(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await.principal;

    let turns = futures::future::join_all((0..8).map(|_| ask(&process, &admin, "k", "a"))).await;

    let busy = turns.iter().filter(|turn| matches!(turn, Ok(Repeat::Busy))).count();
    let firsts = turns.into_iter().filter_map(first).count();
    assert_eq!((firsts, busy), (1, 7));
    process.stop().await;
}

async fn what_was_not_done_may_be_asked_for_anew(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await.principal;

    let promise = first(ask(&process, &admin, "k", "a").await).unwrap();
    process.identity.forget_request(promise).await.unwrap();

    assert!(first(ask(&process, &admin, "k", "b").await).is_some());
    process.stop().await;
}

async fn a_request_that_was_never_answered_is_begun_anew_after_its_time(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await.principal;

    let late = first(ask(&process, &admin, "k", "a").await).unwrap();
    house.clock.advance(LEASE - Duration::from_secs(1));
    let waits = ask(&process, &admin, "k", "a").await;
    house.clock.advance(Duration::from_secs(1));
    let next = first(ask(&process, &admin, "k", "a").await).unwrap();
    process.identity.keep_answer(late, b"too late").await.unwrap();
    process.identity.keep_answer(next, b"in time").await.unwrap();
    let again = ask(&process, &admin, "k", "a").await;

    assert!(matches!(waits, Ok(Repeat::Busy)));
    assert!(matches!(again, Ok(Repeat::Again(answer)) if answer.expose() == b"in time"));
    process.stop().await;
}
