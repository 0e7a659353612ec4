//! Members: changing roles, leaving, and new passwords for who forgot theirs.

use std::time::Duration;

use manifold_core::{Code, Error, PageRequest, Principal, Secret, TenantId, UserId};
use manifold_identity::{Entered, NewTenantInfo, Newcomer};
use manifold_runtime::CallContext;
use uuid::Uuid;

use crate::house::{House, LOCAL, Process, calling};
use crate::people::{PASSWORD, nobody, visitor};

on_both_engines!(
    nobody_rises_above_oneself,
    roles_change_open_sessions_at_once,
    a_tenant_keeps_an_owner,
    a_member_who_is_removed_is_logged_out,
    who_may_sees_and_ends_the_sessions_of_a_member,
    who_forgot_the_password_gets_a_link,
    another_tenant_sees_nothing_of_it,
    nobody_gets_into_another_tenant_by_a_new_password,
    what_somebody_was_given_ends_when_the_power_behind_it_does,
    an_old_password_lets_nobody_in_while_it_is_being_changed,
    the_setup_token_ends_with_the_first_account_however_it_came,
    a_test_key_has_no_power_over_people,
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

pub fn page() -> PageRequest {
    PageRequest::new(None, None).unwrap()
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

async fn who_may_sees_and_ends_the_sessions_of_a_member(house: &House) {
    let process = house.start().await;
    let owner = process.owner(house).await;
    let ada = UserId::parse(&owner.principal.subject).unwrap();
    let grace = process.join(&owner, "grace@example.org", "developer").await;
    let user = grace.session.user.id;
    house.clock.advance(Duration::from_secs(1));
    let again = process.log_in("203.0.113.7", "grace@example.org", PASSWORD).await.unwrap();
    let admin = process.join(&owner, "admin@example.org", "admin").await;
    let (own, admin) = (admin.session.user.id, process.caller(&admin).await);
    let developer = process.caller(&grace).await;
    let key = process.admin(house).await;
    let unknown = UserId(Uuid::new_v4());

    let listed = process.identity.list_sessions_of(&admin, user).await.unwrap();
    let refused = [
        (process.identity.list_sessions_of(&developer, ada).await.err(), "INSUFFICIENT_SCOPE"),
        (process.identity.revoke_sessions_of(&developer, ada).await.err(), "INSUFFICIENT_SCOPE"),
        (process.identity.list_sessions_of(&key, user).await.err(), "SESSION_REQUIRED"),
        (process.identity.revoke_sessions_of(&key, user).await.err(), "SESSION_REQUIRED"),
        (process.identity.list_sessions_of(&admin, unknown).await.err(), "USER_NOT_FOUND"),
        (process.identity.revoke_sessions_of(&admin, unknown).await.err(), "USER_NOT_FOUND"),
        (process.identity.revoke_sessions_of(&admin, ada).await.err(), "ESCALATION"),
    ];
    let ended = process.identity.revoke_sessions_of(&admin, user).await.unwrap();

    let ids: Vec<_> = listed.iter().map(|session| session.id).collect();
    assert_eq!(ids, [again.session.id, grace.session.id], "the newest first");
    assert!(listed.iter().all(|session| !session.current));
    for (refused, reason) in refused {
        assert_eq!(refused.unwrap().reason(), reason);
    }
    assert_eq!(ended, 2);
    for session in [&grace, &again] {
        assert!(process.identity.authenticate_session(session.token.expose(), LOCAL).await.is_err());
    }
    assert!(process.identity.list_sessions_of(&admin, user).await.unwrap().is_empty());
    assert!(process.log_in("127.0.0.1", "grace@example.org", PASSWORD).await.is_ok(), "the membership goes on");
    assert!(process.identity.session(&owner).await.is_ok());
    assert_eq!(process.identity.revoke_sessions_of(&admin, own).await.unwrap(), 1, "one's own, too");
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
        process.identity.list_sessions_of(&stranger, grace).await.err(),
        process.identity.revoke_sessions_of(&stranger, grace).await.err(),
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
