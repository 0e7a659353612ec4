//! What people do with their own accounts, and what they are told of them.

use std::time::Duration;

use manifold_core::{Error, Secret};
use manifold_identity::{NewTenantInfo, Newcomer, ProfileChange};
use manifold_runtime::CallContext;

use crate::house::{House, LOCAL, Process};
use crate::mailbox::Mailbox;
use crate::people::{PASSWORD, nobody, visitor};

const ANOTHER: &str = "another four words here";

on_both_engines!(
    a_person_tells_a_language_and_a_time_zone,
    another_address_counts_once_it_is_proven_and_both_are_told,
    neither_a_taken_address_nor_an_old_link_changes_anything,
    nothing_is_left_of_an_erased_account_but_its_id,
    somebody_who_was_erased_a_moment_ago_makes_no_tenant,
    a_link_for_a_new_password_is_for_who_has_the_address_that_it_was_mailed_to,
    the_last_owner_of_a_tenant_cannot_erase_the_account,
    an_account_is_erased_only_by_who_has_just_proven_to_have_it,
    a_changed_password_is_told_to_its_owner,
    a_login_from_elsewhere_is_told,
    a_login_after_a_long_pause_is_told,
    a_second_factor_that_comes_or_goes_and_a_used_recovery_code_are_told,
    who_is_guessed_at_is_told_once_a_day,
);

impl Process {
    async fn move_to(&self, caller: &CallContext, email: &str, password: &str) -> Result<(), Error> {
        self.identity.change_email(caller, &visitor("127.0.0.1"), email, Secret::from(password)).await
    }

    /// Somebody with an account beside the owner.
    pub async fn invited(
        &self,
        mailbox: Option<&Mailbox>,
        owner: &CallContext,
        email: &str,
        role: &str,
    ) -> CallContext {
        let made = self.identity.invite(owner, email, role).await.unwrap().1;
        let token = match (made, mailbox) {
            (Some(made), _) => made.token,
            (None, mailbox) => Secret::from(mailbox.unwrap().take(email).await.token()),
        };
        let new = Newcomer { token, name: "Grace".to_owned(), password: Secret::from(PASSWORD), code: None };
        self.caller(&self.identity.join(&nobody(), visitor("127.0.0.1"), new).await.unwrap()).await
    }

    /// No job waits or runs.
    async fn is_idle(&self) {
        self.counts("SELECT COUNT(*) FROM job WHERE state IN (1, 2)", 0).await;
    }
}

async fn a_person_tells_a_language_and_a_time_zone(house: &House) {
    let process = house.start().await;
    let ada = process.caller(&process.set_up(house).await).await;
    let some = |text: &str| Some(text.to_owned());

    let change = ProfileChange { name: None, locale: some("pt-BR"), zone: some("Europe/Lisbon") };
    let told = process.identity.update_me(&ada, change).await.unwrap();
    let removed = ProfileChange { name: some("Ada L."), locale: some(""), zone: None };
    let left = process.identity.update_me(&ada, removed).await.unwrap();
    let wrong = ProfileChange { zone: some("../etc"), ..ProfileChange::default() };
    let wrong = process.identity.update_me(&ada, wrong).await.unwrap_err();

    assert_eq!(
        (&*told.name, told.locale.as_deref(), told.zone.as_deref()),
        ("Ada", Some("pt-BR"), Some("Europe/Lisbon"))
    );
    assert_eq!((&*left.name, left.locale, left.zone.as_deref()), ("Ada L.", None, Some("Europe/Lisbon")));
    assert_eq!((wrong.reason(), wrong.param()), ("PROFILE_INVALID", Some("zone")));
    process.stop().await;
}

async fn another_address_counts_once_it_is_proven_and_both_are_told(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    let ada = process.caller(&process.set_up(house).await).await;
    let wrong = process.move_to(&ada, "ada@new.example", ANOTHER).await.unwrap_err();
    assert_eq!(wrong.reason(), "INVALID_CREDENTIALS");
    process.forgot("ada@example.org").await.unwrap();
    let reset = mailbox.take("ada@example.org").await;

    process.move_to(&ada, "Ada@new.example", PASSWORD).await.unwrap();
    let mail = mailbox.take("ada@new.example").await;
    assert!(process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.is_ok(), "nothing is proven yet");
    let chosen =
        process.identity.verify_email(&nobody(), &Secret::from(mail.token()), Some(&Secret::from(ANOTHER))).await;
    assert_eq!(chosen.unwrap_err().reason(), "INVALID_ARGUMENT", "the password stays as it is");
    process.verify(mail.token()).await.unwrap();

    for address in ["ada@example.org", "ada@new.example"] {
        let told = mailbox.take(address).await;
        assert!(told.text.contains("was Ada@Example.org and is Ada@new.example now"), "{}", told.text);
    }
    assert!(process.log_in("127.0.0.1", "ada@new.example", PASSWORD).await.is_ok());
    assert!(process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.is_err());
    assert_eq!(process.reset(reset.token(), ANOTHER).await.unwrap_err().reason(), "TOKEN_INVALID");
    assert_eq!(process.verify(mail.token()).await.unwrap_err().reason(), "TOKEN_INVALID", "it was used");
    process.stop().await;
}

async fn neither_a_taken_address_nor_an_old_link_changes_anything(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    let entered = process.set_up(house).await;
    let ada = process.caller(&entered).await;
    process.invited(Some(&mailbox), &ada, "grace@example.org", "viewer").await;

    process.move_to(&ada, "grace@example.org", PASSWORD).await.unwrap();
    let taken = mailbox.take("grace@example.org").await;
    assert_eq!(process.verify(taken.token()).await.unwrap_err().reason(), "TOKEN_INVALID", "somebody has it");
    process.move_to(&ada, "ada@new.example", PASSWORD).await.unwrap();
    let old = mailbox.take("ada@new.example").await;
    let changed = (Secret::from(PASSWORD), Secret::from(ANOTHER));
    process.identity.change_password(&ada, visitor("127.0.0.1"), changed.0, changed.1, None).await.unwrap();

    assert_eq!(process.verify(old.token()).await.unwrap_err().reason(), "TOKEN_INVALID", "the password is another one");
    assert!(process.log_in("127.0.0.1", "ada@example.org", ANOTHER).await.is_ok());
    process.stop().await;
}

async fn nothing_is_left_of_an_erased_account_but_its_id(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    let ada = process.caller(&process.set_up(house).await).await;
    process.let_register("open").await;
    process.register("grace@example.org").await.unwrap();
    mailbox.take("grace@example.org").await;
    let grace = process.invited(Some(&mailbox), &ada, "Grace@example.org", "developer").await;
    process.forgot("grace@example.org").await.unwrap();
    mailbox.take("grace@example.org").await;
    process.move_to(&grace, "grace@new.example", PASSWORD).await.unwrap();
    process.verify(mailbox.take("grace@new.example").await.token()).await.unwrap();
    mailbox.take("grace@example.org").await;
    let change = ProfileChange { locale: Some("de".to_owned()), ..ProfileChange::default() };
    process.identity.update_me(&grace, change).await.unwrap();
    let entered = process.log_in("198.51.100.7", "grace@new.example", PASSWORD).await.unwrap();
    process.is_idle().await;

    process.identity.delete_me(&grace).await.unwrap();

    assert!(process.identity.authenticate_session(entered.token.expose(), LOCAL).await.is_err());
    assert!(process.log_in("127.0.0.1", "grace@new.example", PASSWORD).await.is_err());
    for (left, n) in [
        (
            "SELECT COUNT(*) FROM user_account WHERE state = 'erased' AND erased_at IS NOT NULL AND email IS NULL \
          AND email_norm IS NULL AND name = '' AND locale IS NULL AND zone IS NULL",
            1,
        ),
        ("SELECT COUNT(*) FROM user_account", 2),
        ("SELECT COUNT(*) FROM password", 1),
        ("SELECT COUNT(*) FROM membership", 1),
        ("SELECT COUNT(*) FROM role_binding", 1),
        ("SELECT COUNT(*) FROM session WHERE ip = '198.51.100.7' OR agent = ''  AND ip <> ''", 0),
        ("SELECT COUNT(*) FROM invitation WHERE email_norm = 'grace@example.org'", 0),
        ("SELECT COUNT(*) FROM user_place WHERE network = '198.51.0.0/16'", 0),
        ("SELECT COUNT(*) FROM audit_entry WHERE LOWER(detail) LIKE '%grace%'", 0),
        ("SELECT COUNT(*) FROM one_time WHERE user_id IS NOT NULL OR LOWER(CAST(data AS TEXT)) LIKE '%grace%'", 0),
        ("SELECT COUNT(*) FROM job", 0),
    ] {
        assert_eq!(process.count(left).await, n, "{left}");
    }
    let chain = process.identity.verify_audit(&process.admin(house).await).await.unwrap();
    assert!(chain.n_erased > 0 && chain.broken.is_none(), "{chain:?}");
    process.invited(Some(&mailbox), &ada, "grace@example.org", "viewer").await;
    process.stop().await;
}

async fn somebody_who_was_erased_a_moment_ago_makes_no_tenant(house: &House) {
    let process = house.start().await;
    let ada = process.caller(&process.set_up(house).await).await;
    let grace = process.invited(None, &ada, "grace@example.org", "owner").await;
    process.identity.delete_me(&grace).await.unwrap();

    let new = NewTenantInfo { slug: "graces".to_owned(), name: "Grace's".to_owned(), owner: None };
    let refused = process.identity.create_tenant(&grace, new).await.unwrap_err();

    assert_eq!(refused.reason(), "INVALID_SESSION");
    assert_eq!(process.count("SELECT COUNT(*) FROM tenant").await, 1);
    process.stop().await;
}

async fn a_link_for_a_new_password_is_for_who_has_the_address_that_it_was_mailed_to(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    process.set_up(house).await;
    process.forgot("ada@example.org").await.unwrap();
    let link = mailbox.take("ada@example.org").await;

    // As if the address or the password had changed while the link was made.
    for (change, undo) in [
        (
            "email = 'ada@new.example', email_norm = 'ada@new.example'",
            "email = 'Ada@Example.org', email_norm = 'ada@example.org'",
        ),
        ("generation = generation + 1", "generation = generation - 1"),
    ] {
        process.execute(&format!("UPDATE user_account SET {change}")).await;
        assert_eq!(process.reset(link.token(), ANOTHER).await.unwrap_err().reason(), "TOKEN_INVALID", "{change}");
        process.execute(&format!("UPDATE user_account SET {undo}")).await;
    }

    process.reset(link.token(), ANOTHER).await.unwrap();
    process.stop().await;
}

async fn the_last_owner_of_a_tenant_cannot_erase_the_account(house: &House) {
    let process = house.start().await;
    let ada = process.caller(&process.set_up(house).await).await;
    process.invited(None, &ada, "grace@example.org", "developer").await;

    let alone = process.identity.delete_me(&ada).await.unwrap_err();
    process.invited(None, &ada, "eve@example.org", "owner").await;

    assert_eq!(alone.reason(), "LAST_OWNER");
    assert!(process.log_in("127.0.0.1", "ada@example.org", PASSWORD).await.is_ok(), "nothing happened");
    process.identity.delete_me(&ada).await.unwrap();
    process.stop().await;
}

async fn an_account_is_erased_only_by_who_has_just_proven_to_have_it(house: &House) {
    let process = house.start().await;
    let ada = process.caller(&process.set_up(house).await).await;
    let grace = process.invited(None, &ada, "grace@example.org", "developer").await;

    house.clock.advance(Duration::from_secs(11 * 60));

    assert_eq!(process.identity.delete_me(&grace).await.unwrap_err().reason(), "STEP_UP_REQUIRED");
    let key = process.identity.delete_me(&process.admin(house).await).await.unwrap_err();
    assert_eq!(key.reason(), "SESSION_REQUIRED");
    process.stop().await;
}

async fn a_changed_password_is_told_to_its_owner(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    let ada = process.caller(&process.set_up(house).await).await;

    let (old, new) = (Secret::from(PASSWORD), Secret::from(ANOTHER));
    process.identity.change_password(&ada, visitor("127.0.0.1"), old, new, None).await.unwrap();
    let changed = mailbox.take("ada@example.org").await;
    process.forgot("ada@example.org").await.unwrap();
    let link = mailbox.take("ada@example.org").await;
    process.reset(link.token(), PASSWORD).await.unwrap();
    let reset = mailbox.take("ada@example.org").await;

    for told in [changed, reset] {
        assert!(told.text.contains("Subject: Your password was changed"), "{}", told.text);
        assert!(!told.text.contains("horse") && !told.text.contains("four"), "{}", told.text);
    }
    process.stop().await;
}

async fn a_login_from_elsewhere_is_told(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    process.set_up(house).await;
    for near in ["203.0.113.7", "203.0.114.9"] {
        process.log_in(near, "ada@example.org", PASSWORD).await.unwrap();
    }
    process.is_idle().await;
    assert_eq!(mailbox.n_waiting(), 0, "the first place and its neighbours are no news");

    for _ in 0..2 {
        process.log_in("2001:db8::7", "ada@example.org", PASSWORD).await.unwrap();
    }

    let told = mailbox.take("ada@example.org").await;
    assert!(told.text.contains("from 2001:db8::7 at "), "{}", told.text);
    process.is_idle().await;
    assert_eq!(mailbox.n_waiting(), 0, "once");
    process.stop().await;
}

async fn a_login_after_a_long_pause_is_told(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    let ada = process.caller(&process.set_up(house).await).await;
    process.invited(Some(&mailbox), &ada, "grace@example.org", "viewer").await;
    process.log_in("203.0.113.7", "ada@example.org", PASSWORD).await.unwrap();
    process.is_idle().await;
    assert_eq!(mailbox.n_waiting(), 0, "the account was just made");

    house.clock.advance(Duration::from_secs(91 * 24 * 3_600));
    for email in ["ada@example.org", "grace@example.org"] {
        process.log_in("203.0.113.7", email, PASSWORD).await.unwrap();
        let told = mailbox.take(email).await;
        assert!(told.text.contains("Subject: A login from a new place"), "{}", told.text);
    }
    process.stop().await;
}

async fn a_second_factor_that_comes_or_goes_and_a_used_recovery_code_are_told(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    let (entered, _) = process.add_factor(house, &process.set_up(house).await).await;
    let caller = process.caller(&entered).await;
    let told = async || mailbox.take("ada@example.org").await.text;
    assert!(told().await.contains("Subject: A second factor was added"));

    let codes = process.identity.create_recovery_codes(&caller).await.unwrap();
    process.log_in_with("127.0.0.1", codes[0].expose()).await.unwrap();
    let used = told().await;
    assert!(used.contains("Subject: A recovery code was used") && !used.contains(codes[0].expose()), "{used}");
    process.log_in_with("127.0.0.1", codes[0].expose()).await.unwrap_err();
    let factor = process.identity.list_factors(&caller).await.unwrap()[0].id;
    process.identity.remove_factor(&caller, factor).await.unwrap();

    assert!(told().await.contains("Subject: Your second factor was removed"));
    process.is_idle().await;
    assert_eq!(mailbox.n_waiting(), 0);
    process.stop().await;
}

async fn who_is_guessed_at_is_told_once_a_day(house: &House) {
    let mailbox = Mailbox::open().await.unwrap();
    let process = house.start_with(&mailbox).await;
    process.set_up(house).await;
    let guess = async |hour: u64| {
        for n in 0..11 {
            for email in ["ada@example.org", "nobody@example.org"] {
                let from = format!("198.{hour}.{n}.7");
                assert!(process.log_in(&from, email, ANOTHER).await.is_err());
            }
            house.clock.advance(Duration::from_secs(61));
        }
    };

    guess(1).await;
    let told = mailbox.take("ada@example.org").await;
    assert!(told.text.contains("Subject: Somebody guesses your password"), "{}", told.text);
    process.is_idle().await;
    house.clock.advance(Duration::from_secs(2 * 3_600));
    guess(2).await;
    process.counts("SELECT COUNT(*) FROM job WHERE result = '{}'", 4).await;
    process.is_idle().await;
    assert_eq!(mailbox.n_waiting(), 0, "once a day, and nobody else");
    house.clock.advance(Duration::from_secs(24 * 3_600));
    guess(3).await;

    mailbox.take("ada@example.org").await;
    process.stop().await;
}
