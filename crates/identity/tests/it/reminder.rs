//! What is said about secrets without being asked.

use std::time::Duration;

use manifold_identity::{KeyChange, NewKey, Terms};

use crate::house::{House, eventually, key};

on_both_engines!(
    a_secret_whose_time_has_come_is_told_once,
    a_rotation_puts_the_next_one_off,
    an_old_secret_that_is_still_used_at_half_of_its_grace_is_told_once,
    nothing_is_said_of_an_old_secret_that_nobody_uses,
);

const DAY: Duration = Duration::from_secs(24 * 3_600);
const DUE: &str = "SELECT COUNT(*) FROM outbox WHERE type = 'identity.key.rotation_due'";
const OLD: &str = "SELECT COUNT(*) FROM outbox WHERE type = 'identity.key.old_secret_used'";
const WAITING: &str = "SELECT (SELECT COUNT(*) FROM api_key WHERE remind_at IS NOT NULL) + \
                       (SELECT COUNT(*) FROM api_key_secret WHERE warn_at IS NOT NULL)";

/// Processes remind when they start; how many times `said` was said, when nothing waits any more.
async fn restart(house: &House, said: &'static str) -> i64 {
    let (left, right) = (house.start().await, house.start().await);
    eventually(Duration::from_secs(10), || async { left.count(WAITING).await == 0 }).await;
    right.stop().await;
    let count = left.count(said).await;
    left.stop().await;
    count
}

fn every(days: u16) -> NewKey {
    NewKey { terms: Terms { rotate_every: Some(days), ..Terms::default() }, ..key("k", &[]) }
}

async fn a_secret_whose_time_has_come_is_told_once(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, every(30)).await.unwrap();
    let due = house.clock.now().after(DAY * 30);
    assert_eq!(made.key.rotation_due_at, Some(due));
    for days in [29, 366] {
        let error = process.identity.create_key(&admin, every(days)).await.unwrap_err();
        assert_eq!(error.param(), Some("rotate_every"));
    }
    process.stop().await;

    house.clock.advance(DAY * 30);

    assert_eq!(restart(house, DUE).await, 1);
    assert_eq!(restart(house, DUE).await, 1);
    let process = house.start().await;
    let shown = process.identity.get_key(&admin, made.key.id).await.unwrap();
    assert_eq!(shown.rotation_due_at, Some(due), "it is still due");
    process.stop().await;
}

async fn a_rotation_puts_the_next_one_off(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, every(365)).await.unwrap();
    let sooner = KeyChange { rotate_every: Some(Some(40)), ..KeyChange::default() };
    let changed = process.identity.update_key(&admin, made.key.id, sooner).await.unwrap();
    let (started, id) = (house.clock.now(), made.key.id);
    assert_eq!(changed.rotation_due_at, Some(started.after(DAY * 40)));

    house.clock.advance(DAY * 39);
    let rotated = process.identity.rotate_key(&admin, id, DAY).await.unwrap().key;
    let cancelled = process.identity.cancel_rotation(&admin, id).await.unwrap();
    let again = process.identity.rotate_key(&admin, id, Duration::ZERO).await.unwrap().key;
    let never = KeyChange { rotate_every: Some(None), ..KeyChange::default() };
    let never = process.identity.update_key(&admin, id, never).await.unwrap();

    assert_eq!(rotated.rotation_due_at, Some(started.after(DAY * 79)));
    assert_eq!(cancelled.rotation_due_at, Some(started.after(DAY * 40)), "the secret is as old as it was");
    assert_eq!((again.rotation_due_at, never.rotation_due_at), (rotated.rotation_due_at, None));
    assert_eq!(process.count("SELECT COUNT(*) FROM api_key WHERE remind_at IS NOT NULL").await, 0);
    process.stop().await;
}

async fn an_old_secret_that_is_still_used_at_half_of_its_grace_is_told_once(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, key("k", &[])).await.unwrap();
    process.identity.rotate_key(&admin, made.key.id, DAY).await.unwrap();
    house.clock.advance(Duration::from_secs(60));
    process.identity.authenticate(made.secret.expose()).await.unwrap();
    process.stop().await;

    house.clock.advance(DAY / 2);

    assert_eq!(restart(house, OLD).await, 1);
    assert_eq!(restart(house, OLD).await, 1);
}

async fn nothing_is_said_of_an_old_secret_that_nobody_uses(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, key("k", &[])).await.unwrap();
    process.identity.authenticate(made.secret.expose()).await.unwrap();
    house.clock.advance(Duration::from_secs(60));
    process.identity.rotate_key(&admin, made.key.id, DAY).await.unwrap();
    process.stop().await;

    house.clock.advance(DAY / 2);

    assert_eq!(restart(house, OLD).await, 0);
}
