//! Making, listing, showing and revoking keys.

use std::time::Duration;

use manifold_core::{Code, KeyId, PageRequest, Principal, TenantId};
use manifold_identity::{Environment, KeyState, NewKey};
use uuid::Uuid;

use crate::house::{House, calling, key};

on_both_engines!(
    a_new_key_works_at_once_and_holds_what_it_was_given,
    a_key_never_holds_more_than_its_maker,
    malformed_wishes_are_refused_by_name,
    keys_are_paged_newest_first,
    a_foreign_key_is_as_unknown_as_one_that_never_was,
    a_revoked_key_is_dead_at_once_and_stays_so,
    keys_without_the_permission_manage_nothing,
    uses_are_written_down_at_the_latest_when_the_service_stops,
);

async fn a_new_key_works_at_once_and_holds_what_it_was_given(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;

    let created = process.identity.create_key(&admin, key("ci", &["ai.*", "keys.key.read"])).await.unwrap();

    let principal = process.identity.authenticate(created.secret.expose()).await.unwrap();
    assert_eq!((principal.tenant, principal.key), (admin.principal.tenant, Some(created.key.id)));
    assert_eq!(&*principal.permissions, ["ai.*".to_owned(), "keys.key.read".to_owned()]);
    assert_eq!(&*principal.environment, "live");
    assert!(created.secret.expose().starts_with(&created.key.prefix));
    assert_eq!(process.identity.get_key(&admin, created.key.id).await.unwrap(), created.key);
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.key.created'").await, 2);
    process.stop().await;
}

async fn a_key_never_holds_more_than_its_maker(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let maker = NewKey { environment: Environment::Test, ..key("maker", &["keys.*", "ai.inference.run"]) };
    let maker = process.identity.create_key(&admin, maker).await.unwrap();
    let maker = calling(process.identity.authenticate(maker.secret.expose()).await.unwrap());
    let test_key = |permissions| NewKey { environment: Environment::Test, ..key("more", permissions) };

    for wish in [test_key(&["*"]), test_key(&["keys.key.read", "ai.*"]), key("live", &["keys.key.read"])] {
        let error = process.identity.create_key(&maker, wish).await.unwrap_err();

        assert_eq!((error.code(), error.reason()), (Code::Denied, "ESCALATION"));
    }
    let default = process.identity.create_key(&maker, test_key(&[])).await.unwrap();
    assert_eq!(default.key.permissions, ["ai.inference.run"]);
    process.stop().await;
}

async fn malformed_wishes_are_refused_by_name(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let past = NewKey { expires_at: Some(house.clock.now()), ..key("late", &[]) };

    for (wish, param) in [
        (key("", &[]), "name"),
        (key("  ", &[]), "name"),
        (key("line\nbreak", &[]), "name"),
        (key(&"x".repeat(101), &[]), "name"),
        (key("typo", &["ai.inference.run", "AI.run"]), "permissions[1]"),
        (past, "expires_at"),
    ] {
        let error = process.identity.create_key(&admin, wish).await.unwrap_err();

        assert_eq!((error.code(), error.param()), (Code::Invalid, Some(param)));
    }
    process.stop().await;
}

async fn keys_are_paged_newest_first(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    for name in ["a", "b", "c"] {
        house.clock.advance(Duration::from_secs(1));
        process.identity.create_key(&admin, key(name, &[])).await.unwrap();
    }

    let first = process.identity.list_keys(&admin, PageRequest::new(Some(2), None).unwrap()).await.unwrap();
    let second = process.identity.list_keys(&admin, PageRequest::new(Some(2), first.next).unwrap()).await.unwrap();

    let names = |keys: &[manifold_identity::KeyInfo]| keys.iter().map(|key| key.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&first.data), ["c", "b"]);
    assert_eq!(names(&second.data), ["a", "admin"]);
    assert_eq!(second.next, None);
    process.stop().await;
}

async fn a_foreign_key_is_as_unknown_as_one_that_never_was(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let theirs = process.identity.create_key(&admin, key("theirs", &[])).await.unwrap();
    let stranger = calling(Principal { tenant: TenantId(Uuid::new_v4()), ..admin.principal.clone() });

    for id in [theirs.key.id, KeyId(Uuid::new_v4())] {
        let shown = process.identity.get_key(&stranger, id).await.unwrap_err();
        let revoked = process.identity.revoke_key(&stranger, id).await.unwrap_err();

        for error in [shown, revoked] {
            assert_eq!(
                (error.code(), error.reason(), error.message()),
                (Code::NotFound, "KEY_NOT_FOUND", "no such key")
            );
        }
    }
    let listed = process.identity.list_keys(&stranger, PageRequest::new(None, None).unwrap()).await.unwrap();
    assert!(listed.data.is_empty());
    assert!(process.identity.authenticate(theirs.secret.expose()).await.is_ok());
    process.stop().await;
}

async fn a_revoked_key_is_dead_at_once_and_stays_so(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let created = process.identity.create_key(&admin, key("ci", &[])).await.unwrap();
    process.identity.authenticate(created.secret.expose()).await.unwrap();

    let revoked = process.identity.revoke_key(&admin, created.key.id).await.unwrap();
    house.clock.advance(Duration::from_secs(1));
    let again = process.identity.revoke_key(&admin, created.key.id).await.unwrap();

    let refused = process.identity.authenticate(created.secret.expose()).await.unwrap_err();
    assert_eq!((refused.code(), refused.reason()), (Code::Unauthenticated, "KEY_DISABLED"));
    assert_eq!(revoked.state, KeyState::Revoked);
    assert_eq!(again, revoked);
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.key.revoked'").await, 1);
    assert_eq!(process.count("SELECT COUNT(*) FROM revocation").await, 1);
    process.stop().await;
}

async fn keys_without_the_permission_manage_nothing(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let reader = process.identity.create_key(&admin, key("reader", &["keys.key.read"])).await.unwrap();
    let reader = calling(process.identity.authenticate(reader.secret.expose()).await.unwrap());
    let nobody = calling(Principal { permissions: [].into(), ..reader.principal.clone() });
    let id = reader.principal.key.unwrap();

    let made = process.identity.create_key(&reader, key("more", &[])).await.unwrap_err();
    let revoked = process.identity.revoke_key(&reader, id).await.unwrap_err();
    let shown = process.identity.get_key(&nobody, id).await.unwrap_err();
    let listed = process.identity.list_keys(&nobody, PageRequest::new(None, None).unwrap()).await.unwrap_err();

    for error in [made, revoked, shown, listed] {
        assert_eq!((error.code(), error.reason()), (Code::Denied, "INSUFFICIENT_SCOPE"));
    }
    assert!(process.identity.get_key(&reader, id).await.is_ok());
    process.stop().await;
}

async fn uses_are_written_down_at_the_latest_when_the_service_stops(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let used = process.identity.create_key(&admin, key("used", &[])).await.unwrap();
    let idle = process.identity.create_key(&admin, key("idle", &[])).await.unwrap();
    house.clock.advance(Duration::from_secs(2));
    process.identity.authenticate(used.secret.expose()).await.unwrap();
    house.clock.advance(Duration::from_secs(1));
    process.identity.authenticate(used.secret.expose()).await.unwrap();
    let last = house.clock.now();
    process.stop().await;

    let process = house.start().await;

    let seen = process.identity.get_key(&admin, used.key.id).await.unwrap().last_used_at;
    assert_eq!(seen, Some(last));
    assert_eq!(process.identity.get_key(&admin, idle.key.id).await.unwrap().last_used_at, None);
    process.stop().await;
}
