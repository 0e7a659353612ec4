//! Keys that are asked for again.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use manifold_core::{Code, IdempotencyKey};
use manifold_identity::{KeyState, NewKey};

use crate::house::{House, eventually, key};

on_both_engines!(
    who_asks_again_gets_the_same_key_and_one_event,
    another_request_with_the_same_idempotency_key_is_refused_and_does_nothing,
    callers_and_their_idempotency_keys_keep_apart,
    a_refused_request_leaves_its_idempotency_key_free,
    a_secret_that_is_kept_for_repetitions_is_sealed,
    after_a_day_the_idempotency_key_asks_for_something_new,
);

fn wish(name: &str, again: &str) -> NewKey {
    NewKey { idempotency_key: Some(IdempotencyKey::parse(again).unwrap()), ..key(name, &[]) }
}

const EVENTS: &str = "SELECT COUNT(*) FROM outbox WHERE type = 'identity.key.created'";
const KEYS: &str = "SELECT COUNT(*) FROM api_key";

async fn who_asks_again_gets_the_same_key_and_one_event(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;

    let first = process.identity.create_key(&admin, wish("ci", "one")).await.unwrap();
    process.identity.revoke_key(&admin, first.key.id).await.unwrap();
    process.stop().await;
    let process = house.start().await;
    let second = process.identity.create_key(&admin, wish("ci", "one")).await.unwrap();

    assert_eq!((first.replayed, second.replayed), (false, true));
    assert_eq!(second.secret.expose(), first.secret.expose());
    // The answer of then, although it has been revoked since.
    assert_eq!(second.key, first.key);
    assert_eq!(process.identity.get_key(&admin, first.key.id).await.unwrap().state, KeyState::Revoked);
    // The admin key is the other one.
    assert_eq!((process.count(KEYS).await, process.count(EVENTS).await), (2, 2));
    process.stop().await;
}

async fn another_request_with_the_same_idempotency_key_is_refused_and_does_nothing(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    process.identity.create_key(&admin, wish("ci", "one")).await.unwrap();

    let other = NewKey { expires_at: Some(house.clock.now().after(Duration::from_secs(60))), ..wish("ci", "one") };
    for other in [wish("cd", "one"), other, NewKey { permissions: vec!["ai.*".to_owned()], ..wish("ci", "one") }] {
        let error = process.identity.create_key(&admin, other).await.unwrap_err();

        assert_eq!((error.code(), error.reason()), (Code::Invalid, "IDEMPOTENCY_KEY_REUSED"));
    }
    assert_eq!((process.count(KEYS).await, process.count(EVENTS).await), (2, 2));
    process.stop().await;
}

async fn callers_and_their_idempotency_keys_keep_apart(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let maker = process.identity.create_key(&admin, key("maker", &["keys.*", "ai.inference.run"])).await.unwrap();
    let maker = crate::house::calling(process.identity.authenticate(maker.secret.expose()).await.unwrap());

    let theirs = process.identity.create_key(&maker, wish("ci", "one")).await.unwrap();
    let ours = process.identity.create_key(&admin, wish("ci", "one")).await.unwrap();

    assert_ne!(theirs.key.id, ours.key.id);
    process.stop().await;
}

async fn a_refused_request_leaves_its_idempotency_key_free(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;

    let refused = process.identity.create_key(&admin, wish("", "one")).await.unwrap_err();
    let made = process.identity.create_key(&admin, wish("ci", "one")).await.unwrap();

    assert_eq!(refused.reason(), "NAME_INVALID");
    assert!(!made.replayed);
    process.stop().await;
}

async fn a_secret_that_is_kept_for_repetitions_is_sealed(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, wish("ci", "one")).await.unwrap();

    let kept: Vec<u8> = process.bytes("SELECT answer FROM idempotency").await;

    let secret = made.secret.expose().as_bytes();
    assert!(kept.len() > secret.len());
    assert!(secret.windows(8).all(|part| !kept.windows(8).any(|bytes| bytes == part)));
    process.stop().await;
}

async fn after_a_day_the_idempotency_key_asks_for_something_new(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let first = process.identity.create_key(&admin, wish("ci", "one")).await.unwrap();
    house.clock.advance(Duration::from_secs(24 * 60 * 60 + 1));
    process.stop().await;

    // Forgotten at the start and every ten minutes.
    let process = house.start().await;
    eventually(Duration::from_secs(10), async || process.count("SELECT COUNT(*) FROM idempotency").await == 0).await;
    let second = process.identity.create_key(&admin, wish("ci", "one")).await.unwrap();

    assert_ne!(second.key.id, first.key.id);
    process.stop().await;
}

mod at_once {
    use super::*;

    on_postgres!(many_processes_that_are_asked_at_once_make_one_key);

    async fn many_processes_that_are_asked_at_once_make_one_key(house: &House) {
        let (left, right) = (house.start().await, house.start().await);
        let admin = left.admin(house).await;

        let asked = (0..50).map(|number| {
            let process = if number % 2 == 0 { &left } else { &right };
            process.identity.create_key(&admin, wish("ci", "one"))
        });
        let made: Vec<_> = join_all(asked).await.into_iter().map(Result::unwrap).collect();

        let secrets: HashSet<_> = made.iter().map(|made| made.secret.expose().clone()).collect();
        assert_eq!((secrets.len(), made.iter().filter(|made| !made.replayed).count()), (1, 1));
        assert_eq!((left.count(KEYS).await, left.count(EVENTS).await), (2, 2));
        left.stop().await;
        right.stop().await;
    }
}
