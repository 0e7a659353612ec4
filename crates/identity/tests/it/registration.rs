//! Registering oneself, and new passwords by mail: who asks learns nothing, who reads the mail goes on.

use std::time::Duration;

use manifold_core::{Error, Secret};
use manifold_identity::NewAccount;

use crate::house::{House, LOCAL, Process};
use crate::mailbox::Mailbox;
use crate::people::{PASSWORD, nobody, visitor};

const ANOTHER: &str = "another four words here";

on_both_engines!(
    who_registers_proves_the_address_and_owns_a_tenant,
    the_password_is_chosen_by_who_read_the_mail_and_not_by_who_registered_the_address,
    nobody_learns_by_asking_whether_an_address_has_an_account,
    of_two_who_register_an_address_the_first_proof_counts,
    nobody_registers_where_the_house_is_not_open,
    an_open_house_without_mail_does_not_start,
    a_mailed_link_for_a_new_password_works_once_and_for_an_hour,
    asking_again_keeps_nobody_from_an_earlier_link,
    who_asks_for_mail_again_and_again_has_to_wait,
);

impl Process {
    /// Sets how strangers become members.
    pub async fn let_register(&self, mode: &str) {
        self.execute(&format!("UPDATE tenant SET settings = '{{\"registration\": \"{mode}\"}}'")).await;
    }

    pub async fn register(&self, email: &str) -> Result<(), Error> {
        let new = NewAccount { email: email.to_owned(), name: "Grace".to_owned() };
        self.identity.register(&visitor("203.0.113.7"), new).await
    }

    pub async fn forgot(&self, email: &str) -> Result<(), Error> {
        self.identity.forgot_password(&visitor("203.0.113.7"), email).await
    }

    /// Finishes a registration.
    async fn settle_in(&self, token: &str, password: &str) -> Result<(), Error> {
        self.identity.verify_email(&nobody(), &Secret::from(token), Some(&Secret::from(password))).await
    }

    /// Proves another address.
    pub async fn verify(&self, token: &str) -> Result<(), Error> {
        self.identity.verify_email(&nobody(), &Secret::from(token), None).await
    }

    pub async fn reset(&self, token: &str, password: &str) -> Result<(), Error> {
        self.identity.reset_password(&nobody(), &Secret::from(token), &Secret::from(password)).await
    }
}

fn reason(outcome: Result<(), Error>) -> String {
    outcome.map_or_else(|error| error.reason().to_owned(), |()| "OK".to_owned())
}

/// An open house with an owner.
async fn open(house: &House, mailbox: &Mailbox) -> Process {
    let process = house.start_with(mailbox).await;
    process.set_up(house).await;
    process.let_register("open").await;
    process
}

async fn who_registers_proves_the_address_and_owns_a_tenant(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = open(house, &mailbox).await;
    process.register("Grace@example.org").await.unwrap();
    let mail = mailbox.take("grace@example.org").await;
    assert!(process.log_in("127.0.0.1", "grace@example.org", PASSWORD).await.is_err(), "nothing is proven yet");
    assert_eq!(process.count("SELECT COUNT(*) FROM job WHERE args LIKE '%@%'").await, 0);

    process.settle_in(mail.token(), PASSWORD).await.unwrap();

    let grace = process.log_in("127.0.0.1", "grace@example.org", PASSWORD).await.unwrap();
    let ada = process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.unwrap();
    assert_eq!(
        (grace.session.roles.as_slice(), grace.session.user.name.as_str()),
        (&["owner".to_owned()][..], "Grace")
    );
    assert_ne!(grace.session.tenant, ada.session.tenant);
    assert_eq!(reason(process.settle_in(mail.token(), PASSWORD).await), "TOKEN_INVALID");
    assert_eq!(reason(process.settle_in("mfv_guessed", PASSWORD).await), "TOKEN_INVALID");
    process.stop().await;
}

async fn the_password_is_chosen_by_who_read_the_mail_and_not_by_who_registered_the_address(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = open(house, &mailbox).await;
    process.register("grace@example.org").await.unwrap();
    let mail = mailbox.take("grace@example.org").await;
    let kept = "SELECT COUNT(*) FROM one_time WHERE CAST(data AS TEXT) LIKE '%argon2%'";
    assert_eq!(process.count(kept).await, 0, "nobody chose one yet");

    assert_eq!(reason(process.verify(mail.token()).await), "PASSWORD_INVALID");
    assert_eq!(reason(process.settle_in(mail.token(), "short").await), "PASSWORD_INVALID");
    assert_eq!(reason(process.settle_in(mail.token(), "password1").await), "PASSWORD_WEAK");
    process.settle_in(mail.token(), ANOTHER).await.unwrap();

    assert!(process.log_in("127.0.0.1", "grace@example.org", ANOTHER).await.is_ok());
    process.stop().await;
}

async fn nobody_learns_by_asking_whether_an_address_has_an_account(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = open(house, &mailbox).await;

    for email in ["ada@example.org", "eve@example.org"] {
        process.register(email).await.unwrap();
        process.forgot(email).await.unwrap();
    }

    let (first, second) = (mailbox.take("ada@example.org").await, mailbox.take("ada@example.org").await);
    let subjects = [&first, &second].map(|mail| mail.text.contains("Subject: You have an account already"));
    assert_eq!(subjects.iter().filter(|already| **already).count(), 1, "{first:?} {second:?}");
    assert!(mailbox.take("eve@example.org").await.text.contains("Subject: Finish your registration"));
    process.counts("SELECT COUNT(*) FROM job WHERE state <> 3", 0).await;
    assert_eq!(mailbox.n_waiting(), 0, "nobody gets mail for having no account");
    // Requests did the same for both: four errands of two lengths, one for each question.
    assert_eq!(process.count("SELECT COUNT(*) FROM job WHERE result = '{}'").await, 4);
    assert_eq!(process.count("SELECT COUNT(DISTINCT LENGTH(args)) FROM job WHERE result = '{}'").await, 2);
    process.stop().await;
}

async fn of_two_who_register_an_address_the_first_proof_counts(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = open(house, &mailbox).await;
    process.register("grace@example.org").await.unwrap();
    process.register("grace@example.org").await.unwrap();
    let mails = [mailbox.take("grace@example.org").await, mailbox.take("grace@example.org").await];

    let proofs = futures::future::join_all(mails.iter().map(|mail| process.settle_in(mail.token(), PASSWORD))).await;

    assert_eq!(proofs.iter().filter(|proof| proof.is_ok()).count(), 1, "{proofs:?}");
    assert_eq!(process.count("SELECT COUNT(*) FROM user_account").await, 2);
    process.stop().await;
}

async fn nobody_registers_where_the_house_is_not_open(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    assert_eq!(reason(process.register("grace@example.org").await), "SETUP_REQUIRED");
    let owner = process.caller(&process.set_up(house).await).await;
    assert_eq!(reason(process.register("grace@example.org").await), "REGISTRATION_CLOSED", "as it is from the start");
    process.let_register("open").await;
    process.register("grace@example.org").await.unwrap();
    let mail = mailbox.take("grace@example.org").await;
    process.identity.invite(&owner, "eve@example.org", "viewer").await.unwrap();
    let invitation = Secret::from(mailbox.take("eve@example.org").await.token());

    process.let_register("closed").await;

    assert_eq!(reason(process.settle_in(mail.token(), PASSWORD).await), "REGISTRATION_CLOSED");
    let invited = process.identity.invite(&owner, "eve@example.org", "viewer").await.unwrap_err();
    let joined = process.follow(&invitation, PASSWORD).await.unwrap_err();
    assert_eq!((invited.reason(), joined.reason()), ("REGISTRATION_CLOSED", "REGISTRATION_CLOSED"));
    process.stop().await;
}

async fn an_open_house_without_mail_does_not_start(house: &House) {
    let process = house.start().await;
    process.set_up(house).await;
    assert_eq!(reason(process.forgot("ada@example.org").await), "MAIL_MISSING");
    process.let_register("open").await;
    process.stop().await;

    let refused = house.try_start(house.config()).await.err().unwrap();

    assert_eq!(refused.reason(), "MAIL_MISSING");
    assert!(refused.message().contains("set mail.url"), "{refused}");
}

async fn a_mailed_link_for_a_new_password_works_once_and_for_an_hour(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = open(house, &mailbox).await;
    let before = process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.unwrap();
    process.forgot("ada@example.org").await.unwrap();
    let mail = mailbox.take("ada@example.org").await;
    assert!(mail.text.contains("https://api.example/reset#mfr_"), "{}", mail.text);
    assert_eq!(reason(process.settle_in(mail.token(), ANOTHER).await), "TOKEN_INVALID", "it is for who has an account");

    process.reset(mail.token(), ANOTHER).await.unwrap();

    assert_eq!(reason(process.reset(mail.token(), PASSWORD).await), "TOKEN_INVALID", "it was used");
    assert!(process.identity.authenticate_session(before.token.expose(), LOCAL).await.is_err());
    assert!(process.log_in("127.0.0.1", "ada@example.org", ANOTHER).await.is_ok());
    process.forgot("ada@example.org").await.unwrap();
    // Beside the letter that tells of the new password.
    let mut late = mailbox.take("ada@example.org").await;
    while !late.text.contains("https://api.example/reset#mfr_") {
        late = mailbox.take("ada@example.org").await;
    }
    process.counts("SELECT COUNT(*) FROM job WHERE state <> 3", 0).await;
    house.clock.advance(Duration::from_secs(3_601));
    assert_eq!(reason(process.reset(late.token(), PASSWORD).await), "TOKEN_INVALID", "its hour is over");
    process.stop().await;
}

async fn asking_again_keeps_nobody_from_an_earlier_link(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = open(house, &mailbox).await;
    process.forgot("ada@example.org").await.unwrap();
    let first = mailbox.take("ada@example.org").await;
    process.forgot("ada@example.org").await.unwrap();
    let second = mailbox.take("ada@example.org").await;

    process.reset(first.token(), ANOTHER).await.unwrap();

    assert_eq!(
        reason(process.reset(second.token(), PASSWORD).await),
        "TOKEN_INVALID",
        "a new password ends the others"
    );
    process.stop().await;
}

async fn who_asks_for_mail_again_and_again_has_to_wait(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = open(house, &mailbox).await;
    for _ in 0..5 {
        process.forgot("eve@example.org").await.unwrap();
    }
    process.forgot("eve@example.org").await.unwrap();

    let early = process.forgot("eve@example.org").await.unwrap_err();

    assert_eq!((early.reason(), early.delay().is_some()), ("TOO_MANY_ATTEMPTS", true));
    assert_eq!(reason(process.register("eve@example.org").await), "TOO_MANY_ATTEMPTS", "it is mail, too");
    assert_eq!(
        process.log_in("203.0.113.7", "eve@example.org", PASSWORD).await.unwrap_err().reason(),
        "INVALID_CREDENTIALS"
    );
    process.stop().await;
}
