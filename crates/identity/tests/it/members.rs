//! Members: inviting, joining, changing roles, leaving, and new passwords for who forgot theirs.

use std::time::Duration;

use manifold_core::{Code, Error, PageRequest, Principal, Secret, TenantId, UserId};
use manifold_identity::{Entered, KeyChange, NewTenantInfo, Newcomer, RoleGrant};
use manifold_runtime::CallContext;
use uuid::Uuid;

use crate::house::{House, LOCAL, Process, calling, key};
use crate::people::{PASSWORD, nobody, visitor};

on_both_engines!(
    an_invitation_makes_a_member_once,
    who_has_an_account_joins_by_its_password,
    invitations_end_by_time_by_a_newer_one_and_by_word,
    nobody_rises_above_oneself,
    roles_change_open_sessions_at_once,
    a_tenant_keeps_an_owner,
    a_member_who_is_removed_is_logged_out,
    who_forgot_the_password_gets_a_link,
    another_tenant_sees_nothing_of_it,
    nobody_gets_into_another_tenant_by_a_new_password,
    what_somebody_was_given_ends_when_the_power_behind_it_does,
    an_old_password_lets_nobody_in_while_it_is_being_changed,
    the_setup_token_ends_with_the_first_account_however_it_came,
    a_test_key_has_no_power_over_people,
    what_is_promised_to_people_is_on_record,
    invitations_of_a_key_end_with_it,
    nobody_joins_a_tenant_that_is_suspended_or_closed_meanwhile,
    who_gets_a_tenant_of_ones_own_has_no_open_reset,
);

impl Process {
    pub async fn join(&self, owner: &CallContext, email: &str, role: &str) -> Entered {
        let made = self.identity.invite(owner, email, role).await.unwrap().1.unwrap();
        self.follow(&made.token, PASSWORD).await.unwrap()
    }

    pub async fn follow(&self, token: &Secret<String>, password: &str) -> Result<Entered, Error> {
        let new =
            Newcomer { token: token.clone(), name: "Grace".to_owned(), password: Secret::from(password), code: None };
        self.identity.join(&nobody(), visitor("127.0.0.1"), new).await
    }

    pub async fn owner(&self, house: &House) -> CallContext {
        let entered = self.set_up(house).await;
        self.caller(&entered).await
    }
}

fn page() -> PageRequest {
    PageRequest::new(None, None).unwrap()
}

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

async fn nobody_rises_above_oneself(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let ada = UserId::parse(&owner.principal.subject).unwrap();
    let admin = process.join(&owner, "admin@example.org", "admin").await;
    let (admin, own) = (process.caller(&admin).await, admin.session.user.id);
    let viewer = process.join(&owner, "viewer@example.org", "viewer").await;
    let (viewer, low) = (process.caller(&viewer).await, viewer.session.user.id);
    let roles = |name: &str| vec![name.to_owned()];

    for refused in [
        process.identity.set_roles(&admin, own, roles("owner")).await.err(),
        process.identity.set_roles(&admin, ada, roles("viewer")).await.err(),
        process.identity.remove_member(&admin, ada).await.err(),
        process.identity.make_reset_link(&admin, ada).await.err(),
        process.identity.invite(&admin, "x@example.org", "owner").await.err(),
    ] {
        assert_eq!(refused.map(|error| error.reason().to_owned()).as_deref(), Some("ESCALATION"));
    }
    for refused in [
        process.identity.set_roles(&viewer, low, roles("viewer")).await.err(),
        process.identity.invite(&viewer, "x@example.org", "viewer").await.err(),
        process.identity.make_reset_link(&viewer, low).await.err(),
        process.identity.remove_member(&viewer, low).await.err(),
    ] {
        assert_eq!(refused.map(|error| error.reason().to_owned()).as_deref(), Some("INSUFFICIENT_SCOPE"));
    }
    let unknown = process.identity.set_roles(&owner, low, roles("emperor")).await.unwrap_err();
    assert_eq!((unknown.reason(), unknown.param()), ("ROLE_UNKNOWN", Some("roles[0]")));
    assert!(process.identity.set_roles(&admin, low, roles("developer")).await.is_ok());
    process.stop().await;
}

async fn roles_change_open_sessions_at_once(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let grace = process.join(&owner, "grace@example.org", "admin").await;
    assert!(process.caller(&grace).await.principal.allows("users.user.write"));

    let member = process.identity.set_roles(&owner, grace.session.user.id, vec!["viewer".to_owned()]).await.unwrap();

    let caller = process.caller(&grace).await;
    assert_eq!(member.roles, ["viewer"]);
    assert!(!caller.principal.allows("users.user.write") && caller.principal.allows("users.user.read"));
    process.stop().await;
}

async fn a_tenant_keeps_an_owner(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let ada = UserId::parse(&owner.principal.subject).unwrap();
    let lonely = [
        process.identity.set_roles(&owner, ada, vec!["admin".to_owned()]).await.err(),
        process.identity.set_roles(&owner, ada, Vec::new()).await.err(),
        process.identity.remove_member(&owner, ada).await.err(),
    ];
    for refused in lonely {
        let refused = refused.unwrap();
        assert_eq!((refused.code(), refused.reason()), (Code::Conflict, "LAST_OWNER"));
    }
    let other = process.join(&owner, "grace@example.org", "owner").await;
    let (grace, other) = (other.session.user.id, process.caller(&other).await);

    // Each of two owners ends the other: one of them stays.
    let (first, second) = futures::join!(
        process.identity.remove_member(&owner, grace),
        process.identity.set_roles(&other, ada, vec!["viewer".to_owned()]),
    );

    let refused: Vec<_> = [first.err(), second.err()].into_iter().flatten().collect();
    assert_eq!(refused.iter().map(Error::reason).collect::<Vec<_>>(), ["LAST_OWNER"]);
    assert_eq!(process.count("SELECT COUNT(*) FROM role_binding WHERE role = 'owner'").await, 1);
    process.stop().await;
}

async fn a_member_who_is_removed_is_logged_out(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let grace = process.join(&owner, "grace@example.org", "developer").await;

    process.identity.remove_member(&owner, grace.session.user.id).await.unwrap();

    assert!(process.identity.authenticate_session(grace.token.expose(), LOCAL).await.is_err());
    assert_eq!(
        process.log_in("127.0.0.1", "grace@example.org", PASSWORD).await.unwrap_err().reason(),
        "INVALID_CREDENTIALS"
    );
    let gone = process.identity.remove_member(&owner, grace.session.user.id).await.unwrap_err();
    assert_eq!(gone.reason(), "USER_NOT_FOUND");
    process.join(&owner, "grace@example.org", "viewer").await;
    assert!(process.identity.authenticate_session(grace.token.expose(), LOCAL).await.is_err(), "it does not come back");
    process.stop().await;
}

async fn who_forgot_the_password_gets_a_link(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let grace = process.join(&owner, "grace@example.org", "developer").await;
    let link = async || process.identity.make_reset_link(&owner, grace.session.user.id).await.unwrap().token;
    let reset = async |token: &Secret<String>, new: &str| {
        process
            .identity
            .reset_password(&nobody(), token, &Secret::from(new))
            .await
            .map_err(|error| error.reason().to_owned())
    };

    let replaced = link().await;
    let token = link().await;
    assert_eq!(reset(&replaced, "another four words here").await.unwrap_err(), "TOKEN_INVALID");
    assert_eq!(reset(&token, "password1").await.unwrap_err(), "PASSWORD_WEAK");
    reset(&token, "another four words here").await.unwrap();
    assert_eq!(reset(&token, "yet another four words").await.unwrap_err(), "TOKEN_INVALID");
    let late = link().await;
    house.clock.advance(Duration::from_secs(25 * 3_600));
    assert_eq!(reset(&late, "yet another four words").await.unwrap_err(), "TOKEN_INVALID");

    assert!(process.identity.authenticate_session(grace.token.expose(), LOCAL).await.is_err());
    assert!(process.log_in("127.0.0.1", "grace@example.org", PASSWORD).await.is_err());
    assert!(process.log_in("127.0.0.1", "grace@example.org", "another four words here").await.is_ok());
    process.stop().await;
}

async fn another_tenant_sees_nothing_of_it(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let grace = process.join(&owner, "grace@example.org", "developer").await.session.user.id;
    let (invitation, _) = process.identity.invite(&owner, "bob@example.org", "viewer").await.unwrap();
    let stranger = calling(Principal { tenant: TenantId(Uuid::new_v4()), ..owner.principal.clone() });

    assert!(process.identity.list_members(&stranger, page()).await.unwrap().data.is_empty());
    assert!(process.identity.list_invitations(&stranger, page()).await.unwrap().data.is_empty());
    for refused in [
        process.identity.get_member(&stranger, grace).await.err(),
        process.identity.set_roles(&stranger, grace, vec!["viewer".to_owned()]).await.err(),
        process.identity.remove_member(&stranger, grace).await.err(),
        process.identity.make_reset_link(&stranger, grace).await.err(),
    ] {
        assert_eq!(refused.map(|error| error.reason().to_owned()).as_deref(), Some("USER_NOT_FOUND"));
    }
    let foreign = process.identity.revoke_invitation(&stranger, invitation.id).await.unwrap_err();
    assert_eq!(foreign.reason(), "INVITATION_NOT_FOUND");
    process.stop().await;
}

async fn nobody_gets_into_another_tenant_by_a_new_password(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let grace = process.join(&owner, "grace@example.org", "viewer").await.session.user.id;
    for sql in [
        "INSERT INTO tenant (id, slug, name, state, settings, created_at) \
         SELECT u.id, 'other', 'other', 'active', t.settings, 0 FROM user_account u, tenant t WHERE u.email_norm LIKE 'grace%'",
        "INSERT INTO membership (tenant_id, user_id, created_at) SELECT id, id, 1 FROM user_account WHERE email_norm LIKE 'grace%'",
    ] {
        process.execute(sql).await;
    }

    let refused = process.identity.make_reset_link(&owner, grace).await.unwrap_err();

    assert_eq!((refused.code(), refused.reason()), (Code::Denied, "ESCALATION"));
    process.stop().await;
}

async fn what_somebody_was_given_ends_when_the_power_behind_it_does(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let mallory = process.join(&owner, "mallory@example.org", "admin").await;
    let (mallory, who) = (process.caller(&mallory).await, mallory.session.user.id);
    let grace = process.join(&owner, "grace@example.org", "developer").await.session.user.id;
    let link = process.identity.make_reset_link(&mallory, grace).await.unwrap().token;
    let friend = process.identity.invite(&mallory, "friend@example.org", "admin").await.unwrap().1.unwrap();
    let again = process.identity.invite(&owner, "mallory@example.org", "viewer").await.unwrap().1.unwrap();
    let own = process.identity.make_reset_link(&mallory, who).await.unwrap_err();

    process.identity.set_roles(&owner, grace, vec!["owner".to_owned()]).await.unwrap();
    let late = process.identity.reset_password(&nobody(), &link, &Secret::from("another four words here")).await;
    process.identity.remove_member(&owner, who).await.unwrap();

    assert_eq!((own.reason(), late.unwrap_err().reason()), ("ESCALATION", "TOKEN_INVALID"));
    for made in [friend, again] {
        assert_eq!(process.follow(&made.token, PASSWORD).await.unwrap_err().reason(), "TOKEN_INVALID");
    }
    process.stop().await;
}

async fn an_old_password_lets_nobody_in_while_it_is_being_changed(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let grace = process.join(&owner, "grace@example.org", "developer").await.session.user.id;
    let passwords = [PASSWORD, "first other four words", "second other four words", "third other four words"];

    for pair in passwords.windows(2) {
        let (old, new) = (pair[0], Secret::from(pair[1]));
        let link = process.identity.make_reset_link(&owner, grace).await.unwrap().token;
        let visitor = nobody();
        let logins = (0..4).map(|n| {
            let from = format!("198.51.{n}.7");
            let process = &process;
            async move { process.log_in(&from, "grace@example.org", old).await }
        });
        let (reset, thieves) =
            futures::join!(process.identity.reset_password(&visitor, &link, &new), futures::future::join_all(logins),);
        reset.unwrap();
        for thief in thieves.into_iter().flatten() {
            assert!(
                process.identity.authenticate_session(thief.token.expose(), LOCAL).await.is_err(),
                "it outlived the reset"
            );
        }
    }
    process.stop().await;
}

async fn the_setup_token_ends_with_the_first_account_however_it_came(house: &House) {
    let process = house.start().await;
    let admin = process.admin(house).await;
    let token = std::fs::read_to_string(house.file("setup.token")).unwrap();
    process.join(&admin, "grace@example.org", "owner").await;

    let new = manifold_identity::NewOwner {
        token: Secret::from(token.trim()),
        email: "ada@example.org".to_owned(),
        name: "Ada".to_owned(),
        password: Secret::from(PASSWORD),
    };
    let late = process.identity.set_up(&nobody(), visitor("127.0.0.1"), new).await.unwrap_err();

    assert_eq!(late.reason(), "SETUP_TOKEN_INVALID");
    assert!(!house.file("setup.token").exists());
    process.stop().await;
}

async fn a_test_key_has_no_power_over_people(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let grace = process.join(&owner, "grace@example.org", "viewer").await.session.user.id;
    let test = calling(Principal { environment: "test".into(), ..process.admin(house).await.principal });

    for refused in [
        process.identity.invite(&test, "x@example.org", "viewer").await.err(),
        process.identity.make_reset_link(&test, grace).await.err(),
        process.identity.set_roles(&test, grace, vec!["owner".to_owned()]).await.err(),
        process.identity.remove_member(&test, grace).await.err(),
    ] {
        assert_eq!(refused.map(|error| error.reason().to_owned()).as_deref(), Some("ESCALATION"));
    }
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

async fn who_gets_a_tenant_of_ones_own_has_no_open_reset(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let grace = process.join(&owner, "grace@example.org", "admin").await;
    let reset = process.identity.make_reset_link(&owner, grace.session.user.id).await.unwrap();
    let new = NewTenantInfo { name: "Hers".to_owned(), slug: "hers".to_owned(), owner: None };

    process.identity.create_tenant(&process.caller(&grace).await, new).await.unwrap();

    let taken = process.identity.reset_password(&nobody(), &reset.token, &Secret::from(PASSWORD)).await.unwrap_err();
    assert_eq!(taken.reason(), "TOKEN_INVALID");
    process.stop().await;
}
