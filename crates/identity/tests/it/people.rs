//! People: the first owner, logging in, and where one is logged in.

use std::time::Duration;

use manifold_core::{Code, Error, Principal, Secret, SessionId, SubjectKind};
use manifold_identity::{Entered, Login, NewOwner, ProfileChange, Visitor};
use uuid::Uuid;

use crate::house::{House, LOCAL, Process, calling};

pub const PASSWORD: &str = "correct horse battery staple";

pub fn visitor(ip: &str) -> Visitor {
    Visitor { ip: ip.parse().unwrap(), agent: "a browser".to_owned() }
}

pub fn nobody() -> manifold_runtime::CallContext {
    calling(Principal::anonymous())
}

fn owner(house: &House) -> NewOwner {
    let token = std::fs::read_to_string(house.file("setup.token")).unwrap();
    NewOwner {
        token: Secret::from(token.trim()),
        email: "Ada@Example.org".to_owned(),
        name: "Ada".to_owned(),
        password: Secret::from(PASSWORD),
    }
}

impl Process {
    pub async fn set_up(&self, house: &House) -> Entered {
        self.identity.set_up(&nobody(), visitor("127.0.0.1"), owner(house)).await.unwrap()
    }

    pub async fn log_in(&self, from: &str, email: &str, password: &str) -> Result<Entered, Error> {
        match self.identity.log_in(&nobody(), visitor(from), email, Secret::from(password), None).await? {
            Login::Done(entered) => Ok(*entered),
            Login::Ticket(_) => panic!("nobody has a second factor here"),
        }
    }

    pub async fn caller(&self, entered: &Entered) -> manifold_runtime::CallContext {
        calling(self.identity.authenticate_session(entered.token.expose(), LOCAL).await.unwrap())
    }
}

on_both_engines!(
    the_first_owner_needs_the_token_and_it_works_once,
    of_many_who_set_up_at_once_one_becomes_the_owner,
    a_token_is_made_anew_after_a_day,
    a_session_is_a_person_with_the_rights_of_the_roles,
    an_unknown_address_and_a_wrong_password_are_the_same,
    who_guesses_has_to_wait_longer_and_longer,
    who_finds_no_seat_has_tried_nothing,
    a_network_that_tries_many_accounts_has_to_wait,
    a_session_ends_without_use_and_after_half_a_day,
    sessions_are_ended_one_by_one_or_all_but_ones_own,
    a_new_password_ends_every_session,
    who_was_suspended_or_left_is_nobody,
    passwords_and_tokens_are_not_in_the_database,
    nobody_is_let_in_while_the_database_is_away,
);

async fn the_first_owner_needs_the_token_and_it_works_once(house: &House) {
    let process = house.start().await;
    let early = process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.unwrap_err();
    assert_eq!((early.code(), early.reason()), (Code::Unavailable, "SETUP_REQUIRED"));
    let good = owner(house);
    for (new, reason) in [
        (
            NewOwner { token: Secret::from("mfs_guessed"), password: Secret::from("x"), ..good.clone() },
            "SETUP_TOKEN_INVALID",
        ),
        (NewOwner { email: "ada".to_owned(), ..good.clone() }, "EMAIL_INVALID"),
        (NewOwner { name: " ".to_owned(), ..good.clone() }, "NAME_INVALID"),
        (NewOwner { password: Secret::from("short"), ..good.clone() }, "PASSWORD_INVALID"),
        (NewOwner { password: Secret::from("password1"), ..good.clone() }, "PASSWORD_WEAK"),
    ] {
        let refused = process.identity.set_up(&nobody(), visitor("127.0.0.1"), new).await.unwrap_err();
        assert_eq!(refused.reason(), reason);
    }

    let entered = process.set_up(house).await;
    let again = process.identity.set_up(&nobody(), visitor("127.0.0.1"), good).await.unwrap_err();

    assert_eq!(
        (entered.session.user.email.as_str(), entered.session.roles.as_slice()),
        ("Ada@Example.org", &["owner".to_owned()][..])
    );
    assert_eq!(again.reason(), "SETUP_TOKEN_INVALID");
    assert!(!house.file("setup.token").exists());
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox").await, 2, "of the admin's key, and of the owner");
    process.stop().await;
    let later = house.start().await;
    assert!(!house.file("setup.token").exists(), "somebody has an account");
    assert!(later.log_in("127.0.0.1", " ada@EXAMPLE.org ", PASSWORD).await.is_ok());
    later.stop().await;
}

async fn of_many_who_set_up_at_once_one_becomes_the_owner(house: &House) {
    let process = house.start().await;
    let tries = (0..4).map(|n| {
        let new = NewOwner { email: format!("ada{n}@example.org"), ..owner(house) };
        let identity = process.identity.clone();
        async move { identity.set_up(&nobody(), visitor("127.0.0.1"), new).await }
    });

    let outcomes = futures::future::join_all(tries).await;

    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(process.count("SELECT COUNT(*) FROM user_account").await, 1);
    process.stop().await;
}

async fn a_token_is_made_anew_after_a_day(house: &House) {
    let first = house.start().await;
    let old = owner(house);
    first.stop().await;
    let second = house.start().await;
    assert_eq!(owner(house).token.expose(), old.token.expose(), "it still works");
    second.stop().await;

    house.clock.advance(Duration::from_secs(25 * 3_600));
    let third = house.start().await;

    assert_ne!(owner(house).token.expose(), old.token.expose());
    let late = third.identity.set_up(&nobody(), visitor("127.0.0.1"), old).await.unwrap_err();
    assert_eq!(late.reason(), "SETUP_TOKEN_INVALID");
    third.set_up(house).await;
    third.stop().await;
}

async fn a_session_is_a_person_with_the_rights_of_the_roles(house: &House) {
    let process = house.start().await;
    let entered = process.set_up(house).await;
    let admin = process.admin(house).await;

    let caller = process.caller(&entered).await;

    let principal = &caller.principal;
    assert_eq!((principal.kind, principal.session), (SubjectKind::User, Some(entered.session.id)));
    assert_eq!((principal.tenant, &*principal.permissions), (admin.principal.tenant, &["*".to_owned()][..]));
    assert_eq!(process.identity.me(&caller).await.unwrap().name, "Ada");
    let rename = ProfileChange { name: Some(" Ada L. ".to_owned()), ..ProfileChange::default() };
    assert_eq!(process.identity.update_me(&caller, rename).await.unwrap().name, "Ada L.");
    let present = process.identity.session(&caller).await.unwrap();
    assert!(process.identity.is_csrf_token(present.id, &present.csrf));
    assert!(!process.identity.is_csrf_token(SessionId(Uuid::new_v4()), &present.csrf));
    // A key is nobody in particular.
    for refused in [process.identity.me(&admin).await.err(), process.identity.session(&admin).await.err()] {
        assert_eq!(refused.unwrap().reason(), "SESSION_REQUIRED");
    }
    let token = entered.token.expose();
    for wrong in ["", "x", &token[1..], &token.chars().rev().collect::<String>(), &format!("{token}A")] {
        assert_eq!(process.identity.authenticate_session(wrong, LOCAL).await.unwrap_err().reason(), "INVALID_SESSION");
    }
    process.stop().await;
}

async fn an_unknown_address_and_a_wrong_password_are_the_same(house: &House) {
    let process = house.start().await;
    process.set_up(house).await;

    let wrong = process.log_in("127.0.0.1", "ada@example.org", "wrong horse battery").await.unwrap_err();
    let unknown = process.log_in("127.0.0.1", "bob@example.org", "wrong horse battery").await.unwrap_err();
    let short = process.log_in("127.0.0.1", "ada@example.org", "x").await.unwrap_err();

    assert_eq!((wrong.code(), wrong.reason()), (Code::Unauthenticated, "INVALID_CREDENTIALS"));
    for other in [unknown, short] {
        assert_eq!((other.reason(), other.message(), other.param()), (wrong.reason(), wrong.message(), wrong.param()));
    }
    process.stop().await;
}

async fn who_finds_no_seat_has_tried_nothing(house: &House) {
    let process = house.start().await;
    process.set_up(house).await;
    let from: Vec<_> = (0..200).map(|n| (format!("10.{n}.0.1"), format!("person{n}@example.org"))).collect();

    let crowd = from.iter().map(|(from, email)| process.log_in(from, email, "wrong horse battery"));
    let answers = futures::future::join_all(crowd).await;

    let (busy, tried): (Vec<_>, Vec<_>) =
        answers.into_iter().map(Result::unwrap_err).partition(|error| error.code() == Code::Unavailable);
    assert!(!tried.is_empty() && tried.iter().all(|error| error.reason() == "INVALID_CREDENTIALS"));
    assert!(!busy.is_empty() && busy.iter().all(|error| error.reason() == "TEMPORARY_REDUCED_CAPACITY"));
    // The account, the network and both together.
    let counted = process.count("SELECT COUNT(*) FROM login_attempt").await;
    assert_eq!(usize::try_from(counted).unwrap(), 3 * tried.len());
    process.stop().await;
}

async fn who_guesses_has_to_wait_longer_and_longer(house: &House) {
    let process = house.start().await;
    let entered = process.set_up(house).await;
    for _ in 0..5 {
        let wrong = process.log_in("203.0.113.7", "ada@example.org", "wrong horse battery").await;
        assert_eq!(wrong.unwrap_err().reason(), "INVALID_CREDENTIALS");
    }

    // The sixth is let through and makes the seventh wait: 1, 2, 4 … 60 s.
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        let wrong = process.log_in("203.0.113.7", "ada@example.org", "wrong horse battery").await;
        assert_eq!(wrong.unwrap_err().reason(), "INVALID_CREDENTIALS", "{seconds}");
        let early = process.log_in("203.0.113.9", "ada@example.org", PASSWORD).await.unwrap_err();
        assert_eq!((early.code(), early.reason()), (Code::Exhausted, "TOO_MANY_ATTEMPTS"));
        assert_eq!(early.delay(), Some(Duration::from_secs(seconds)));
        house.clock.advance(Duration::from_secs(seconds));
    }

    assert!(process.identity.authenticate_session(entered.token.expose(), LOCAL).await.is_ok(), "who is in stays in");
    let wrong = process.log_in("203.0.113.7", "ada@example.org", "wrong horse battery").await.unwrap_err();
    let early = process.log_in("203.0.113.7", "ada@example.org", PASSWORD).await.unwrap_err();
    assert_eq!((wrong.reason(), early.reason()), ("INVALID_CREDENTIALS", "TOO_MANY_ATTEMPTS"));
    assert!(process.log_in("198.51.100.7", "ada@example.org", PASSWORD).await.is_ok(), "nobody locks others out");
    house.clock.advance(Duration::from_secs(3_600));
    assert!(process.log_in("203.0.113.7", "ada@example.org", PASSWORD).await.is_ok());
    for _ in 0..5 {
        let wrong = process.log_in("203.0.113.7", "ada@example.org", "wrong horse battery").await;
        assert_eq!(wrong.unwrap_err().reason(), "INVALID_CREDENTIALS", "it begins anew");
    }
    process.stop().await;
}

async fn a_network_that_tries_many_accounts_has_to_wait(house: &House) {
    let process = house.start().await;
    process.set_up(house).await;
    for n in 0..21 {
        let wrong = process.log_in("203.0.113.7", &format!("user{n}@example.org"), "wrong horse battery").await;
        assert_eq!(wrong.unwrap_err().reason(), "INVALID_CREDENTIALS");
    }

    let neighbour = process.log_in("203.0.113.99", "ada@example.org", PASSWORD).await.unwrap_err();
    let elsewhere = process.log_in("198.51.100.7", "ada@example.org", PASSWORD).await;

    assert_eq!(neighbour.reason(), "TOO_MANY_ATTEMPTS");
    assert!(elsewhere.is_ok());
    process.stop().await;
}

async fn a_session_ends_without_use_and_after_half_a_day(house: &House) {
    let process = house.start().await;
    let used = process.set_up(house).await;
    let unused = process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.unwrap();

    for _ in 0..28 {
        house.clock.advance(Duration::from_secs(25 * 60));
        process.caller(&used).await;
        // That it was used is noted behind its back.
        let seen = house.clock.now().micros();
        crate::house::eventually(Duration::from_secs(5), || async {
            process.count("SELECT MAX(seen_at) FROM session").await == seen
        })
        .await;
    }
    let idle = process.identity.authenticate_session(unused.token.expose(), LOCAL).await.unwrap_err();
    house.clock.advance(Duration::from_secs(20 * 60));
    let old = process.identity.authenticate_session(used.token.expose(), LOCAL).await.unwrap_err();

    assert_eq!((idle.reason(), old.reason()), ("INVALID_SESSION", "INVALID_SESSION"));
    process.stop().await;
}

async fn sessions_are_ended_one_by_one_or_all_but_ones_own(house: &House) {
    let process = house.start().await;
    let first = process.set_up(house).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        house.clock.advance(Duration::from_secs(1));
        others.push(process.log_in("203.0.113.7", "ada@example.org", PASSWORD).await.unwrap());
    }
    let caller = process.caller(&first).await;
    let listed = process.identity.list_sessions(&caller).await.unwrap();
    assert_eq!(listed.len(), 4);
    assert_eq!(
        listed.iter().filter(|session| session.current).map(|session| session.id).collect::<Vec<_>>(),
        [first.session.id]
    );
    assert_eq!((listed[0].ip.as_str(), listed[0].agent.as_str()), ("203.0.113.7", "a browser"));

    process.identity.revoke_session(&caller, others[0].session.id).await.unwrap();
    let twice = process.identity.revoke_session(&caller, others[0].session.id).await.unwrap_err();
    let rest = process.identity.revoke_other_sessions(&caller).await.unwrap();

    assert_eq!((twice.reason(), rest), ("SESSION_NOT_FOUND", 2));
    for ended in &others {
        assert!(process.identity.authenticate_session(ended.token.expose(), LOCAL).await.is_err());
    }
    process.identity.log_out(&caller).await.unwrap();
    assert!(process.identity.authenticate_session(first.token.expose(), LOCAL).await.is_err());
    process.stop().await;
}

async fn a_new_password_ends_every_session(house: &House) {
    let process = house.start().await;
    let first = process.set_up(house).await;
    let other = process.log_in("203.0.113.7", "ada@example.org", PASSWORD).await.unwrap();
    let caller = process.caller(&first).await;
    let change = async |current: &str, new: &str| {
        let (current, new) = (Secret::from(current), Secret::from(new));
        process.identity.change_password(&caller, visitor("127.0.0.1"), current, new, None).await
    };

    let wrong = change("wrong horse battery", "another four words here").await.unwrap_err();
    let weak = change(PASSWORD, "password1").await.unwrap_err();
    let changed = change(PASSWORD, "another four words here").await.unwrap();

    assert_eq!((wrong.reason(), weak.reason()), ("INVALID_CREDENTIALS", "PASSWORD_WEAK"));
    for ended in [&first, &other] {
        assert!(process.identity.authenticate_session(ended.token.expose(), LOCAL).await.is_err());
    }
    assert!(process.identity.authenticate_session(changed.token.expose(), LOCAL).await.is_ok());
    assert!(process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.is_err());
    assert!(process.log_in("127.0.0.1", "ada@example.org", "another four words here").await.is_ok());
    process.stop().await;
}

async fn who_was_suspended_or_left_is_nobody(house: &House) {
    let process = house.start().await;
    let entered = process.set_up(house).await;
    process.execute("UPDATE user_account SET state = 'suspended'").await;
    let refused = process.identity.authenticate_session(entered.token.expose(), LOCAL).await.unwrap_err();
    let login = process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.unwrap_err();
    assert_eq!((refused.reason(), login.reason()), ("INVALID_SESSION", "INVALID_CREDENTIALS"));
    process.execute("UPDATE user_account SET state = 'active'").await;
    process.execute("DELETE FROM membership").await;
    assert!(process.identity.authenticate_session(entered.token.expose(), LOCAL).await.is_err());
    process.stop().await;
}

async fn passwords_and_tokens_are_not_in_the_database(house: &House) {
    let process = house.start().await;
    let setup = owner(house).token;
    let entered = process.set_up(house).await;

    let texts =
        "SELECT COUNT(*) FROM password WHERE phc LIKE '%horse%' OR phc NOT LIKE '$argon2id$v=19$m=19456,t=2,p=1$%'";
    assert_eq!(process.count(texts).await, 0);
    let hash = process.bytes("SELECT hash FROM session").await;
    let used = process.bytes("SELECT hash FROM one_time").await;
    assert_eq!((hash.len(), used.len()), (32, 32));
    assert!(hash != entered.token.expose().as_bytes()[..32] && used != setup.expose().as_bytes()[..32]);
    let events = process.bytes("SELECT payload FROM outbox ORDER BY seq DESC LIMIT 1").await;
    let holds = |needle: &str| events.windows(needle.len()).any(|window| window == needle.as_bytes());
    assert!(holds("ada@") || holds("Ada@"));
    assert!(!holds(entered.token.expose()) && !holds("horse") && !holds("argon2"));
    process.stop().await;
}

async fn nobody_is_let_in_while_the_database_is_away(house: &House) {
    let process = house.start().await;
    let entered = process.set_up(house).await;
    process.lose_database().await;

    let session = process.identity.authenticate_session(entered.token.expose(), LOCAL).await.unwrap_err();
    let login = process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.unwrap_err();

    assert_eq!((session.code(), login.code()), (Code::Unavailable, Code::Unavailable));
}
