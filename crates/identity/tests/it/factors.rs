//! Second factors: setting one up, logging in with it, guessing at it, and losing it.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use manifold_core::{Code, Error, Secret, Timestamp};
use manifold_identity::{Entered, Login, NewFactor, Newcomer};
use manifold_runtime::CallContext;
use sha1::Sha1;

use crate::house::{House, LOCAL, Process};
use crate::people::{PASSWORD, nobody, visitor};

on_both_engines!(
    a_factor_is_asked_for_once_it_is_confirmed,
    a_code_works_once_and_no_earlier_one_after_it,
    of_fifty_who_use_a_code_at_once_one_gets_in,
    a_code_two_steps_off_does_not_work,
    who_guesses_locks_the_factor_for_longer_and_longer,
    a_recovery_code_works_once_even_while_the_factor_is_locked,
    new_recovery_codes_end_the_old_ones,
    a_ticket_works_once_for_five_minutes_and_for_one_password,
    whoever_proves_the_password_proves_the_factor,
    secrets_and_codes_are_not_in_the_database,
);

pub const STEP: Duration = Duration::from_secs(30);

/// What an app shows for a secret; written down once more, so that a mistake would have to be made twice.
pub fn code(secret: &Secret<String>, at: Timestamp) -> String {
    let (mut bits, mut n_bits, mut key) = (0u32, 0, Vec::new());
    for letter in secret.expose().bytes() {
        let value = if letter.is_ascii_uppercase() { letter - b'A' } else { letter - b'2' + 26 };
        (bits, n_bits) = (bits << 5 | u32::from(value), n_bits + 5);
        if n_bits >= 8 {
            n_bits -= 8;
            key.push((bits >> n_bits) as u8);
        }
    }
    let mut mac = Hmac::<Sha1>::new_from_slice(&key).unwrap();
    mac.update(&(at.seconds() as u64 / 30).to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[19] & 15);
    let number = (hash[at..at + 4]).iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

impl Process {
    /// Sets a factor up; the session that goes on, and what the app shows.
    pub async fn add_factor(&self, house: &House, entered: &Entered) -> (Entered, Secret<String>) {
        let caller = self.caller(entered).await;
        let NewFactor { factor, secret, .. } = self.identity.create_factor(&caller).await.unwrap();
        let code = Secret::new(code(&secret, house.clock.now()));
        let entered = self.identity.confirm_factor(&caller, visitor("127.0.0.1"), factor.id, &code).await.unwrap();
        house.clock.advance(STEP);
        (entered, secret)
    }

    pub async fn log_in_with(&self, from: &str, code: &str) -> Result<Entered, Error> {
        let code = Some(Secret::from(code));
        match self.identity.log_in(&nobody(), visitor(from), "ada@example.org", Secret::from(PASSWORD), code).await? {
            Login::Done(entered) => Ok(*entered),
            Login::Ticket(_) => panic!("a code was given"),
        }
    }

    pub async fn ticket(&self, from: &str) -> Secret<String> {
        let typed = Secret::from(PASSWORD);
        match self.identity.log_in(&nobody(), visitor(from), "ada@example.org", typed, None).await.unwrap() {
            Login::Ticket(ticket) => ticket.token,
            Login::Done(_) => panic!("a code is needed"),
        }
    }

    pub async fn use_ticket(&self, from: &str, ticket: &Secret<String>, code: &str) -> Result<Entered, Error> {
        let entered = self.identity.log_in_with_code(&nobody(), visitor(from), ticket, Secret::from(code)).await;
        entered.map(|entered| *entered)
    }

    pub async fn is_mfa(&self, entered: &Entered) -> bool {
        self.caller(entered).await.principal.mfa
    }
}

/// A network of its own for each try, so that only the factor is in the way.
pub fn network(n: usize) -> String {
    format!("198.51.{n}.7")
}

/// A code that the app does not show around now.
pub fn wrong(secret: &Secret<String>, house: &House) -> String {
    let now = house.clock.now();
    let right = [now.before(STEP), now, now.after(STEP)].map(|at| code(secret, at));
    let mut codes = (0..4).map(|n| format!("00000{n}"));
    codes.find(|code| !right.contains(code)).unwrap()
}

async fn a_factor_is_asked_for_once_it_is_confirmed(house: &House) {
    let process = house.start().await;
    let first = process.set_up(house).await;
    let caller = process.caller(&first).await;
    let other = process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.unwrap();
    let replaced = process.identity.create_factor(&caller).await.unwrap().factor;
    let begun = process.identity.create_factor(&caller).await.unwrap();
    assert!(process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.is_ok(), "nobody is asked for it yet");
    let confirm = async |id, code: String| {
        process.identity.confirm_factor(&caller, visitor("127.0.0.1"), id, &Secret::new(code)).await
    };

    let guessed = confirm(begun.factor.id, wrong(&begun.secret, house)).await.unwrap_err();
    let gone = confirm(replaced.id, code(&begun.secret, house.clock.now())).await.unwrap_err();
    let confirmed = confirm(begun.factor.id, code(&begun.secret, house.clock.now())).await.unwrap();
    let again = confirm(begun.factor.id, code(&begun.secret, house.clock.now())).await.unwrap_err();

    assert_eq!((guessed.code(), guessed.reason()), (Code::Unauthenticated, "CODE_INVALID"));
    assert_eq!((gone.reason(), again.reason()), ("FACTOR_NOT_FOUND", "FACTOR_NOT_FOUND"));
    assert!(confirmed.session.id != first.session.id && process.is_mfa(&confirmed).await);
    for ended in [&first, &other] {
        assert!(
            process.identity.authenticate_session(ended.token.expose(), LOCAL).await.is_err(),
            "it was proven by less"
        );
    }
    let listed = process.identity.list_factors(&process.caller(&confirmed).await).await.unwrap();
    assert_eq!(listed.iter().map(|factor| factor.id).collect::<Vec<_>>(), [begun.factor.id]);
    assert_eq!((listed[0].kind.as_str(), listed[0].confirmed_at), ("totp", Some(house.clock.now())));
    house.clock.advance(STEP);
    let ticket = process.ticket("127.0.0.1").await;
    let entered = process.use_ticket("127.0.0.1", &ticket, &code(&begun.secret, house.clock.now())).await.unwrap();
    assert!(process.is_mfa(&entered).await && entered.session.id != confirmed.session.id);
    process.stop().await;
}

async fn a_code_works_once_and_no_earlier_one_after_it(house: &House) {
    let process = house.start().await;
    let (_, secret) = process.add_factor(house, &process.set_up(house).await).await;
    let now = house.clock.now();
    let (earlier, present, next) =
        (code(&secret, now.before(STEP)), code(&secret, now), code(&secret, now.after(STEP)));

    let confirming = process.log_in_with("127.0.0.1", &earlier).await.unwrap_err();
    process.log_in_with("127.0.0.1", &next).await.unwrap();

    assert_eq!(confirming.reason(), "CODE_INVALID", "it was used to confirm the factor");
    for used in [&next, &present, &earlier] {
        assert_eq!(process.log_in_with("127.0.0.1", used).await.unwrap_err().reason(), "CODE_INVALID");
    }
    process.stop().await;
}

async fn of_fifty_who_use_a_code_at_once_one_gets_in(house: &House) {
    let process = house.start().await;
    let (_, secret) = process.add_factor(house, &process.set_up(house).await).await;
    let mut tickets = Vec::new();
    for n in 0..50 {
        tickets.push((network(n), process.ticket(&network(n)).await));
    }
    let code = code(&secret, house.clock.now());

    let tries = tickets.iter().map(|(from, ticket)| process.use_ticket(from, ticket, &code));
    let outcomes = futures::future::join_all(tries).await;

    let reasons: Vec<_> = outcomes.iter().filter_map(|one| one.as_ref().err()).map(Error::reason).collect();
    assert_eq!(reasons.len(), 49);
    assert!(reasons.iter().all(|reason| matches!(*reason, "CODE_INVALID" | "TOO_MANY_ATTEMPTS")), "{reasons:?}");
    assert_eq!(process.count("SELECT COUNT(*) FROM session WHERE revoked_at IS NULL").await, 2);
    process.stop().await;
}

async fn a_code_two_steps_off_does_not_work(house: &House) {
    let process = house.start().await;
    let (_, secret) = process.add_factor(house, &process.set_up(house).await).await;
    house.clock.advance(STEP * 10);
    let now = house.clock.now();

    for (at, works) in
        [(now.before(STEP * 2), false), (now.after(STEP * 2), false), (now.before(STEP), true), (now.after(STEP), true)]
    {
        assert_eq!(process.log_in_with("127.0.0.1", &code(&secret, at)).await.is_ok(), works);
    }
    process.stop().await;
}

async fn who_guesses_locks_the_factor_for_longer_and_longer(house: &House) {
    let process = house.start().await;
    let (_, secret) = process.add_factor(house, &process.set_up(house).await).await;
    let mut from = (0..).map(network);
    let mut guess = async |code: String| process.log_in_with(&from.next().unwrap(), &code).await;

    for (round, minutes) in [15, 30, 60, 120].into_iter().enumerate() {
        for _ in 0..5 {
            assert_eq!(guess(wrong(&secret, house)).await.unwrap_err().reason(), "CODE_INVALID");
        }
        let locked = guess(code(&secret, house.clock.now())).await.unwrap_err();
        let guessed = guess(wrong(&secret, house)).await.unwrap_err();
        assert_eq!((locked.code(), locked.reason()), (Code::Exhausted, "TOO_MANY_ATTEMPTS"), "round {round}");
        assert_eq!(
            (locked.message(), locked.delay()),
            (guessed.message(), guessed.delay()),
            "right or wrong is the same"
        );
        assert_eq!(locked.delay(), Some(Duration::from_secs(minutes * 60)));
        house.clock.advance(Duration::from_secs(minutes * 60));
    }
    assert!(guess(code(&secret, house.clock.now())).await.is_ok(), "its time is over");
    for _ in 0..5 {
        guess(wrong(&secret, house)).await.unwrap_err();
    }
    let locked = guess(code(&secret, house.clock.now())).await.unwrap_err();
    assert_eq!(locked.delay(), Some(Duration::from_secs(15 * 60)), "it begins anew");
    assert_eq!(process.count("SELECT COUNT(*) FROM outbox WHERE type = 'identity.factor.locked'").await, 5);
    process.stop().await;
}

async fn a_recovery_code_works_once_even_while_the_factor_is_locked(house: &House) {
    let process = house.start().await;
    let (entered, secret) = process.add_factor(house, &process.set_up(house).await).await;
    let codes = process.identity.create_recovery_codes(&process.caller(&entered).await).await.unwrap();
    let mut from = (0..).map(network);
    for _ in 0..5 {
        process.log_in_with(&from.next().unwrap(), &wrong(&secret, house)).await.unwrap_err();
    }
    let locked = process.log_in_with(&from.next().unwrap(), &code(&secret, house.clock.now())).await.unwrap_err();

    let typed = format!(" {}-{} ", &codes[0].expose()[..5].to_lowercase(), &codes[0].expose()[5..]);
    let tries = (20..24).map(|n| (network(n), typed.clone()));
    let tries = tries.map(|(from, code)| async { process.log_in_with(&{ from }, &{ code }).await });
    let outcomes = futures::future::join_all(tries).await;

    assert_eq!(locked.reason(), "TOO_MANY_ATTEMPTS");
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    let inside = outcomes.into_iter().find_map(Result::ok).unwrap();
    assert!(process.is_mfa(&inside).await);
    let twice = process.log_in_with(&from.next().unwrap(), codes[0].expose()).await.unwrap_err();
    assert_eq!(twice.reason(), "CODE_INVALID");
    assert!(process.log_in_with(&from.next().unwrap(), codes[1].expose()).await.is_ok());
    assert!(
        process.log_in_with(&from.next().unwrap(), &code(&secret, house.clock.now())).await.is_ok(),
        "it is unlocked"
    );
    process.stop().await;
}

async fn new_recovery_codes_end_the_old_ones(house: &House) {
    let process = house.start().await;
    let first = process.set_up(house).await;
    let early = process.identity.create_recovery_codes(&process.caller(&first).await).await.unwrap_err();
    let (entered, _) = process.add_factor(house, &first).await;
    let caller = process.caller(&entered).await;
    let make = async || process.identity.create_recovery_codes(&caller).await.unwrap();

    let (old, one, two) = (make().await, make(), make());
    let (one, two) = tokio::join!(one, two);

    assert_eq!(early.reason(), "FACTOR_NOT_FOUND");
    assert_eq!((old.len(), one.len(), two.len()), (10, 10, 10));
    assert_eq!(process.count("SELECT COUNT(*) FROM recovery_code").await, 10, "of two at once one counts");
    assert_eq!(process.log_in_with("127.0.0.1", old[0].expose()).await.unwrap_err().reason(), "CODE_INVALID");
    process.stop().await;
}

async fn a_ticket_works_once_for_five_minutes_and_for_one_password(house: &House) {
    let process = house.start().await;
    let (entered, secret) = process.add_factor(house, &process.set_up(house).await).await;
    let ticket = process.ticket("127.0.0.1").await;
    let mistyped = process.use_ticket("127.0.0.1", &ticket, &wrong(&secret, house)).await.unwrap_err();
    assert_eq!(mistyped.reason(), "CODE_INVALID");
    process.use_ticket("127.0.0.1", &ticket, &code(&secret, house.clock.now())).await.unwrap();
    house.clock.advance(STEP);
    let refused = async |ticket: &Secret<String>| {
        let outcome = process.use_ticket("127.0.0.1", ticket, &code(&secret, house.clock.now())).await;
        outcome.unwrap_err().reason().to_owned()
    };

    assert_eq!(refused(&ticket).await, "TOKEN_INVALID", "it was used");
    assert_eq!(refused(&Secret::from("mft_guessed")).await, "TOKEN_INVALID");
    let late = process.ticket("127.0.0.1").await;
    house.clock.advance(Duration::from_secs(5 * 60));
    assert_eq!(refused(&late).await, "TOKEN_INVALID", "its time is over");
    let (ticket, caller) = (process.ticket("127.0.0.1").await, process.caller(&entered).await);
    let (current, new) = (Secret::from(PASSWORD), Secret::from("another four words here"));
    let proof = Some(Secret::new(code(&secret, house.clock.now())));
    process.identity.change_password(&caller, visitor("127.0.0.1"), current, new, proof).await.unwrap();
    house.clock.advance(STEP);
    assert_eq!(refused(&ticket).await, "TOKEN_INVALID", "the password is another one");
    process.stop().await;
}

async fn whoever_proves_the_password_proves_the_factor(house: &House) {
    let process = house.start().await;
    let (entered, secret) = process.add_factor(house, &process.set_up(house).await).await;
    let caller = process.caller(&entered).await;
    let admin = process.admin(house).await;
    let invited = process.identity.invite(&admin, "ada@example.org", "viewer").await.unwrap().1.unwrap();
    let step_up = async |code: Option<&str>| {
        let code = code.map(Secret::from);
        process.identity.step_up(&caller, visitor("127.0.0.1"), Secret::from(PASSWORD), code).await
    };
    let change = async |caller: &CallContext, code: Option<&str>| {
        let (new, code) = (Secret::from("another four words here"), code.map(Secret::from));
        process.identity.change_password(caller, visitor("127.0.0.1"), Secret::from(PASSWORD), new, code).await
    };
    let join = async |code: Option<&str>| {
        let (name, code) = ("Ada".to_owned(), code.map(Secret::from));
        let new = Newcomer { token: invited.token.clone(), name, password: Secret::from(PASSWORD), code };
        process.identity.join(&nobody(), visitor("203.0.113.7"), new).await
    };

    for (code, reason) in [(None, "CODE_REQUIRED"), (Some(wrong(&secret, house)), "CODE_INVALID")] {
        assert_eq!(step_up(code.as_deref()).await.unwrap_err().reason(), reason);
        assert_eq!(change(&caller, code.as_deref()).await.unwrap_err().reason(), reason);
        assert_eq!(join(code.as_deref()).await.unwrap_err().reason(), reason, "and the invitation goes on");
    }
    let shown = async || {
        house.clock.advance(STEP);
        code(&secret, house.clock.now())
    };
    let joined = join(Some(&shown().await)).await.unwrap();
    let stepped = step_up(Some(&shown().await)).await.unwrap();
    let proven_at = house.clock.now();
    assert_eq!(process.caller(&stepped).await.principal.auth_time, Some(proven_at));
    assert!(process.is_mfa(&joined).await && process.is_mfa(&stepped).await);
    let changed = change(&process.caller(&stepped).await, Some(&shown().await)).await.unwrap();
    assert!(process.is_mfa(&changed).await);
    process.stop().await;
}

async fn secrets_and_codes_are_not_in_the_database(house: &House) {
    let process = house.start().await;
    let (entered, secret) = process.add_factor(house, &process.set_up(house).await).await;
    let codes = process.identity.create_recovery_codes(&process.caller(&entered).await).await.unwrap();

    let sealed = process.bytes("SELECT secret FROM factor").await;
    let hash = process.bytes("SELECT hash FROM recovery_code LIMIT 1").await;

    assert_eq!((sealed.len(), hash.len()), (1 + 4 + 12 + 20 + 16, 32), "an envelope, and a hash");
    let events = "SELECT COUNT(*) FROM outbox WHERE CAST(payload AS TEXT) LIKE '%secret%'";
    assert_eq!(process.count(events).await, 0);
    let printed = format!("{codes:?} {secret:?} {entered:?}");
    assert!(!printed.contains(secret.expose()) && !printed.contains(codes[0].expose()));
    process.stop().await;
}
