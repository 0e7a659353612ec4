//! Roles that a tenant makes: who makes them, what they permit, and when.

use std::time::Duration;

use manifold_core::{PageRequest, Principal};
use manifold_identity::{Entered, RoleGrant};
use manifold_runtime::CallContext;

use crate::house::{House, LOCAL, Process, calling, key};
use crate::people::PASSWORD;

on_both_engines!(
    a_role_permits_what_it_says_at_once,
    a_condition_is_asked_at_every_call,
    nobody_makes_a_role_of_more_than_the_own,
    a_role_that_is_held_stays_and_a_built_in_one_always,
    members_are_listed_page_by_page_with_all_their_roles,
    roles_of_another_tenant_are_nothing,
    a_developer_has_the_own_keys_and_sees_no_others,
);

fn grant(permission: &str) -> RoleGrant {
    RoleGrant { permission: permission.to_owned(), on: Vec::new(), when: None }
}

impl Process {
    async fn member(&self, owner: &CallContext, role: &str) -> Entered {
        let made = self.identity.invite(owner, "grace@example.org", role).await.unwrap().1.unwrap();
        self.follow(&made.token, PASSWORD).await.unwrap()
    }

    async fn may(&self, who: &Entered) -> Vec<String> {
        self.caller(who).await.principal.permissions.to_vec()
    }
}

async fn a_role_permits_what_it_says_at_once(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let own = RoleGrant { on: vec!["own".to_owned()], ..grant("keys.key.*") };
    let role = process.identity.create_role(&owner, "support", vec![own, grant("users.user.read")]).await.unwrap();
    let grace = process.member(&owner, &role.id).await;
    assert_eq!(process.may(&grace).await, ["keys.key.*@own", "users.user.read"]);
    assert_eq!(grace.session.roles, std::slice::from_ref(&role.id));

    let changed = process
        .identity
        .update_role(&owner, &role.id, Some("help"), Some(vec![grant("roles.role.read")]))
        .await
        .unwrap();

    assert_eq!((changed.name.as_str(), &changed.grants), ("help", &vec![grant("roles.role.read")]));
    assert_eq!(process.may(&grace).await, ["roles.role.read"]);
    let grace = process.caller(&grace).await;
    let listed = process.identity.list_roles(&grace).await.unwrap();
    assert_eq!(listed.iter().filter(|role| role.built_in).count(), 5);
    assert_eq!(process.identity.get_role(&grace, &role.id).await.unwrap(), changed);
    process.stop().await;
}

async fn members_are_listed_page_by_page_with_all_their_roles(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    // The list is in the order of ids, and those of one moment have none.
    house.clock.advance(Duration::from_secs(1));
    let grace = process.member(&owner, "viewer").await.session.user.id;
    house.clock.advance(Duration::from_secs(1));
    let joan = process.join(&owner, "joan@example.org", "viewer").await.session.user.id;
    let two = vec!["viewer".to_owned(), "developer".to_owned()];
    process.identity.set_roles(&owner, grace, two).await.unwrap();
    process.identity.set_roles(&owner, joan, Vec::new()).await.unwrap();
    let page = |after| PageRequest::new(Some(2), after).unwrap();

    let first = process.identity.list_members(&owner, page(None)).await.unwrap();
    let second = process.identity.list_members(&owner, page(first.next)).await.unwrap();

    let roles: Vec<_> = first.data.iter().map(|member| member.roles.join(" ")).collect();
    assert_eq!(roles, ["owner", "developer viewer"]);
    assert_eq!((second.data.len(), second.data[0].user.id, second.next), (1, joan, None));
    assert!(second.data[0].roles.is_empty());
    assert_eq!(process.identity.get_member(&owner, grace).await.unwrap().roles, ["developer", "viewer"]);
    process.stop().await;
}

async fn a_condition_is_asked_at_every_call(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let from = "inNetwork(request.ip, '127.0.0.0/8') && request.time < 1763630000";
    let role = vec![RoleGrant { when: Some(from.to_owned()), ..grant("keys.*") }, grant("roles.role.read")];
    let role = process.identity.create_role(&owner, "office", role).await.unwrap();
    let grace = process.member(&owner, &role.id).await;

    assert_eq!(process.may(&grace).await, ["keys.*@now", "roles.role.read"]);
    let elsewhere = process.identity.authenticate_session(grace.token.expose(), "192.0.2.1".parse().unwrap()).await;
    assert_eq!(*elsewhere.unwrap().permissions, ["roles.role.read"]);
    let held = process.caller(&grace).await;
    assert!(
        held.principal.allows("keys.key.write") && !held.principal.covers("keys.key.read"),
        "it cannot be passed on"
    );
    let given = process.identity.create_key(&held, key("app", &["keys.key.read"])).await.unwrap_err();
    assert_eq!(given.reason(), "ESCALATION");
    house.clock.advance(Duration::from_secs(800));
    assert_eq!(process.may(&grace).await, ["roles.role.read"]);
    process.stop().await;
}

async fn nobody_makes_a_role_of_more_than_the_own(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let mighty = process.identity.create_role(&owner, "mighty", vec![grant("*")]).await.unwrap();
    let admin = process.member(&owner, "admin").await;
    let admin = process.caller(&admin).await;
    let identity = &process.identity;

    for wanted in ["*", "vault.key.rotate", "tenants.tenant.delete"] {
        let refused = identity.create_role(&admin, "mine", vec![grant("keys.*"), grant(wanted)]).await.unwrap_err();
        assert_eq!((refused.reason(), refused.param()), ("ESCALATION", Some("grants[1].permission")), "{wanted}");
    }
    let role = identity.create_role(&admin, "mine", vec![grant("keys.*")]).await.unwrap();
    for refused in [
        identity.update_role(&admin, &role.id, None, Some(vec![grant("*")])).await.unwrap_err(),
        identity.update_role(&admin, &mighty.id, None, Some(vec![grant("keys.*")])).await.unwrap_err(),
        identity.delete_role(&admin, &mighty.id).await.unwrap_err(),
        identity.invite(&admin, "joan@example.org", &mighty.id).await.unwrap_err(),
    ] {
        assert_eq!(refused.reason(), "ESCALATION", "{refused}");
    }
    let reader = calling(Principal { permissions: ["roles.role.read".to_owned()].into(), ..owner.principal.clone() });
    assert_eq!(
        identity.create_role(&reader, "x", vec![grant("a.b.c")]).await.unwrap_err().reason(),
        "INSUFFICIENT_SCOPE"
    );
    for (grants, reason) in [
        (vec![], "PERMISSION_INVALID"),
        (vec![grant("keys")], "PERMISSION_INVALID"),
        (vec![RoleGrant { when: Some("1 +".to_owned()), ..grant("keys.*") }], "EXPRESSION_INVALID"),
    ] {
        assert_eq!(identity.create_role(&owner, "x", grants).await.unwrap_err().reason(), reason);
    }
    process.stop().await;
}

async fn a_role_that_is_held_stays_and_a_built_in_one_always(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let identity = &process.identity;
    let role = identity.create_role(&owner, "support", vec![grant("keys.*")]).await.unwrap();
    let grace = process.member(&owner, &role.id).await;

    assert_eq!(identity.delete_role(&owner, &role.id).await.unwrap_err().reason(), "ROLE_IN_USE");
    assert_eq!(identity.delete_role(&owner, "viewer").await.unwrap_err().reason(), "ROLE_BUILT_IN");
    let renamed = identity.update_role(&owner, "viewer", Some("seer"), None).await.unwrap_err();
    assert_eq!(renamed.reason(), "ROLE_BUILT_IN");
    for taken in ["support", "Owner"] {
        let again = identity.create_role(&owner, taken, vec![grant("keys.*")]).await.unwrap_err();
        assert_eq!(again.reason(), "ROLE_EXISTS", "{taken}");
    }
    identity.set_roles(&owner, grace.session.user.id, vec!["viewer".to_owned()]).await.unwrap();
    identity.delete_role(&owner, &role.id).await.unwrap();
    assert_eq!(identity.get_role(&owner, &role.id).await.unwrap_err().reason(), "ROLE_NOT_FOUND");
    let unknown = identity.set_roles(&owner, grace.session.user.id, vec![role.id]).await.unwrap_err();
    assert_eq!(unknown.reason(), "ROLE_UNKNOWN");
    process.stop().await;
}

async fn roles_of_another_tenant_are_nothing(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let identity = &process.identity;
    let role = identity.create_role(&owner, "support", vec![grant("keys.*")]).await.unwrap();
    let (_, stranger) = process.tenant(&owner, "acme", "joan@example.org").await;

    assert_eq!(identity.list_roles(&stranger).await.unwrap().len(), 5);
    for refused in [
        identity.get_role(&stranger, &role.id).await.unwrap_err(),
        identity.update_role(&stranger, &role.id, Some("mine"), None).await.unwrap_err(),
        identity.delete_role(&stranger, &role.id).await.unwrap_err(),
    ] {
        assert_eq!(refused.reason(), "ROLE_NOT_FOUND");
    }
    let invited = identity.invite(&stranger, "grace@example.org", &role.id).await.unwrap_err();
    assert_eq!(invited.reason(), "ROLE_UNKNOWN");
    // Even where a row says so.
    process.execute(&format!("UPDATE role_binding SET role = '{}' WHERE role = 'owner'", role.id)).await;
    let session = process.log_in("127.0.0.1", "joan@example.org", PASSWORD).await.unwrap();
    assert!(process.may(&session).await.is_empty());
    assert!(identity.authenticate_session(session.token.expose(), LOCAL).await.is_ok());
    process.stop().await;
}

async fn a_developer_has_the_own_keys_and_sees_no_others(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let grace = process.member(&owner, "developer").await;
    let grace = process.caller(&grace).await;
    let identity = &process.identity;
    let foreign = identity.create_key(&owner, key("ada's", &["ai.inference.run"])).await.unwrap().key.id;
    let own = identity.create_key(&grace, key("grace's", &["ai.inference.run", "keys.key.read@own"])).await.unwrap();

    let page = manifold_core::PageRequest::new(None, None).unwrap();
    let listed = identity.list_keys(&grace, page).await.unwrap().data;
    assert_eq!(listed.iter().map(|key| key.id).collect::<Vec<_>>(), [own.key.id]);
    for refused in [
        identity.get_key(&grace, foreign).await.unwrap_err(),
        identity.revoke_key(&grace, foreign).await.unwrap_err(),
        identity.rotate_key(&grace, foreign, Duration::ZERO).await.unwrap_err(),
        identity.key_usage(&grace, foreign, Duration::from_secs(3_600)).await.unwrap_err(),
    ] {
        assert_eq!(refused.reason(), "KEY_NOT_FOUND");
    }
    let all = identity.create_key(&grace, key("more", &["keys.key.read"])).await.unwrap_err();
    assert_eq!(all.reason(), "ESCALATION");
    let made = calling(identity.authenticate(own.secret.expose()).await.unwrap());
    assert_eq!(identity.get_key(&made, own.key.id).await.unwrap_err().reason(), "KEY_NOT_FOUND", "it made none itself");
    assert!(identity.rotate_key(&grace, own.key.id, Duration::ZERO).await.is_ok());
    assert!(identity.revoke_key(&grace, own.key.id).await.is_ok());
    process.stop().await;
}
