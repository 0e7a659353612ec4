//! What a restricted key hands out is restricted as much.

use std::time::Duration;

use manifold_core::Error;
use manifold_identity::{KeyChange, NewKey, Restrictions, RoleGrant, Terms, Visit};
use manifold_runtime::CallContext;

use crate::house::{House, Process, calling, key};

on_both_engines!(
    a_restricted_key_makes_keys_that_are_restricted_as_much,
    a_restricted_key_changes_and_rotates_no_key_that_can_do_more,
    a_restricted_key_has_no_power_over_people_and_roles,
);

fn from(network: &str) -> Terms {
    let restrictions = Restrictions { ips: vec![network.to_owned()], ..Restrictions::default() };
    Terms { restrictions, ..Terms::default() }
}

/// A key of 192.0.2.0/24 that may do all that the administrator may, and calls from there.
async fn restricted(process: &Process, admin: &CallContext) -> CallContext {
    let new = NewKey { terms: from("192.0.2.0/24"), ..key("office", &["*"]) };
    let made = process.identity.create_key(admin, new).await.unwrap();
    let visit = Visit { ip: "192.0.2.7".parse().ok(), ..Visit::default() };
    calling(process.identity.admit(made.secret.expose(), &visit).await.unwrap())
}

fn is_too_much<T: std::fmt::Debug>(tried: Result<T, Error>) {
    assert_eq!(tried.unwrap_err().reason(), "ESCALATION");
}

async fn a_restricted_key_makes_keys_that_are_restricted_as_much(house: &House) {
    let process = house.start().await;
    let caller = restricted(&process, &process.admin(house).await).await;
    let create = async |terms| process.identity.create_key(&caller, NewKey { terms, ..key("k", &["ai.*"]) }).await;

    is_too_much(create(Terms::default()).await);
    is_too_much(create(from("192.0.0.0/16")).await);
    is_too_much(create(from("198.51.100.7")).await);

    assert!(create(from("192.0.2.128/25")).await.is_ok());
    assert_eq!(process.count("SELECT COUNT(*) FROM api_key").await, 3, "nothing was made of what was refused");
    process.stop().await;
}

async fn a_restricted_key_changes_and_rotates_no_key_that_can_do_more(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let caller = restricted(&process, &admin).await;
    let wide = process.identity.create_key(&admin, key("app", &["ai.*"])).await.unwrap().key.id;
    let new = NewKey { terms: from("192.0.2.8"), ..key("k", &["ai.*"]) };
    let narrow = process.identity.create_key(&caller, new).await.unwrap().key.id;
    let widen = || KeyChange { restrictions: Some(Restrictions::default()), ..KeyChange::default() };

    is_too_much(process.identity.rotate_key(&caller, wide, Duration::ZERO).await);
    is_too_much(process.identity.update_key(&caller, narrow, widen()).await);
    is_too_much(process.identity.update_key(&caller, caller.principal.key.unwrap(), widen()).await);

    assert!(process.identity.rotate_key(&caller, narrow, Duration::ZERO).await.is_ok());
    assert!(process.identity.update_key(&admin, narrow, widen()).await.is_ok());
    process.stop().await;
}

async fn a_restricted_key_has_no_power_over_people_and_roles(house: &House) {
    let process = house.start().await;
    let caller = restricted(&process, &process.admin(house).await).await;
    let grant = RoleGrant { permission: "ai.*".to_owned(), on: Vec::new(), when: None };

    is_too_much(process.identity.invite(&caller, "grace@example.org", "viewer").await.map(|_| ()));
    is_too_much(process.identity.create_role(&caller, "ai", vec![grant]).await.map(|_| ()));

    assert_eq!(process.count("SELECT COUNT(*) FROM invitation").await, 0);
    assert_eq!(process.count("SELECT COUNT(*) FROM role").await, 0);
    process.stop().await;
}
