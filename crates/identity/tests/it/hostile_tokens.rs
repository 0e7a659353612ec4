//! Access tokens that are forged, foreign or stale, and where none is kept.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use manifold_core::Code;
use manifold_identity::Config;

use crate::house::{GRACE, House, eventually};
use crate::tokens::{MINUTE, part};

on_both_engines!(
    forged_tokens_are_refused_without_the_database,
    tokens_of_another_installation_or_address_are_refused,
    a_clock_that_was_set_back_refuses_tokens_of_the_future,
    what_was_seen_before_goes_on_without_the_database_and_nothing_else,
    what_changed_without_a_revocation_is_seen_after_a_minute,
    no_token_is_in_the_database,
);

async fn forged_tokens_are_refused_without_the_database(house: &House) {
    let process = house.start().await;
    let tokens = process.tokens(house).await;
    let token = tokens.access.expose();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let payload = signed.split_once('.').unwrap().1;
    let with = |header: &str| format!("{}.{payload}.{signature}", URL_SAFE_NO_PAD.encode(header));
    let kid = part(&tokens.access, 0)["kid"].as_str().unwrap().to_owned();
    process.lose_database().await;

    let mut forged = vec![
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        signed.to_owned(),
        format!("{signed}."),
        format!("{}.{signature}", signed.replace(payload, "")),
        format!("{}.{signature}", signed.replace(payload, &URL_SAFE_NO_PAD.encode("garbage"))),
        format!("{token}{}", "A".repeat(10_240)),
        tokens.refresh.expose().clone(),
        "sk-1234".to_owned(),
    ];
    for alg in ["none", "None", "nOnE", "NONE", "HS256", "RS256"] {
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{kid}"}}"#);
        forged.extend([with(&header), format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(&header))]);
    }
    for kid in ["../../dev/null", "' OR 1=1--", "🔑", "\\u0000", "sig_01h455vb4pex5vsknk084sn02q"] {
        forged.push(with(&format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}"}}"#)));
    }
    for more in ["jku", "x5u", "jwk", "x5c", "crit"] {
        forged
            .push(with(&format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{kid}","{more}":"https://evil.example"}}"#)));
    }
    forged.push(with(&format!(r#"{{"alg":"EdDSA","typ":"JWT","kid":"{kid}"}}"#)));
    for presented in forged {
        let refused = process.bearer(&presented).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::Unauthenticated, "INVALID_TOKEN"), "{presented:.80}");
    }
}

async fn tokens_of_another_installation_or_address_are_refused(house: &House) {
    let process = house.start().await;
    let tokens = process.tokens(house).await;
    assert!(!process.is_dead(&tokens).await);
    let elsewhere = House::sqlite();
    let stranger = elsewhere.start().await;

    assert!(stranger.is_dead(&tokens).await, "no key of the other one");
    let moved =
        house.try_start(Config { public_url: "https://api.example/".to_owned(), ..house.config() }).await.unwrap();
    assert!(moved.is_dead(&tokens).await, "it was issued by and for another address");
    let renewed = moved.refresh(&tokens.refresh).await.unwrap();
    assert_eq!(part(&renewed.access, 1)["iss"], "https://api.example");
    assert!(!moved.is_dead(&renewed).await && process.is_dead(&renewed).await);
    for running in [stranger, moved, process] {
        running.stop().await;
    }
}

async fn a_clock_that_was_set_back_refuses_tokens_of_the_future(house: &House) {
    let process = house.start().await;
    let tokens = process.tokens(house).await;
    let now = house.clock.now();
    process.by(&tokens).await;

    house.clock.set(now.before(Duration::from_secs(30)));
    assert!(!process.is_dead(&tokens).await);
    house.clock.set(now.before(Duration::from_secs(31)));
    assert!(process.is_dead(&tokens).await, "cached or not");
    process.stop().await;
}

async fn what_was_seen_before_goes_on_without_the_database_and_nothing_else(house: &House) {
    let process = house.start().await;
    let seen = process.tokens(house).await;
    let new = process.log_in_by_tokens("ada@example.org").await;
    process.by(&seen).await;
    process.lose_database().await;
    eventually(Duration::from_secs(5), || async { !process.health.report().degraded.is_empty() }).await;

    house.clock.advance(MINUTE);
    assert!(process.bearer(seen.access.expose()).await.is_ok());
    assert_eq!(process.bearer(new.access.expose()).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(process.refresh(&seen.refresh).await.unwrap_err().code(), Code::Unavailable);
    house.clock.advance(GRACE);
    assert!(process.bearer(seen.access.expose()).await.is_err());
}

async fn what_changed_without_a_revocation_is_seen_after_a_minute(house: &House) {
    let process = house.start().await;
    let tokens = process.tokens(house).await;
    process.by(&tokens).await;
    for (change, back) in [
        ("UPDATE user_account SET state = 'suspended'", "UPDATE user_account SET state = 'active'"),
        ("UPDATE tenant SET state = 'suspended'", "UPDATE tenant SET state = 'active'"),
        ("UPDATE user_account SET generation = generation + 1", "UPDATE user_account SET generation = generation - 1"),
        ("UPDATE session SET revoked_at = 1", "UPDATE session SET revoked_at = NULL"),
    ] {
        process.execute(change).await;
        house.clock.advance(MINUTE);
        assert!(process.bearer(tokens.access.expose()).await.is_err(), "{change}");
        process.execute(back).await;
        assert!(!process.is_dead(&tokens).await, "{back}");
    }
    process.execute("UPDATE user_account SET state = 'suspended'").await;
    assert_eq!(process.refresh(&tokens.refresh).await.unwrap_err().reason(), "INVALID_GRANT");
    process.stop().await;
}

async fn no_token_is_in_the_database(house: &House) {
    let process = house.start().await;
    let tokens = process.tokens(house).await;

    let hash = process.bytes("SELECT hash FROM refresh_token").await;
    assert_eq!(hash.len(), 32);
    let secret = URL_SAFE_NO_PAD.decode(&tokens.refresh.expose()[5..]).unwrap();
    assert!(hash != secret && process.bytes("SELECT hash FROM session").await != secret);
    let printed = format!("{tokens:?}");
    assert!(!printed.contains(tokens.refresh.expose()) && !printed.contains(tokens.access.expose()), "{printed}");
    process.stop().await;
}
