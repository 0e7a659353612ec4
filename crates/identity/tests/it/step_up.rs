//! Step-up: what hands out power, or ends sessions elsewhere, needs a proof of the last ten minutes.

use std::time::Duration;

use manifold_core::{Code, Error, Secret};
use manifold_identity::Entered;
use manifold_runtime::CallContext;

use crate::house::{House, LOCAL, Process, key};
use crate::people::{PASSWORD, visitor};

on_both_engines!(
    an_old_proof_hands_out_no_power,
    an_old_proof_ends_no_session_but_its_own,
    a_new_proof_makes_a_new_session,
    of_many_new_proofs_at_once_one_counts,
    a_wrong_proof_counts_as_a_try_to_log_in,
);

const LATER: Duration = Duration::from_secs(10 * 60 + 1);

impl Process {
    async fn step_up(&self, caller: &CallContext, password: &str) -> Result<Entered, Error> {
        self.identity.step_up(caller, visitor("127.0.0.1"), Secret::from(password), None).await
    }
}

async fn an_old_proof_hands_out_no_power(house: &House) {
    let process = house.start().await;
    let entered = process.set_up(house).await;
    let made = process.identity.create_key(&process.caller(&entered).await, key("k", &[])).await.unwrap();
    let invited = process.identity.invite(&process.caller(&entered).await, "g@example.org", "viewer").await.unwrap();
    house.clock.advance(LATER);
    let (caller, user) = (process.caller(&entered).await, entered.session.user.id);
    let identity = &process.identity;

    let refused = [
        identity.create_key(&caller, key("k", &[])).await.err(),
        identity.revoke_key(&caller, made.key.id).await.err(),
        identity.rotate_key(&caller, made.key.id, Duration::ZERO).await.err(),
        identity.set_roles(&caller, user, vec!["owner".to_owned()]).await.err(),
        identity.remove_member(&caller, user).await.err(),
        identity.invite(&caller, "h@example.org", "viewer").await.err(),
        identity.revoke_invitation(&caller, invited.0.id).await.err(),
        identity.make_reset_link(&caller, manifold_core::UserId(uuid::Uuid::new_v4())).await.err(),
        identity.change_email(&caller, &visitor("127.0.0.1"), "h@example.org", Secret::from(PASSWORD)).await.err(),
    ];

    for refused in refused {
        let refused = refused.unwrap();
        assert_eq!((refused.code(), refused.reason()), (Code::Denied, "STEP_UP_REQUIRED"));
        assert!(refused.message().contains("/v1/auth/step-up"), "it says how to mend it");
    }
    assert!(identity.list_members(&caller, manifold_core::PageRequest::new(None, None).unwrap()).await.is_ok());
    let admin = process.admin(house).await;
    assert!(identity.revoke_key(&admin, made.key.id).await.is_ok(), "a key has nothing else to prove");
    let again = process.step_up(&caller, PASSWORD).await.unwrap();
    assert!(identity.create_key(&process.caller(&again).await, key("k", &[])).await.is_ok());
    process.stop().await;
}

async fn an_old_proof_ends_no_session_but_its_own(house: &House) {
    let process = house.start().await;
    let stale = process.set_up(house).await;
    house.clock.advance(LATER);
    let other = process.log_in("203.0.113.7", "ada@example.org", PASSWORD).await.unwrap();
    let caller = process.caller(&stale).await;

    let one = process.identity.revoke_session(&caller, other.session.id).await.unwrap_err();
    let all = process.identity.revoke_other_sessions(&caller).await.unwrap_err();
    process.identity.revoke_session(&caller, stale.session.id).await.unwrap();

    assert_eq!((one.reason(), all.reason()), ("STEP_UP_REQUIRED", "STEP_UP_REQUIRED"));
    assert!(process.identity.authenticate_session(other.token.expose(), LOCAL).await.is_ok());
    assert!(process.identity.authenticate_session(stale.token.expose(), LOCAL).await.is_err());
    process.stop().await;
}

async fn a_new_proof_makes_a_new_session(house: &House) {
    let process = house.start().await;
    let old = process.set_up(house).await;
    let other = process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.unwrap();
    let before = process.caller(&old).await;
    house.clock.advance(LATER);

    let new = process.step_up(&before, PASSWORD).await.unwrap();

    assert!(new.session.id != old.session.id && new.token.expose() != old.token.expose());
    assert_ne!(new.session.csrf, old.session.csrf);
    let ended = process.identity.authenticate_session(old.token.expose(), LOCAL).await.unwrap_err();
    let twice = process.step_up(&before, PASSWORD).await.unwrap_err();
    assert_eq!((ended.reason(), twice.reason()), ("INVALID_SESSION", "INVALID_SESSION"));
    let after = process.caller(&new).await.principal;
    assert_eq!((after.auth_time, after.mfa), (Some(house.clock.now()), false));
    assert_eq!(process.caller(&other).await.principal.auth_time, before.principal.auth_time, "others stay as they are");
    process.stop().await;
}

async fn of_many_new_proofs_at_once_one_counts(house: &House) {
    let process = house.start().await;
    let entered = process.set_up(house).await;
    let caller = process.caller(&entered).await;

    let outcomes = futures::future::join_all((0..4).map(|_| process.step_up(&caller, PASSWORD))).await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(process.count("SELECT COUNT(*) FROM session WHERE revoked_at IS NULL").await, 1);
    process.stop().await;
}

async fn a_wrong_proof_counts_as_a_try_to_log_in(house: &House) {
    let process = house.start().await;
    let entered = process.set_up(house).await;
    let caller = process.caller(&entered).await;

    for _ in 0..6 {
        let wrong = process.step_up(&caller, "wrong horse battery").await.unwrap_err();
        assert_eq!(wrong.reason(), "INVALID_CREDENTIALS");
    }

    assert_eq!(process.step_up(&caller, PASSWORD).await.unwrap_err().reason(), "TOO_MANY_ATTEMPTS");
    assert!(process.identity.authenticate_session(entered.token.expose(), LOCAL).await.is_ok(), "who is in stays in");
    process.stop().await;
}
