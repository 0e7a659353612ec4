//! Invitations: making them, following them, and what ends them.

use std::time::Duration;

use manifold_core::Secret;
use manifold_identity::{KeyChange, RoleGrant};

use crate::house::{House, calling, key};
use crate::members::page;
use crate::people::PASSWORD;

on_both_engines!(
    an_invitation_makes_a_member_once,
    who_has_an_account_joins_by_its_password,
    invitations_end_by_time_by_a_newer_one_and_by_word,
    invitations_of_a_key_end_with_it,
    nobody_joins_a_tenant_that_is_suspended_or_closed_meanwhile,
    what_is_promised_to_people_is_on_record,
);

async fn an_invitation_makes_a_member_once(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let (invitation, made) = process.identity.invite(&owner, "Grace@example.org", "developer").await.unwrap();
    assert_eq!((invitation.email.as_str(), &*invitation.invited_by), ("Grace@example.org", &*owner.principal.subject));
    let weak = process.follow(&made.as_ref().unwrap().token, "password1").await.unwrap_err();
    let wrong = process.follow(&Secret::from("mfi_guessed"), PASSWORD).await.unwrap_err();
    assert_eq!((weak.reason(), wrong.reason()), ("PASSWORD_WEAK", "TOKEN_INVALID"));

    let tries = (0..4).map(|_| process.follow(&made.as_ref().unwrap().token, PASSWORD));
    let (joined, refused): (Vec<_>, Vec<_>) =
        futures::future::join_all(tries).await.into_iter().partition(Result::is_ok);

    assert_eq!(joined.len(), 1);
    assert!(
        refused.iter().all(|outcome| {
            matches!(outcome.as_ref().unwrap_err().reason(), "TOKEN_INVALID" | "INVALID_CREDENTIALS")
        })
    );
    let grace = joined.into_iter().next().unwrap().unwrap();
    assert_eq!(
        (grace.session.roles.as_slice(), grace.session.tenant),
        (&["developer".to_owned()][..], owner.principal.tenant)
    );
    let members = process.identity.list_members(&owner, page()).await.unwrap().data;
    let seen: Vec<_> = members.iter().map(|member| (member.user.name.as_str(), member.roles[0].as_str())).collect();
    assert!(seen.contains(&("Ada", "owner")) && seen.contains(&("Grace", "developer")) && seen.len() == 2);
    assert!(process.identity.list_invitations(&owner, page()).await.unwrap().data.is_empty());
    assert!(process.log_in("127.0.0.1", "grace@example.org", PASSWORD).await.is_ok());
    process.stop().await;
}

async fn who_has_an_account_joins_by_its_password(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    process.join(&owner, "grace@example.org", "viewer").await;
    let made = process.identity.invite(&owner, "grace@example.org", "developer").await.unwrap().1.unwrap();

    let wrong = process.follow(&made.token, "another four words here").await.unwrap_err();
    let right = process.follow(&made.token, PASSWORD).await.unwrap();

    assert_eq!(wrong.reason(), "INVALID_CREDENTIALS");
    assert_eq!(right.session.roles, ["developer", "viewer"]);
    assert_eq!(process.count("SELECT COUNT(*) FROM user_account").await, 2);
    process.stop().await;
}

async fn invitations_end_by_time_by_a_newer_one_and_by_word(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let invite = async || process.identity.invite(&owner, "grace@example.org", "viewer").await.unwrap();

    let (_, replaced) = invite().await;
    let (taken_back, old) = invite().await;
    process.identity.revoke_invitation(&owner, taken_back.id).await.unwrap();
    let twice = process.identity.revoke_invitation(&owner, taken_back.id).await.unwrap_err();
    let (_, late) = invite().await;
    house.clock.advance(Duration::from_secs(8 * 24 * 3_600));

    for made in [replaced, old, late] {
        assert_eq!(process.follow(&made.unwrap().token, PASSWORD).await.unwrap_err().reason(), "TOKEN_INVALID");
    }
    assert_eq!(twice.reason(), "INVITATION_NOT_FOUND");
    assert_eq!(process.count("SELECT COUNT(*) FROM user_account").await, 1);
    process.stop().await;
}

async fn what_is_promised_to_people_is_on_record(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let grace = process.join(&owner, "grace@example.org", "developer").await.session.user.id;

    let (invitation, _) = process.identity.invite(&owner, "joan@example.org", "viewer").await.unwrap();
    process.identity.revoke_invitation(&owner, invitation.id).await.unwrap();
    let again = process.identity.revoke_invitation(&owner, invitation.id).await.unwrap_err();
    process.identity.make_reset_link(&owner, grace).await.unwrap();

    assert_eq!(again.reason(), "INVITATION_NOT_FOUND");
    for (sql, n) in [
        ("SELECT COUNT(*) FROM audit_entry WHERE action = 'identity.invitation.created'", 2),
        ("SELECT COUNT(*) FROM audit_entry WHERE action = 'identity.invitation.revoked'", 1),
        ("SELECT COUNT(*) FROM audit_entry WHERE action = 'identity.user.reset_link_created'", 1),
    ] {
        assert_eq!(process.count(sql).await, n, "{sql}");
    }
    process.stop().await;
}

async fn invitations_of_a_key_end_with_it(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let made =
        process.identity.create_key(&owner, key("leaked", &["users.*", "roles.*", "keys.*", "ai.*"])).await.unwrap();
    let leaked = calling(process.identity.authenticate(made.secret.expose()).await.unwrap());
    let narrow = KeyChange { permissions: Some(vec!["users.user.read".to_owned()]), ..KeyChange::default() };

    let first = process.identity.invite(&leaked, "thief@example.org", "viewer").await.err();
    let role = vec![RoleGrant { permission: "ai.*".to_owned(), on: Vec::new(), when: None }];
    let role = process.identity.create_role(&owner, "ai", role).await.unwrap().id;
    let second = process.identity.invite(&leaked, "thief@example.org", &role).await.unwrap().1.unwrap();
    process.identity.update_key(&owner, made.key.id, narrow).await.unwrap();
    let narrowed = process.follow(&second.token, PASSWORD).await.unwrap_err();

    assert_eq!(first.map(|error| error.reason().to_owned()).as_deref(), Some("ESCALATION"));
    assert_eq!(narrowed.reason(), "TOKEN_INVALID");
    let third = process.identity.invite(&owner, "thief@example.org", &role).await.unwrap().1.unwrap();
    process.identity.revoke_key(&owner, made.key.id).await.unwrap();
    assert!(process.follow(&third.token, PASSWORD).await.is_ok(), "what others gave stays");
    process.stop().await;
}

async fn nobody_joins_a_tenant_that_is_suspended_or_closed_meanwhile(house: &House) {
    let process = house.start().await;
    let ada = process.owner(house).await;
    let (acme, grace) = process.tenant(&ada, "acme", "grace@example.org").await;
    let made = process.identity.invite(&grace, "joan@example.org", "viewer").await.unwrap().1.unwrap();

    process.execute("UPDATE tenant SET state = 'suspended' WHERE slug = 'acme'").await;
    let suspended = process.follow(&made.token, PASSWORD).await.unwrap_err();
    process.execute("UPDATE tenant SET state = 'active' WHERE slug = 'acme'").await;

    assert_eq!(suspended.reason(), "TENANT_SUSPENDED");
    assert_eq!(process.count("SELECT COUNT(*) FROM user_account").await, 2, "nothing was made");
    assert_eq!(process.follow(&made.token, PASSWORD).await.unwrap().session.tenant, acme.id);
    process.stop().await;
}
