//! Access tokens and refresh tokens: what they are good for, and when they are good for nothing any more.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use manifold_core::{Code, Error, Principal, Secret, SubjectKind};
use manifold_identity::Tokens;
use manifold_runtime::CallContext;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::Value;

use crate::house::{House, LOCAL, Process, calling, eventually, key};
use crate::people::{PASSWORD, nobody, visitor};

pub const MINUTE: Duration = Duration::from_secs(60);
pub const DAY: Duration = Duration::from_secs(24 * 3_600);

on_both_engines!(
    a_token_is_a_person_with_the_rights_of_the_roles,
    a_session_tells_when_it_ends_behind_tokens_as_in_a_browser,
    everybody_can_verify_a_token_by_the_public_keys,
    a_token_works_for_ten_minutes_and_is_renewed,
    a_session_behind_tokens_ends_after_thirty_days_without_use_and_after_ninety,
    a_refresh_token_that_is_used_again_ends_its_session_and_no_other,
    of_many_who_refresh_with_the_same_token_at_most_one_succeeds,
    whatever_ends_a_session_ends_its_tokens,
    roles_change_what_a_token_can_do_at_once,
    tokens_outlive_the_turn_of_the_key_that_signed_them,
    what_is_revoked_in_one_process_is_dead_in_the_others,
);

impl Process {
    /// The owner, by tokens.
    pub async fn tokens(&self, house: &House) -> Tokens {
        let entered = self.set_up(house).await;
        self.identity.issue_tokens(entered).await.unwrap()
    }

    pub async fn log_in_by_tokens(&self, email: &str) -> Tokens {
        let entered = self.log_in("127.0.0.1", email, PASSWORD).await.unwrap();
        self.identity.issue_tokens(entered).await.unwrap()
    }

    pub async fn refresh(&self, refresh: &Secret<String>) -> Result<Tokens, Error> {
        self.identity.refresh_tokens(&nobody(), visitor("203.0.113.7"), refresh).await
    }

    pub async fn by(&self, tokens: &Tokens) -> CallContext {
        calling(self.bearer(tokens.access.expose()).await.unwrap())
    }

    pub async fn bearer(&self, text: &str) -> Result<Principal, Error> {
        self.identity.authenticate_bearer(text, LOCAL, &manifold_identity::Visit::default()).await
    }

    pub async fn is_dead(&self, tokens: &Tokens) -> bool {
        self.bearer(tokens.access.expose()).await.is_err_and(|error| error.reason() == "INVALID_TOKEN")
    }
}

/// What a part of a token says.
pub fn part(token: &Secret<String>, index: usize) -> Value {
    let part = token.expose().split('.').nth(index).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn a_token_is_a_person_with_the_rights_of_the_roles(house: &House) {
    let process = house.start().await;
    let entered = process.set_up(house).await;
    let (cookie, session) = (entered.token.clone(), entered.session.id);
    let tokens = process.identity.issue_tokens(entered).await.unwrap();

    let caller = process.by(&tokens).await;

    let principal = &caller.principal;
    assert_eq!((principal.kind, principal.session), (SubjectKind::User, Some(session)));
    assert_eq!((principal.key, &*principal.permissions), (None, &["*".to_owned()][..]));
    assert_eq!(process.identity.me(&caller).await.unwrap().name, "Ada");
    assert!(process.identity.authenticate_session(cookie.expose(), LOCAL).await.is_err(), "there is no cookie");
    assert!(process.identity.authenticate_session(&tokens.refresh.expose()[5..], LOCAL).await.is_err());
    let (header, claims) = (part(&tokens.access, 0), part(&tokens.access, 1));
    assert_eq!((&header["alg"], &header["typ"]), (&"EdDSA".into(), &"at+jwt".into()));
    let now = house.clock.now().micros() / 1_000_000;
    for (name, expected) in [
        ("iss", Value::from("urn:manifold")),
        ("aud", "urn:manifold".into()),
        ("sub", (*principal.subject).into()),
        ("tid", principal.tenant.to_string().into()),
        ("sid", session.to_string().into()),
        ("iat", now.into()),
        ("nbf", now.into()),
        ("exp", (now + 600).into()),
        ("auth_time", now.into()),
        ("gen", 1.into()),
        ("amr", vec!["pwd"].into()),
    ] {
        assert_eq!(claims[name], expected, "{name}");
    }
    assert_eq!(claims.as_object().unwrap().len(), 12, "and its own name; nothing about permissions");
    process.stop().await;
}

async fn a_session_tells_when_it_ends_behind_tokens_as_in_a_browser(house: &House) {
    let process = house.start().await;
    let entered = process.set_up(house).await;
    let ends = async |caller: &CallContext| {
        let listed = process.identity.list_sessions(caller).await.unwrap();
        let listed = listed.iter().find(|session| session.current).unwrap().expires_at;
        (process.identity.session(caller).await.unwrap().expires_at, listed)
    };

    let browser = process.caller(&entered).await;
    let half_a_day = house.clock.now().after(DAY / 2);
    assert_eq!((entered.session.expires_at, ends(&browser).await), (half_a_day, (half_a_day, half_a_day)));
    let bearer = process.by(&process.log_in_by_tokens("ada@example.org").await).await;
    let ninety_days = house.clock.now().after(DAY * 90);

    assert_eq!(ends(&bearer).await, (ninety_days, ninety_days));
    process.stop().await;
}

async fn everybody_can_verify_a_token_by_the_public_keys(house: &House) {
    let process = house.start().await;
    let tokens = process.tokens(house).await;
    let set: Value = serde_json::from_str(&process.identity.jwks()).unwrap();
    let kid = part(&tokens.access, 0)["kid"].clone();

    let key = set["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid).unwrap();

    let public = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
    let (signed, signature) = tokens.access.expose().rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    assert!(UnparsedPublicKey::new(&ED25519, public).verify(signed.as_bytes(), &signature).is_ok());
    process.stop().await;
}

async fn a_token_works_for_ten_minutes_and_is_renewed(house: &House) {
    let process = house.start().await;
    let first = process.tokens(house).await;
    house.clock.advance(10 * MINUTE + Duration::from_secs(29));
    let session = process.by(&first).await.principal.session;
    house.clock.advance(Duration::from_secs(1));
    assert!(process.is_dead(&first).await);

    let second = process.refresh(&first.refresh).await.unwrap();

    assert_eq!(process.by(&second).await.principal.session, session);
    assert_ne!(first.refresh.expose(), second.refresh.expose());
    assert!(second.refresh.expose().starts_with("mfrt_"));
    for wrong in [
        "",
        "mfrt_",
        &first.refresh.expose().replace("mfrt", "mfrx"),
        "mfrt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        let refused = process.refresh(&Secret::from(wrong)).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::Invalid, "INVALID_GRANT"), "{wrong}");
    }
    process.stop().await;
}

async fn a_session_behind_tokens_ends_after_thirty_days_without_use_and_after_ninety(house: &House) {
    let process = house.start().await;
    let unused = process.tokens(house).await;
    let mut tokens = process.log_in_by_tokens("ada@example.org").await;
    for _ in 0..3 {
        house.clock.advance(29 * DAY);
        tokens = process.refresh(&tokens.refresh).await.unwrap();
        let caller = process.by(&tokens).await;
        let listed = process.identity.list_sessions(&caller).await.unwrap();
        let own = listed.iter().find(|session| session.current).unwrap();
        assert_eq!(own.seen_at, house.clock.now());
        let stale = process.identity.create_key(&caller, key("k", &[])).await.unwrap_err();
        assert_eq!(stale.reason(), "STEP_UP_REQUIRED", "to go on is no proof");
    }

    let late = process.refresh(&unused.refresh).await.unwrap_err();
    house.clock.advance(3 * DAY - 10 * MINUTE);
    let last = process.refresh(&tokens.refresh).await.unwrap();
    house.clock.advance(10 * MINUTE);
    let over = process.refresh(&last.refresh).await.unwrap_err();

    assert_eq!((late.reason(), over.reason()), ("INVALID_GRANT", "INVALID_GRANT"));
    assert_eq!(process.count("SELECT COUNT(*) FROM session WHERE revoked_at IS NOT NULL").await, 0, "nobody stole");
    process.stop().await;
}

async fn a_refresh_token_that_is_used_again_ends_its_session_and_no_other(house: &House) {
    let process = house.start().await;
    let other = process.tokens(house).await;
    let first = process.log_in_by_tokens("ada@example.org").await;
    let second = process.refresh(&first.refresh).await.unwrap();
    assert!(!process.is_dead(&first).await && !process.is_dead(&second).await);

    let again = process.refresh(&first.refresh).await.unwrap_err();
    let successor = process.refresh(&second.refresh).await.unwrap_err();

    assert_eq!((again.reason(), again.message()), (successor.reason(), successor.message()));
    assert_eq!(again.reason(), "INVALID_GRANT");
    assert!(process.is_dead(&first).await && process.is_dead(&second).await);
    assert!(!process.is_dead(&other).await && process.refresh(&other.refresh).await.is_ok());
    let told = "SELECT COUNT(*) FROM outbox WHERE type = 'identity.session.revoked'";
    assert_eq!(process.count(told).await, 1, "the third try is no news");
    let event = "SELECT payload FROM outbox WHERE type = 'identity.session.revoked'";
    let event = String::from_utf8_lossy(&process.bytes(event).await).into_owned();
    let incident = "SELECT COUNT(*) FROM incident WHERE rule = 'refresh_reuse'";
    assert_eq!(process.count(incident).await, 1, "somebody has a token that is not theirs");
    assert!(event.contains("refresh_token_reused") && event.contains("203.0.113.7"), "{event}");
    assert!(!event.contains(first.refresh.expose()));
    process.stop().await;
}

async fn of_many_who_refresh_with_the_same_token_at_most_one_succeeds(house: &House) {
    let process = house.start().await;
    let tokens = process.tokens(house).await;

    let outcomes = futures::future::join_all((0..50).map(|_| process.refresh(&tokens.refresh))).await;

    let (got, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((got.len(), refused.len()), (1, 49));
    assert!(process.is_dead(&tokens).await && process.is_dead(got[0].as_ref().unwrap()).await);
    assert_eq!(process.count("SELECT COUNT(*) FROM session WHERE revoked_at IS NULL").await, 0);
    process.stop().await;
}

async fn whatever_ends_a_session_ends_its_tokens(house: &House) {
    let process = house.start().await;
    let ada = process.tokens(house).await;
    let owner = process.by(&ada).await;
    let grace = process.join(&owner, "grace@example.org", "viewer").await.session.user.id;
    let enter = async || process.log_in_by_tokens("grace@example.org").await;
    let ended = async |tokens: &Tokens, by: &str| {
        assert!(process.is_dead(tokens).await, "{by}");
        let refused = process.refresh(&tokens.refresh).await.unwrap_err();
        assert_eq!((refused.code(), refused.reason()), (Code::Invalid, "INVALID_GRANT"), "{by}");
    };

    let tokens = enter().await;
    process.identity.log_out(&process.by(&tokens).await).await.unwrap();
    ended(&tokens, "logging out").await;

    let (tokens, other) = (enter().await, enter().await);
    let (caller, gone) = (process.by(&tokens).await, process.by(&other).await.principal.session.unwrap());
    process.identity.revoke_session(&caller, gone).await.unwrap();
    ended(&other, "a revoked session").await;
    assert!(!process.is_dead(&tokens).await);

    let other = enter().await;
    process.by(&other).await;
    process.identity.revoke_other_sessions(&caller).await.unwrap();
    ended(&other, "all others").await;
    assert!(!process.is_dead(&tokens).await);

    let (old, new) = (Secret::from(PASSWORD), Secret::from("another four words here"));
    let changed = process.identity.change_password(&caller, visitor("127.0.0.1"), old, new, None).await.unwrap();
    ended(&tokens, "a changed password").await;

    let tokens = process.identity.issue_tokens(changed).await.unwrap();
    process.by(&tokens).await;
    let link = process.identity.make_reset_link(&owner, grace).await.unwrap();
    process.identity.reset_password(&nobody(), &link.token, &Secret::from(PASSWORD)).await.unwrap();
    ended(&tokens, "a reset password").await;

    let tokens = enter().await;
    process.by(&tokens).await;
    process.identity.remove_member(&owner, grace).await.unwrap();
    ended(&tokens, "a membership that ended").await;
    assert!(!process.is_dead(&ada).await);
    process.stop().await;
}

async fn roles_change_what_a_token_can_do_at_once(house: &House) {
    let process = house.start().await;
    let ada = process.tokens(house).await;
    let owner = process.by(&ada).await;
    let grace = process.join(&owner, "grace@example.org", "developer").await.session.user.id;
    let tokens = process.log_in_by_tokens("grace@example.org").await;
    assert!(process.by(&tokens).await.principal.allows("ai.inference.run"));

    process.identity.set_roles(&owner, grace, vec!["viewer".to_owned()]).await.unwrap();

    let caller = process.by(&tokens).await.principal;
    assert!(!caller.allows("ai.inference.run") && caller.allows("users.user.read"));
    // A role that means something else from now on is told by its tenant.
    process.execute("UPDATE role_binding SET role = 'developer' WHERE role = 'viewer'").await;
    let told = format!(
        "INSERT INTO revocation (seq, subject, generation, at) SELECT seq + 1, 'roles:{}', 0, 0 FROM revocation_head",
        caller.tenant
    );
    process.execute(&told).await;
    process.execute("UPDATE revocation_head SET seq = seq + 1").await;
    eventually(Duration::from_secs(5), || async { process.by(&tokens).await.principal.allows("ai.inference.run") })
        .await;
    process.stop().await;
}

async fn tokens_outlive_the_turn_of_the_key_that_signed_them(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let entered = process.set_up(house).await;
    house.clock.advance(60 * MINUTE);
    let tokens = process.identity.issue_tokens(entered).await.unwrap();

    let kid = process.identity.rotate_signing_key(&admin).await.unwrap();

    assert!(!process.is_dead(&tokens).await);
    let renewed = process.refresh(&tokens.refresh).await.unwrap();
    assert_eq!(part(&renewed.access, 0)["kid"], kid);
    assert_ne!(part(&tokens.access, 0)["kid"], kid);
    assert!(!process.is_dead(&renewed).await);
    process.stop().await;
}

/// Asks again and again until the token is dead; when it was good for the last time.
async fn last_success(process: &Process, tokens: &Tokens) -> Instant {
    let mut last = Instant::now();
    while process.bearer(tokens.access.expose()).await.is_ok() {
        last = Instant::now();
        tokio::task::yield_now().await;
    }
    last
}

#[expect(clippy::print_stdout, reason = "how long it took is of interest, and no reason to fail")]
async fn what_is_revoked_in_one_process_is_dead_in_the_others(house: &House) {
    let here = house.start().await;
    let others = [house.start().await, house.start().await];
    let owner = here.by(&here.tokens(house).await).await;
    let grace = here.join(&owner, "grace@example.org", "viewer").await.session.user.id;
    let (logged_out, removed) =
        (here.log_in_by_tokens("grace@example.org").await, here.log_in_by_tokens("grace@example.org").await);
    for process in &others {
        process.by(&logged_out).await;
        process.by(&removed).await;
    }

    for (tokens, how) in [(&logged_out, "logging out"), (&removed, "removing a member")] {
        let asking = futures::future::join_all(others.iter().map(|process| last_success(process, tokens)));
        let revoking = async {
            match how {
                "logging out" => here.identity.log_out(&here.by(tokens).await).await.unwrap(),
                _ => here.identity.remove_member(&owner, grace).await.unwrap(),
            }
            assert!(here.is_dead(tokens).await, "here it is dead at once");
            Instant::now()
        };
        let patience = Duration::from_secs(20);
        let (last, at) = tokio::time::timeout(patience, async { tokio::join!(asking, revoking) }).await.unwrap();

        let longest = last.into_iter().map(|last| last.saturating_duration_since(at)).max().unwrap();
        println!("{how}: the last success elsewhere was {longest:?} later");
        for process in &others {
            assert!(process.is_dead(tokens).await, "{how}");
        }
    }
    here.stop().await;
    for process in others {
        process.stop().await;
    }
}
