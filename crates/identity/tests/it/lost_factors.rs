//! Second factors that are replaced, removed, or missing.

use std::time::Duration;

use manifold_core::{Secret, UserId};
use manifold_identity::Entered;

use crate::factors::code;
use crate::house::{House, LOCAL, key};
use crate::people::{PASSWORD, nobody, visitor};

on_both_engines!(
    a_forgotten_password_does_not_take_the_factor_away,
    who_has_a_new_phone_replaces_the_factor,
    a_removed_factor_is_asked_for_no_more,
    somebody_with_power_removes_the_factors_of_who_lost_them,
    factors_are_for_who_has_just_proven_to_be_the_person,
    a_tenant_that_asks_for_a_factor_lets_nobody_do_anything_without,
);

async fn a_forgotten_password_does_not_take_the_factor_away(house: &House) {
    let process = house.start().await;
    let (entered, secret) = process.add_factor(house, &process.set_up(house).await).await;
    let admin = process.admin(house).await;
    let link = process.identity.make_reset_link(&admin, entered.session.user.id).await.unwrap();

    process.identity.reset_password(&nobody(), &link.token, &Secret::from(PASSWORD)).await.unwrap();

    let ticket = process.ticket("127.0.0.1").await;
    assert!(process.use_ticket("127.0.0.1", &ticket, &code(&secret, house.clock.now())).await.is_ok());
    process.stop().await;
}

async fn who_has_a_new_phone_replaces_the_factor(house: &House) {
    let process = house.start().await;
    let (entered, old) = process.add_factor(house, &process.set_up(house).await).await;

    let (_, new) = process.add_factor(house, &entered).await;

    let refused = process.log_in_with("127.0.0.1", &code(&old, house.clock.now())).await.unwrap_err();
    assert_eq!(refused.reason(), "CODE_INVALID");
    assert!(process.log_in_with("127.0.0.1", &code(&new, house.clock.now())).await.is_ok());
    assert_eq!(process.count("SELECT COUNT(*) FROM factor").await, 1);
    process.stop().await;
}

async fn a_removed_factor_is_asked_for_no_more(house: &House) {
    let process = house.start().await;
    let (entered, secret) = process.add_factor(house, &process.set_up(house).await).await;
    let caller = process.caller(&entered).await;
    process.identity.create_recovery_codes(&caller).await.unwrap();
    let ticket = process.ticket("127.0.0.1").await;
    let id = process.identity.list_factors(&caller).await.unwrap()[0].id;

    process.identity.remove_factor(&caller, id).await.unwrap();

    let twice = process.identity.remove_factor(&caller, id).await.unwrap_err();
    assert_eq!(twice.reason(), "FACTOR_NOT_FOUND");
    assert!(!process.is_mfa(&entered).await, "the session goes on as one of a password");
    let old = process.use_ticket("127.0.0.1", &ticket, &code(&secret, house.clock.now())).await.unwrap_err();
    assert_eq!(old.reason(), "TOKEN_INVALID", "a ticket alone lets nobody in");
    assert!(process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.is_ok());
    assert_eq!(process.count("SELECT COUNT(*) FROM recovery_code").await, 0);
    process.stop().await;
}

async fn somebody_with_power_removes_the_factors_of_who_lost_them(house: &House) {
    let process = house.start().await;
    let (entered, _) = process.add_factor(house, &process.set_up(house).await).await;
    let (ada, owner) = (entered.session.user.id, process.caller(&entered).await);
    let admin = process.admin(house).await;
    let weak = process.identity.create_key(&admin, key("admin", &["users.*"])).await.unwrap();
    let weak = crate::house::calling(process.identity.authenticate(weak.secret.expose()).await.unwrap());
    let blind = process.identity.create_key(&admin, key("blind", &["users.user.read"])).await.unwrap();
    let blind = crate::house::calling(process.identity.authenticate(blind.secret.expose()).await.unwrap());
    process.identity.create_recovery_codes(&owner).await.unwrap();

    let stranger = UserId(uuid::Uuid::new_v4());
    for (caller, user, reason) in
        [(&weak, ada, "ESCALATION"), (&blind, ada, "INSUFFICIENT_SCOPE"), (&admin, stranger, "USER_NOT_FOUND")]
    {
        assert_eq!(process.identity.reset_factors(caller, user).await.unwrap_err().reason(), reason);
    }
    process.identity.reset_factors(&admin, ada).await.unwrap();
    process.identity.reset_factors(&admin, ada).await.unwrap();

    assert!(
        process.identity.authenticate_session(entered.token.expose(), LOCAL).await.is_err(),
        "who has the phone is out"
    );
    assert!(!process.is_mfa(&process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.unwrap()).await);
    assert_eq!(process.count("SELECT COUNT(*) FROM recovery_code").await, 0);
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.factor.removed'").await, 1);
    process.stop().await;
}

async fn factors_are_for_who_has_just_proven_to_be_the_person(house: &House) {
    let process = house.start().await;
    let (entered, _) = process.add_factor(house, &process.set_up(house).await).await;
    house.clock.advance(Duration::from_secs(11 * 60));
    let (caller, admin) = (process.caller(&entered).await, process.admin(house).await);
    let (identity, ada) = (&process.identity, entered.session.user.id);
    let id = identity.list_factors(&caller).await.unwrap()[0].id;

    for refused in [
        identity.create_factor(&caller).await.err(),
        identity.confirm_factor(&caller, visitor("127.0.0.1"), id, &Secret::from("000000")).await.err(),
        identity.remove_factor(&caller, id).await.err(),
        identity.create_recovery_codes(&caller).await.err(),
        identity.reset_factors(&caller, ada).await.err(),
    ] {
        assert_eq!(refused.unwrap().reason(), "STEP_UP_REQUIRED");
    }
    for refused in [
        identity.create_factor(&admin).await.err(),
        identity.list_factors(&admin).await.err(),
        identity.remove_factor(&admin, id).await.err(),
        identity.create_recovery_codes(&admin).await.err(),
    ] {
        assert_eq!(refused.unwrap().reason(), "SESSION_REQUIRED", "a key is nobody in particular");
    }
    process.stop().await;
}

async fn a_tenant_that_asks_for_a_factor_lets_nobody_do_anything_without(house: &House) {
    let process = house.start().await;
    let entered = process.set_up(house).await;
    let may = async |entered: &Entered| {
        let principal = process.caller(entered).await.principal;
        (principal.lacks_factor, principal.permissions.len())
    };
    assert_eq!(may(&entered).await, (false, 1));

    process.execute(r#"UPDATE tenant SET settings = '{"mfa_required": true}'"#).await;

    assert_eq!(may(&entered).await, (true, 0), "at once");
    let refused = process.identity.create_key(&process.caller(&entered).await, key("k", &[])).await.unwrap_err();
    assert_eq!(refused.reason(), "INSUFFICIENT_SCOPE");
    let (proven, secret) = process.add_factor(house, &entered).await;
    assert_eq!(may(&proven).await, (false, 1));
    let login = process.log_in_with("127.0.0.1", &code(&secret, house.clock.now())).await.unwrap();
    assert_eq!(may(&login).await, (false, 1));
    let caller = process.caller(&login).await;
    let id = process.identity.list_factors(&caller).await.unwrap()[0].id;
    process.identity.remove_factor(&caller, id).await.unwrap();
    assert_eq!(may(&login).await, (true, 0), "who removes it is asked again");
    assert!(process.identity.authenticate(&house.admin_key()).await.is_ok(), "keys are not asked");
    process.stop().await;
}
