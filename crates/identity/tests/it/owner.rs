//! Owners of keys.

use std::collections::BTreeMap;
use std::time::Duration;

use manifold_cache::{Mode, OnStoreFailure, Window};
use manifold_core::{Code, OwnerId, PageRequest, Principal, Secret, TenantId};
use manifold_identity::{KeyChange, Limited, NewKey, NewKeyOwner, OwnerChange, Question, Rule, Terms, VerifyCode};
use serde_json::Map;
use uuid::Uuid;

use crate::house::{House, calling, key};

on_both_engines!(
    an_owner_has_keys_which_tell_whose_they_are,
    what_all_keys_of_an_owner_were_used_for_is_added_up,
    an_owner_is_deleted_when_its_keys_are_revoked,
    all_keys_of_an_owner_are_counted_as_one_until_it_is_deleted,
    what_a_key_of_an_owner_hands_out_is_of_that_owner,
    a_question_about_a_key_counts_as_one_of_its_requests,
    an_external_id_is_there_once_and_malformed_ones_never,
    foreign_and_unknown_owners_are_the_same,
);

fn owner(external_id: &str) -> NewKeyOwner {
    NewKeyOwner { external_id: external_id.to_owned(), name: "Ada".to_owned(), metadata: Map::new() }
}

fn of(owner: OwnerId) -> NewKey {
    NewKey { terms: Terms { owner: Some(owner), ..Terms::default() }, ..key("k", &[]) }
}

async fn an_owner_has_keys_which_tell_whose_they_are(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let ada = process.identity.create_owner(&admin, owner("1")).await.unwrap();
    let made = process.identity.create_key(&admin, of(ada.id)).await.unwrap();
    let renamed = OwnerChange { name: Some("Ada's shop".to_owned()), metadata: None };

    let renamed = process.identity.update_owner(&admin, ada.id, renamed.clone()).await.unwrap();
    let listed = process.identity.list_owners(&admin, PageRequest::new(None, None).unwrap()).await.unwrap().data;
    let before = process.identity.authenticate(made.secret.expose()).await.unwrap();
    let nobodys = KeyChange { owner: Some(None), ..KeyChange::default() };
    let nobodys = process.identity.update_key(&admin, made.key.id, nobodys).await.unwrap();
    let after = process.identity.authenticate(made.secret.expose()).await.unwrap();

    assert_eq!((made.key.terms.owner, before.owner), (Some(ada.id), Some(ada.id)));
    assert_eq!((nobodys.terms.owner, after.owner), (None, None));
    assert_eq!((renamed.name.as_str(), renamed.external_id.as_str()), ("Ada's shop", "1"));
    assert_eq!((listed, process.identity.get_owner(&admin, ada.id).await.unwrap()), (vec![renamed.clone()], renamed));
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.owner.created'").await, 1);
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.owner.updated'").await, 1);
    process.stop().await;
}

async fn what_all_keys_of_an_owner_were_used_for_is_added_up(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let ada = process.identity.create_owner(&admin, owner("1")).await.unwrap().id;
    let others = process.identity.create_owner(&admin, owner("2")).await.unwrap().id;
    for owner in [ada, ada, others] {
        let made = process.identity.create_key(&admin, of(owner)).await.unwrap();
        process.identity.revoke_key(&admin, made.key.id).await.unwrap();
        assert!(process.identity.authenticate(made.secret.expose()).await.is_err());
    }
    process.stop().await;

    let process = house.start().await;
    let usage = process.identity.owner_usage(&admin, ada, Duration::from_secs(3_600)).await.unwrap();

    assert_eq!(usage.len(), 1);
    assert_eq!((usage[0].operation.as_str(), usage[0].outcome.as_str(), usage[0].sums.n), ("call", "key_disabled", 2));
    process.stop().await;
}

async fn an_owner_is_deleted_when_its_keys_are_revoked(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let ada = process.identity.create_owner(&admin, owner("1")).await.unwrap().id;
    let made = process.identity.create_key(&admin, of(ada)).await.unwrap();

    let early = process.identity.delete_owner(&admin, ada).await.unwrap_err();
    process.identity.revoke_key(&admin, made.key.id).await.unwrap();
    process.identity.delete_owner(&admin, ada).await.unwrap();

    assert_eq!((early.code(), early.reason()), (Code::Conflict, "OWNER_IN_USE"));
    assert_eq!(process.identity.get_owner(&admin, ada).await.unwrap_err().reason(), "OWNER_NOT_FOUND");
    assert_eq!(process.identity.get_key(&admin, made.key.id).await.unwrap().terms.owner, None);
    assert!(process.identity.create_owner(&admin, owner("1")).await.is_ok());
    process.stop().await;
}

fn minute(name: &str) -> Rule {
    Rule {
        name: name.to_owned(),
        quota: 5,
        window: Window::Lasting(Duration::from_secs(60)),
        burst: None,
        algorithm: None,
        mode: Mode::Local,
        on_store_failure: OnStoreFailure::Local,
    }
}

async fn all_keys_of_an_owner_are_counted_as_one_until_it_is_deleted(house: &House) {
    let process = house.start().await;
    let identity = &process.identity;
    let admin = process.admin(house).await;
    let ada = identity.create_owner(&admin, owner("1")).await.unwrap().id;
    let (mut keys, mut callers) = (Vec::new(), Vec::new());
    for new in [of(ada), of(ada), key("another", &[])] {
        let made = identity.create_key(&admin, new).await.unwrap();
        callers.push(identity.authenticate(made.secret.expose()).await.unwrap());
        keys.push(made.key.id);
    }
    let met = |caller: &Principal| {
        let own = identity.limits_of(caller);
        own.iter().map(|own| (own.policies[0].name().to_owned(), own.counter)).collect::<Vec<_>>()
    };

    identity.set_limits(&admin, Limited::Owner(ada), vec![minute("minute")]).await.unwrap();
    identity.set_limits(&admin, Limited::Key(keys[0]), vec![minute("own")]).await.unwrap();

    let shared = ("owner/minute".to_owned(), ada.0.as_u128());
    let own = ("key/own".to_owned(), keys[0].0.as_u128());
    assert_eq!(met(&callers[0]), [own, shared.clone()]);
    assert_eq!((met(&callers[1]), met(&callers[2])), (vec![shared], Vec::new()));
    assert_eq!(identity.get_limits(&admin, Limited::Owner(ada)).await.unwrap().rules, [minute("minute")]);

    for key in &keys {
        identity.revoke_key(&admin, *key).await.unwrap();
    }
    identity.delete_owner(&admin, ada).await.unwrap();

    let gone = identity.get_limits(&admin, Limited::Owner(ada)).await.unwrap_err();
    assert_eq!(gone.reason(), "SUBJECT_NOT_FOUND");
    assert_eq!(process.count("SELECT COUNT(*) FROM limit_rule").await, 1, "that of the key");
    process.stop().await;
}

async fn what_a_key_of_an_owner_hands_out_is_of_that_owner(house: &House) {
    let process = house.start().await;
    let identity = &process.identity;
    let admin = process.admin(house).await;
    let ada = identity.create_owner(&admin, owner("1")).await.unwrap().id;
    let other = identity.create_owner(&admin, owner("2")).await.unwrap().id;
    let nobodys = identity.create_key(&admin, key("app", &[])).await.unwrap().key.id;
    let made = identity.create_key(&admin, NewKey { permissions: vec!["*".to_owned()], ..of(ada) }).await.unwrap();
    let caller = calling(identity.authenticate(made.secret.expose()).await.unwrap());

    let own = identity.create_key(&caller, key("k", &[])).await.unwrap().key;
    let to = |owner| KeyChange { owner: Some(owner), ..KeyChange::default() };
    let refused = [
        identity.create_key(&caller, of(other)).await.map(|_| ()).unwrap_err(),
        identity.update_key(&caller, own.id, to(None)).await.map(|_| ()).unwrap_err(),
        identity.update_key(&caller, own.id, to(Some(other))).await.map(|_| ()).unwrap_err(),
        identity.rotate_key(&caller, nobodys, Duration::ZERO).await.map(|_| ()).unwrap_err(),
    ];

    assert_eq!(own.terms.owner, Some(ada), "without being told");
    for error in refused {
        assert_eq!((error.reason(), error.param()), ("ESCALATION", Some("owner")));
    }
    assert_eq!(identity.update_key(&admin, own.id, to(None)).await.unwrap().terms.owner, None);
    process.stop().await;
}

async fn a_question_about_a_key_counts_as_one_of_its_requests(house: &House) {
    let process = house.start().await;
    let identity = &process.identity;
    let admin = process.admin(house).await;
    let ada = identity.create_owner(&admin, owner("1")).await.unwrap().id;
    let paid = NewKey { terms: Terms { credits: Some(9), ..of(ada).terms }, ..of(ada) };
    let paid = identity.create_key(&admin, paid).await.unwrap().secret;
    let free = identity.create_key(&admin, of(ada)).await.unwrap().secret;
    identity.set_limits(&admin, Limited::Owner(ada), vec![Rule { quota: 2, ..minute("minute") }]).await.unwrap();
    identity.set_limits(&admin, Limited::Tenant, vec![Rule { quota: 1, ..minute("all") }]).await.unwrap();
    let ask = async |key: &Secret<String>, permissions: &str| {
        let question = Question {
            key: key.clone(),
            permissions: Some(permissions.to_owned()),
            credits: 1,
            ip: None,
            origin: None,
            method: None,
            api: None,
            tags: BTreeMap::new(),
        };
        let (code, key) = identity.verify_key(&admin, &question).await.unwrap();
        let key = key.unwrap();
        (code, key.credits, key.limits.into_iter().map(|state| (state.name, state.remaining)).collect::<Vec<_>>())
    };
    let left = |remaining| vec![("owner/minute".to_owned(), remaining)];
    let run = "ai.inference.run";

    assert_eq!(ask(&paid, "keys.key.read").await, (VerifyCode::InsufficientPermissions, Some(9), Vec::new()));
    assert_eq!(ask(&paid, run).await, (VerifyCode::Valid, Some(8), left(1)));
    assert_eq!(ask(&free, run).await, (VerifyCode::Valid, None, left(0)));
    assert_eq!(ask(&paid, run).await, (VerifyCode::RateLimited, Some(8), left(0)));
    house.clock.advance(Duration::from_secs(30));
    assert_eq!(ask(&free, run).await, (VerifyCode::Valid, None, left(0)));
    process.stop().await;
}

async fn an_external_id_is_there_once_and_malformed_ones_never(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    process.identity.create_owner(&admin, owner("1")).await.unwrap();

    let again = process.identity.create_owner(&admin, owner("1")).await.unwrap_err();
    assert_eq!((again.code(), again.reason()), (Code::Conflict, "OWNER_EXISTS"));
    for external_id in ["", "a b", "é", &"x".repeat(129)] {
        let error = process.identity.create_owner(&admin, owner(external_id)).await.unwrap_err();

        assert_eq!((error.code(), error.param()), (Code::Invalid, Some("external_id")));
    }
    process.stop().await;
}

async fn foreign_and_unknown_owners_are_the_same(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let ada = process.identity.create_owner(&admin, owner("1")).await.unwrap().id;
    let stranger = calling(Principal { tenant: TenantId(Uuid::new_v4()), key: None, ..admin.principal.clone() });
    let nobody = OwnerId(Uuid::new_v4());

    for (caller, id) in [(&stranger, ada), (&admin, nobody)] {
        let identity = &process.identity;
        let shown = identity.get_owner(caller, id).await.unwrap_err();
        let changed = identity.update_owner(caller, id, OwnerChange::default()).await.unwrap_err();
        let deleted = identity.delete_owner(caller, id).await.unwrap_err();
        let used = identity.owner_usage(caller, id, Duration::from_secs(3_600)).await.unwrap_err();

        for error in [shown, changed, deleted, used] {
            assert_eq!((error.code(), error.reason()), (Code::NotFound, "OWNER_NOT_FOUND"));
        }
        let made = identity.create_key(caller, of(id)).await.unwrap_err();
        assert_eq!((made.reason(), made.param()), ("OWNER_UNKNOWN", Some("owner")));
    }
    let key = process.identity.create_key(&admin, key("k", &["keys.key.*"])).await.unwrap();
    let key = calling(process.identity.authenticate(key.secret.expose()).await.unwrap());
    assert_eq!(process.identity.get_owner(&key, ada).await.unwrap_err().reason(), "INSUFFICIENT_SCOPE");
    assert_eq!(process.identity.create_owner(&key, owner("2")).await.unwrap_err().reason(), "INSUFFICIENT_SCOPE");
    process.stop().await;
}
