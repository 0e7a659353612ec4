//! Checking presented keys, with and without a database.

use std::time::Duration;

use manifold_core::{Code, Secret};
use manifold_identity::{Environment, Identity, NewKey, generate_key};

use crate::house::{GRACE, House, eventually, key};

on_both_engines!(
    unknown_malformed_and_half_right_keys_are_the_same_error,
    a_key_expires_when_its_time_is_over,
    a_key_revoked_by_another_process_is_dead_here_within_a_second,
    a_key_revoked_by_another_process_is_dead_even_if_it_was_idle,
    cached_keys_survive_the_database_and_unknown_ones_do_not,
    an_unknown_key_is_not_looked_for_again_for_ten_seconds,
    what_changed_without_a_revocation_is_seen_after_five_seconds,
    keys_of_a_revoked_tenant_are_read_again_at_once,
);

/// Why a key is refused.
async fn refusal(identity: &Identity, secret: &str) -> Option<(Code, String)> {
    let error = identity.authenticate(secret).await.err()?;
    Some((error.code(), error.reason().to_owned()))
}

fn refused(reason: &str) -> Option<(Code, String)> {
    Some((Code::Unauthenticated, reason.to_owned()))
}

/// Another secret behind the same lookup, or another environment, with the right checksum.
fn forge(secret: &Secret<String>, environment: &str, other: &Secret<String>) -> String {
    const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut forged = format!("mfk_{environment}_{}_{}", &secret.expose()[9..19], &other.expose()[20..63]);
    let mut sum = u64::from(crc32fast::hash(forged.as_bytes()));
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = BASE62[(sum % 62) as usize];
        sum /= 62;
    }
    forged.extend(digits.map(char::from));
    assert!(manifold_identity::parse_key(&forged).is_some());
    forged
}

async fn unknown_malformed_and_half_right_keys_are_the_same_error(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let created = process.identity.create_key(&admin, key("ci", &[])).await.unwrap();
    let other = generate_key(Environment::Live);

    for presented in [
        String::new(),
        "sk-1234".to_owned(),
        "x".repeat(100_000),
        other.expose().clone(),
        created.secret.expose()[..68].to_owned(),
        forge(&created.secret, "live", &other),
        forge(&created.secret, "test", &created.secret),
    ] {
        assert_eq!(refusal(&process.identity, &presented).await, refused("INVALID_KEY"), "{presented:.80}");
    }
    assert_eq!(refusal(&process.identity, &forge(&created.secret, "live", &created.secret)).await, None);
    process.stop().await;
}

async fn a_key_expires_when_its_time_is_over(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let ends = house.clock.now().after(Duration::from_secs(2));
    let wish = NewKey { expires_at: Some(ends), ..key("short", &[]) };
    let created = process.identity.create_key(&admin, wish).await.unwrap();
    assert_eq!(refusal(&process.identity, created.secret.expose()).await, None);

    house.clock.advance(Duration::from_secs(2));

    assert_eq!(refusal(&process.identity, created.secret.expose()).await, refused("KEY_EXPIRED"));
    let shown = process.identity.get_key(&admin, created.key.id).await.unwrap();
    assert_eq!(shown.state.name(), "expired");
    process.stop().await;
}

async fn a_key_revoked_by_another_process_is_dead_here_within_a_second(house: &House) {
    let (here, there) = (house.start().await, house.start().await);
    let admin = there.admin(house).await;
    let created = there.identity.create_key(&admin, key("ci", &[])).await.unwrap();
    assert_eq!(refusal(&here.identity, created.secret.expose()).await, None);

    there.identity.revoke_key(&admin, created.key.id).await.unwrap();

    eventually(Duration::from_secs(1), || async {
        refusal(&here.identity, created.secret.expose()).await == refused("KEY_DISABLED")
    })
    .await;
    assert_eq!(refusal(&here.identity, &house.admin_key()).await, None);
    here.stop().await;
    there.stop().await;
}

async fn a_key_revoked_by_another_process_is_dead_even_if_it_was_idle(house: &House) {
    let (here, there) = (house.start().await, house.start().await);
    let admin = there.admin(house).await;
    let created = there.identity.create_key(&admin, key("ci", &[])).await.unwrap();
    assert_eq!(refusal(&here.identity, created.secret.expose()).await, None);
    there.identity.revoke_key(&admin, created.key.id).await.unwrap();

    house.clock.advance(GRACE * 2);

    assert_eq!(refusal(&here.identity, created.secret.expose()).await, refused("KEY_DISABLED"));
    here.stop().await;
    there.stop().await;
}

async fn cached_keys_survive_the_database_and_unknown_ones_do_not(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let cached = process.identity.create_key(&admin, key("cached", &[])).await.unwrap();
    let cold = process.identity.create_key(&admin, key("cold", &[])).await.unwrap();
    assert_eq!(refusal(&process.identity, cached.secret.expose()).await, None);
    let away = Some((Code::Unavailable, "STORE_UNAVAILABLE".to_owned()));

    process.lose_database().await;

    for secret in [cold.secret.expose(), generate_key(Environment::Live).expose()] {
        assert_eq!(refusal(&process.identity, secret).await, away);
    }
    assert_eq!(refusal(&process.identity, "sk-1234").await, refused("INVALID_KEY"));
    eventually(Duration::from_secs(5), || async { !process.health.report().degraded.is_empty() }).await;
    house.clock.advance(GRACE - Duration::from_secs(1));
    assert_eq!(refusal(&process.identity, cached.secret.expose()).await, None);
    assert!(process.health.report().is_ready());
    house.clock.advance(Duration::from_secs(2));
    assert_eq!(refusal(&process.identity, cached.secret.expose()).await, away);
    eventually(Duration::from_secs(5), || async { !process.health.report().is_ready() }).await;
    process.stop().await;
}

async fn an_unknown_key_is_not_looked_for_again_for_ten_seconds(house: &House) {
    let process = house.start().await;
    let unknown = generate_key(Environment::Live);
    assert_eq!(refusal(&process.identity, unknown.expose()).await, refused("INVALID_KEY"));
    process.lose_database().await;

    house.clock.advance(Duration::from_secs(9));
    let soon = refusal(&process.identity, unknown.expose()).await;
    house.clock.advance(Duration::from_secs(1));
    let later = refusal(&process.identity, unknown.expose()).await;

    assert_eq!(soon, refused("INVALID_KEY"));
    assert_eq!(later, Some((Code::Unavailable, "STORE_UNAVAILABLE".to_owned())));
    process.stop().await;
}

async fn what_changed_without_a_revocation_is_seen_after_five_seconds(house: &House) {
    let process = house.start().await;
    assert_eq!(refusal(&process.identity, &house.admin_key()).await, None);
    process.execute("UPDATE tenant SET state = 'suspended'").await;

    house.clock.advance(Duration::from_millis(4_900));
    let young = refusal(&process.identity, &house.admin_key()).await;
    house.clock.advance(Duration::from_millis(100));

    assert_eq!(young, None);
    eventually(Duration::from_secs(2), || async {
        refusal(&process.identity, &house.admin_key()).await == Some((Code::Denied, "TENANT_SUSPENDED".to_owned()))
    })
    .await;
    process.stop().await;
}

async fn keys_of_a_revoked_tenant_are_read_again_at_once(house: &House) {
    let process = house.start().await;
    let tenant = process.admin(house).await.principal.tenant;
    let (values, now) = ("INSERT INTO revocation (seq, subject, generation, at) VALUES", house.clock.now().micros());

    process.execute("UPDATE tenant SET state = 'suspended'").await;
    process.execute(&format!("{values} (1, 'tenant:{tenant}', 0, {now})")).await;

    eventually(Duration::from_secs(1), || async {
        refusal(&process.identity, &house.admin_key()).await == Some((Code::Denied, "TENANT_SUSPENDED".to_owned()))
    })
    .await;
    process.stop().await;
}
