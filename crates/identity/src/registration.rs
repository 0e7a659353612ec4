//! Registering oneself in an open house, and choosing a new password by mail. Nobody learns whether an address has an account
//! but who reads its mail: what depends on it is done later, by the worker that sends mail.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Code, Error, Result, Secret, TenantId, UserId};
use manifold_runtime::CallContext;
use manifold_store::Db;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::account::nobodys;
use crate::email::Email;
use crate::login::Tries;
use crate::mail::{Answer, Errand, letter};
use crate::member::{promise, wrong_token};
use crate::origin::Origin;
use crate::session::Visitor;
use crate::store::one_time::{self, Promise};
use crate::store::tenant::{self, NewTenant};
use crate::store::user;
use crate::tenant::settings::Registration;
use crate::{Identity, login, name, password, role, session};

/// How long one may take to prove an address.
const PROOF: Duration = Duration::from_secs(24 * 3_600);
/// How long a mailed link for a new password works.
const RESET: Duration = Duration::from_secs(3_600);

/// Who registers.
#[derive(Clone, Debug)]
pub struct NewAccount {
    /// Address.
    pub email: String,
    /// What the person is called, 1 to 100 characters.
    pub name: String,
}

/// A registration that waits for its proof. There is no password yet: one that was chosen before the proof would be that of
/// a stranger who registers somebody else's address and waits.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) email: Email,
    name: String,
}

/// Whether strangers register.
pub async fn is_open(db: &Db) -> Result<bool> {
    let Some(host) = tenant::first(db).await? else { return Ok(false) };
    Ok(tenant::settings(db, host).await?.registration == Registration::Open)
}

impl Identity {
    /// Mails a link that finishes the registration, or says that the address has an account. Both look the same from here.
    ///
    /// # Errors
    /// `REGISTRATION_CLOSED` unless the house is open, `EMAIL_INVALID`, `NAME_INVALID`, `TOO_MANY_ATTEMPTS`,
    /// `SETUP_REQUIRED`.
    pub async fn register(&self, visitor: &Visitor, new: NewAccount) -> Result<()> {
        self.require_setup().await?;
        self.require_open().await?;
        let (email, name) = (Email::parse(&new.email)?, name::read(&new.name)?);
        self.count_mail(&email, visitor).await?;
        self.post(Errand::Register(Pending { email, name })).await
    }

    /// Mails a link for a new password, if the address has an account. Whether it has looks the same from here.
    ///
    /// # Errors
    /// `MAIL_MISSING` without a mail server, `EMAIL_INVALID`, `TOO_MANY_ATTEMPTS`, `SETUP_REQUIRED`.
    pub async fn forgot_password(&self, visitor: &Visitor, email: &str) -> Result<()> {
        self.require_setup().await?;
        self.require_mail()?;
        let email = Email::parse(email)?;
        self.count_mail(&email, visitor).await?;
        self.post(Errand::Forgot(email)).await
    }

    /// Who holds the token has read the mail: makes the account of who registered, with the password chosen now and a tenant
    /// of its own; or changes the address of who asked for that, whose password stays.
    ///
    /// # Errors
    /// `TOKEN_INVALID`; of who registered `PASSWORD_INVALID`, also if there is none, `PASSWORD_WEAK`, and
    /// `REGISTRATION_CLOSED` if the house is not open any more; of who has an account `INVALID_ARGUMENT` if there is one.
    pub async fn verify_email(
        &self,
        call: &CallContext,
        token: &Secret<String>,
        password: Option<&Secret<String>>,
    ) -> Result<()> {
        let (hash, now) = (session::hash(token.expose()), self.inner.clock.now());
        if let Some(made) = one_time::find(&self.inner.db, one_time::EMAIL, &hash, now).await? {
            if password.is_some() {
                let message = "this proves another address of an account, whose password stays";
                return Err(Error::invalid("INVALID_ARGUMENT", message).at("password"));
            }
            return self.confirm_email(call, hash, made).await;
        }
        let made = one_time::find(&self.inner.db, one_time::REGISTER, &hash, now).await?.ok_or_else(wrong_token)?;
        let pending: Pending = serde_json::from_value(made.data.0).map_err(|_| wrong_token())?;
        let missing = || Error::invalid("PASSWORD_INVALID", "choose the password of the new account").at("password");
        let password = password::read(password.ok_or_else(missing)?)?;
        password::check_strength(&password, &pending.email, &pending.name)?;
        let phc = self.inner.hasher.hash(&self.inner.hasher.seat()?, password).await?;
        let (user, tenant) = (UserId(self.inner.ids.next()), TenantId(self.inner.ids.next()));
        let slug = tenant.to_string().replace('_', "-");
        let home = NewTenant { id: tenant, slug, name: pending.name.clone(), at: now };
        let data = json!({ "id": user.to_string(), "email": pending.email.typed, "role": role::OWNER });
        let event = login::event("identity.user.registered", tenant, user, &data);
        let work = Arc::new((self.clone(), pending, phc, hash, home, event, Origin::of(call)));
        let made = self.inner.db.write("make an account", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, pending, phc, hash, home, event, origin) = &*work;
                let house = tenant::hold(tx, identity.host()?).await?;
                if house.is_none_or(|house| house.settings.registration != Registration::Open) {
                    return Err(closed());
                }
                // Of two who registered the address the first one who reads its mail has it.
                if !one_time::use_up(tx, one_time::REGISTER, hash, now).await?
                    || !user::insert(tx, user, &pending.email, &pending.name, now).await?
                {
                    return Err(wrong_token());
                }
                user::set_password(tx, user, phc, now).await?;
                if !tenant::insert(tx, home).await? {
                    return Err(Error::internal("a new tenant has the name of another one"));
                }
                user::join(tx, home.id, user, role::OWNER, now).await?;
                identity.inner.outbox.append(tx, std::slice::from_ref(event), &origin.cause()).await.map(|_| ())
            })
        });
        made.await
    }

    /// What becomes of a registration.
    pub(crate) async fn answer_registration(&self, public_url: &str, pending: Pending) -> Result<Answer> {
        let email = pending.email.clone();
        if user::find_by_email(&self.inner.db, &email.norm).await?.is_some() {
            return Ok(Answer::say(letter::registered_already(public_url, &email)));
        }
        let (token, until) = (session::one_time("mfv"), self.inner.clock.now().after(PROOF));
        let data = serde_json::to_value(&pending);
        let data = data.map_err(|error| Error::internal("write a registration").because(error))?;
        let hash = session::hash(token.expose());
        let promise = Promise { purpose: one_time::REGISTER, hash, user: None, data, until };
        let letter = letter::registration(public_url, &email, &token, until);
        Ok(Answer { promise: Some(promise), ..Answer::say(letter) })
    }

    /// What becomes of a forgotten password.
    pub(crate) async fn answer_forgotten(&self, public_url: &str, email: &Email) -> Result<Answer> {
        let account = user::find_by_email(&self.inner.db, &email.norm).await?;
        let Some(account) = account.filter(|account| account.state == "active") else { return Ok(Answer::default()) };
        let user = UserId(account.id);
        let Some(tenant) = user::home(&self.inner.db, user).await? else { return Ok(Answer::default()) };
        let (token, until) = (session::one_time("mfr"), self.inner.clock.now().after(RESET));
        let letter = letter::reset(public_url, &Email::parse(&account.email)?, &token, until);
        let event = login::event("identity.reset.requested", tenant, user, &json!({ "id": user.to_string() }));
        // Earlier ones go on until one is used: whoever asks again and again keeps nobody from using theirs.
        Ok(Answer { promise: Some(promise(&token, &account, until)?), event: Some(event), ..Answer::say(letter) })
    }

    /// Refuses an open house without mail: nobody could prove an address.
    ///
    /// # Errors
    /// `MAIL_MISSING`.
    pub(crate) fn check_registration(&self, mode: Registration) -> Result<()> {
        if mode == Registration::Open { self.require_mail().map(|_| ()) } else { Ok(()) }
    }

    /// Where links in mails lead.
    ///
    /// # Errors
    /// `MAIL_MISSING`.
    pub(crate) fn require_mail(&self) -> Result<&str> {
        let message = "there is no mail server: set mail.url, or let registration be by invitation";
        self.inner.post.public_url().ok_or_else(|| Error::new(Code::Precondition, "MAIL_MISSING", message))
    }

    async fn require_open(&self) -> Result<()> {
        match tenant::settings(&self.inner.db, self.host()?).await?.registration {
            Registration::Open => Ok(()),
            Registration::Invite | Registration::Closed => Err(closed()),
        }
    }

    /// Refuses to take somebody into a tenant that takes nobody.
    pub(crate) async fn require_invitations(&self, tenant: TenantId) -> Result<()> {
        match tenant::settings(&self.inner.db, tenant).await?.registration {
            Registration::Closed => Err(closed()),
            Registration::Open | Registration::Invite => Ok(()),
        }
    }

    /// Counts a mail that somebody asks for.
    pub(crate) async fn count_mail(&self, email: &Email, visitor: &Visitor) -> Result<()> {
        let (tries, now) = (Arc::new(Tries::of_mail(email, visitor.ip)), self.inner.clock.now());
        let counted = self.inner.db.write("count a mail", move |tx| {
            let tries = Arc::clone(&tries);
            Box::pin(async move { tries.begin(tx, now).await.map(|_| ()) })
        });
        counted.await
    }

    /// Posts an errand of nobody in particular.
    async fn post(&self, errand: Errand) -> Result<()> {
        let work = Arc::new((self.clone(), errand));
        let posted = self.inner.db.write("post an errand", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move { work.0.inner.post.send(tx, nobodys(), &work.1).await })
        });
        posted.await
    }
}

/// Nobody registers here without being invited.
pub(crate) fn closed() -> Error {
    Error::new(Code::Denied, "REGISTRATION_CLOSED", "nobody registers here without an invitation")
}
