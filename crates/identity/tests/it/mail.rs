//! Mail: what is posted arrives once the mail server takes it, and nobody reads it on the way.

use std::time::Duration;

use manifold_core::Secret;
use manifold_identity::{Config, MailConfig, MailTls, Newcomer};

use crate::house::{House, Process, eventually};
use crate::mailbox::Mailbox;
use crate::people::{PASSWORD, nobody, visitor};

pub const PUBLIC: &str = "https://api.example";
const SOON: Duration = Duration::from_secs(30);

on_both_engines!(
    an_invitation_is_mailed_and_nobody_reads_it_in_the_database,
    a_mail_waits_for_a_mail_server_that_is_away,
    a_mail_that_is_refused_for_good_is_given_up,
    neither_mail_nor_password_travels_in_the_clear,
    a_mail_that_came_too_late_is_not_sent,
);

impl House {
    /// A house with this mail server.
    pub async fn start_with(&self, mailbox: &Mailbox) -> Process {
        self.try_start(self.mailing(mailbox.url(), MailTls::None)).await.unwrap()
    }

    fn mailing(&self, url: String, tls: MailTls) -> Config {
        let from = "Manifold <manifold@example.org>".to_owned();
        let mail = MailConfig { url: Secret::new(url), from, tls };
        Config { mail, public_url: PUBLIC.to_owned(), ..self.config() }
    }
}

impl Process {
    /// Waits for this number from the database.
    pub async fn counts(&self, sql: &'static str, expected: i64) {
        eventually(SOON, || async { self.count(sql).await == expected }).await;
    }
}

async fn an_invitation_is_mailed_and_nobody_reads_it_in_the_database(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    let owner = process.caller(&process.set_up(house).await).await;

    let (_, shown) = process.identity.invite(&owner, "Grace@example.org", "developer").await.unwrap();
    let mail = mailbox.take("grace@example.org").await;

    assert!(shown.is_none(), "whoever follows it has proven the address");
    assert!(mail.text.contains(&format!("{PUBLIC}/register#")), "{}", mail.text);
    for line in ["From: Manifold <manifold@example.org>", "Subject: You are invited", "Message-ID: <job_"] {
        assert!(mail.text.contains(line), "{line} {}", mail.text);
    }
    let sealed =
        "SELECT COUNT(*) FROM job WHERE args LIKE '%\"sealed\":%' AND args NOT LIKE '%#mfi%' AND args NOT LIKE '%@%'";
    assert_eq!(process.count(sealed).await, 1);
    let new =
        Newcomer { token: mail.token().into(), name: "Grace".to_owned(), password: Secret::from(PASSWORD), code: None };
    assert!(process.identity.join(&nobody(), visitor("127.0.0.1"), new).await.is_ok());
    process.counts("SELECT COUNT(*) FROM job WHERE state = 3", 1).await;
    process.stop().await;
}

async fn a_mail_waits_for_a_mail_server_that_is_away(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    mailbox.refuse(Some("451 not now, grace@example.org"));
    let process = house.start_with(&mailbox).await;
    let owner = process.caller(&process.set_up(house).await).await;

    process.identity.invite(&owner, "grace@example.org", "developer").await.unwrap();
    process.counts("SELECT COUNT(*) FROM job WHERE state = 1 AND error LIKE '%answers 451%'", 1).await;
    assert_eq!(process.count("SELECT COUNT(*) FROM job WHERE error LIKE '%grace%'").await, 0);
    mailbox.refuse(None);
    house.clock.advance(Duration::from_secs(60));

    assert!(mailbox.take("grace@example.org").await.token().starts_with("mfi_"));
    process.stop().await;
}

async fn a_mail_that_is_refused_for_good_is_given_up(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    mailbox.refuse(Some("550 there is no grace@example.org"));
    let process = house.start_with(&mailbox).await;
    let owner = process.caller(&process.set_up(house).await).await;

    process.identity.invite(&owner, "grace@example.org", "developer").await.unwrap();

    process.counts("SELECT COUNT(*) FROM job WHERE state = 4", 1).await;
    let given_up = "SELECT COUNT(*) FROM dead_letter WHERE reason = 'MAIL_REFUSED' AND error NOT LIKE '%grace%'";
    assert_eq!(process.count(given_up).await, 1);
    process.stop().await;
}

async fn neither_mail_nor_password_travels_in_the_clear(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let url = mailbox.url().replace("smtp://", "smtp://ada:secret@");
    let process = house.try_start(house.mailing(url, MailTls::Required)).await.unwrap();
    let owner = process.caller(&process.set_up(house).await).await;

    process.identity.invite(&owner, "grace@example.org", "developer").await.unwrap();

    process.counts("SELECT COUNT(*) FROM job WHERE state = 1 AND error LIKE 'MAIL_UNAVAILABLE%'", 1).await;
    let said = mailbox.said();
    assert!(said.iter().any(|line| line.starts_with("EHLO api.example")), "{said:?}");
    assert!(!said.iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")), "{said:?}");
    process.stop().await;
}

async fn a_mail_that_came_too_late_is_not_sent(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    mailbox.refuse(Some("451 not now"));
    let process = house.start_with(&mailbox).await;
    let owner = process.caller(&process.set_up(house).await).await;
    process.identity.invite(&owner, "grace@example.org", "developer").await.unwrap();
    process.counts("SELECT COUNT(*) FROM job WHERE state = 1 AND error IS NOT NULL", 1).await;

    mailbox.refuse(None);
    house.clock.advance(Duration::from_secs(8 * 24 * 3_600));

    process.counts("SELECT COUNT(*) FROM job WHERE state = 3 AND result LIKE '%false%'", 1).await;
    assert_eq!(mailbox.n_waiting(), 0);
    process.stop().await;
}
