//! Keys that sign access tokens, and how they take turns.

use std::time::Duration;

use manifold_core::Code;

use crate::house::{House, Process, eventually, key};

const HOUR: Duration = Duration::from_secs(3_600);

on_both_engines!(
    the_next_key_is_public_for_an_hour_before_it_signs,
    another_process_knows_a_rotated_key_within_a_second,
    keys_take_turns_by_themselves_after_thirty_days,
    a_key_is_gone_when_its_last_token_is_over,
    only_who_looks_after_the_house_rotates_keys,
    private_parts_are_sealed,
);

/// How many keys are in each state: `next`, `active`, `verify_only`.
pub async fn states(process: &Process) -> [i64; 3] {
    [
        process.count("SELECT COUNT(*) FROM signing_key WHERE state = 'next' AND private IS NOT NULL").await,
        process.count("SELECT COUNT(*) FROM signing_key WHERE state = 'active' AND private IS NOT NULL").await,
        process.count("SELECT COUNT(*) FROM signing_key WHERE state = 'verify_only' AND private IS NULL").await,
    ]
}

pub async fn rotations(process: &Process) -> i64 {
    process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.signing_key.rotated'").await
}

async fn the_next_key_is_public_for_an_hour_before_it_signs(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    assert_eq!(states(&process).await, [1, 1, 0]);

    house.clock.advance(HOUR - Duration::from_secs(60));
    let early = process.identity.rotate_signing_key(&admin).await.unwrap_err();
    assert_eq!((early.code(), early.reason()), (Code::Conflict, "SIGNING_KEY_TOO_NEW"));
    assert_eq!(early.delay(), Some(Duration::from_secs(60)));
    house.clock.advance(Duration::from_secs(60));
    let before = process.identity.jwks();
    let kid = process.identity.rotate_signing_key(&admin).await.unwrap();

    assert!(before.contains(&kid), "it was public before");
    assert_eq!(states(&process).await, [1, 1, 1]);
    assert_eq!(process.identity.jwks().matches("sig_").count(), 3);
    let again = process.identity.rotate_signing_key(&admin).await.unwrap_err();
    assert_eq!(again.reason(), "SIGNING_KEY_TOO_NEW", "the spare is new");
    assert_eq!(rotations(&process).await, 1);
    process.stop().await;
}

async fn another_process_knows_a_rotated_key_within_a_second(house: &House) {
    let (here, there) = (house.start().await, house.start().await);
    let admin = there.admin(house).await;
    assert_eq!(here.identity.jwks(), there.identity.jwks());
    house.clock.advance(HOUR);

    there.identity.rotate_signing_key(&admin).await.unwrap();

    assert_ne!(here.identity.jwks().len(), 0);
    eventually(Duration::from_secs(5), || async { here.identity.jwks() == there.identity.jwks() }).await;
    assert_eq!(here.identity.jwks().matches("sig_").count(), 3);
    here.stop().await;
    there.stop().await;
}

async fn keys_take_turns_by_themselves_after_thirty_days(house: &House) {
    let first = house.start().await;
    first.stop().await;
    house.clock.advance(29 * 24 * HOUR);
    let early = house.start().await;
    assert_eq!(states(&early).await, [1, 1, 0]);
    early.stop().await;

    house.clock.advance(24 * HOUR);
    let later = house.start().await;

    eventually(Duration::from_secs(5), || async { states(&later).await == [1, 1, 1] }).await;
    eventually(Duration::from_secs(5), || async { later.identity.jwks().matches("sig_").count() == 3 }).await;
    later.stop().await;
}

async fn a_key_is_gone_when_its_last_token_is_over(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    house.clock.advance(HOUR);
    process.identity.rotate_signing_key(&admin).await.unwrap();
    process.stop().await;

    house.clock.advance(HOUR + Duration::from_secs(59));
    let still = house.start().await;
    assert_eq!((states(&still).await, still.identity.jwks().matches("sig_").count()), ([1, 1, 1], 3));
    still.stop().await;
    house.clock.advance(Duration::from_secs(2));
    let later = house.start().await;

    eventually(Duration::from_secs(5), || async { states(&later).await == [1, 1, 0] }).await;
    eventually(Duration::from_secs(5), || async { later.identity.jwks().matches("sig_").count() == 2 }).await;
    later.stop().await;
}

async fn only_who_looks_after_the_house_rotates_keys(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let made = process.identity.create_key(&admin, key("ci", &["keys.*", "system.signing.read"])).await.unwrap();
    let caller = crate::house::calling(process.identity.authenticate(made.secret.expose()).await.unwrap());
    let (_, stranger) = process.tenant(&admin, "acme", "grace@example.org").await;
    house.clock.advance(HOUR);

    for caller in [caller, stranger] {
        let refused = process.identity.rotate_signing_key(&caller).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::Denied, "INSUFFICIENT_SCOPE"));
    }
    assert_eq!(states(&process).await, [1, 1, 0]);
    process.stop().await;
}

async fn private_parts_are_sealed(house: &House) {
    let process = house.start().await;
    process.stop().await;
    let again = house.start().await;
    let sealed = again.bytes("SELECT private FROM signing_key WHERE state = 'active'").await;
    assert_eq!(sealed.len(), 1 + 4 + 12 + 32 + 16);

    // A private part that was moved to another row does not open.
    again
        .execute(
            "UPDATE signing_key SET private = (SELECT private FROM signing_key WHERE state = 'next') WHERE state = 'active'",
        )
        .await;
    again.stop().await;

    assert!(house.try_start(house.config()).await.is_err());
}
