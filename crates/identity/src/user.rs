//! People: the first owner, who one is, and changing one's password.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use manifold_core::{Code, Error, Result, Secret, Timestamp, UserId};
use manifold_runtime::CallContext;
use serde_json::json;

use crate::email::Email;
use crate::origin::Origin;
use crate::session::{self, Entered, Visitor, person};
use crate::store::session::{self as sessions, NewSession, Which};
use crate::store::user::{self as store, Account};
use crate::store::{member, one_time};
use crate::{Identity, login, name, password, role, setup};

/// A person, as everybody in the tenant may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserInfo {
    /// The person.
    pub id: UserId,
    /// Address, as it was typed.
    pub email: String,
    /// What the person is called.
    pub name: String,
    /// Language, such as `pt-BR`.
    pub locale: Option<String>,
    /// Time zone, such as `Europe/Lisbon`.
    pub zone: Option<String>,
    /// When the account was made.
    pub created_at: Timestamp,
}

/// Who makes the house its own.
#[derive(Clone, Debug)]
pub struct NewOwner {
    /// What was printed at the first start.
    pub token: Secret<String>,
    /// Address.
    pub email: String,
    /// What the person is called, 1 to 100 characters.
    pub name: String,
    /// Password.
    pub password: Secret<String>,
}

impl From<Account> for UserInfo {
    fn from(account: Account) -> Self {
        let Account { id, email, name, locale, zone, created_at, .. } = account;
        Self { id: UserId(id), email, name, locale, zone, created_at }
    }
}

impl Identity {
    /// Fails while nobody has an account.
    ///
    /// # Errors
    /// `SETUP_REQUIRED`.
    pub async fn require_setup(&self) -> Result<()> {
        if self.inner.has_users.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !store::has_users(&self.inner.db).await? {
            let message =
                "nobody has an account yet: make the first one with POST /v1/auth/setup and the token of setup.token";
            return Err(Error::new(Code::Unavailable, "SETUP_REQUIRED", message));
        }
        self.inner.has_users.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Makes the first account, the owner of the first tenant, and logs it in. The token works once.
    ///
    /// # Errors
    /// `SETUP_TOKEN_INVALID`, `EMAIL_INVALID`, `NAME_INVALID`, `PASSWORD_INVALID`, `PASSWORD_WEAK`.
    pub async fn set_up(&self, call: &CallContext, visitor: Visitor, new: NewOwner) -> Result<Entered> {
        let token = session::hash(new.token.expose());
        // First of all: a wrong token costs nothing more.
        if !setup::is_open(self, &token).await? {
            return Err(wrong_token());
        }
        let (email, name) = (Email::parse(&new.email)?, name::read(&new.name)?);
        let password = password::read(&new.password)?;
        password::check_strength(&password, &email, &name)?;
        let phc = self.inner.hasher.hash(&self.inner.hasher.seat()?, password).await?;
        let (user, now) = (UserId(self.inner.ids.next()), self.inner.clock.now());
        let work = Arc::new((self.clone(), email, name, token, phc, visitor, Origin::of(call)));
        let made = self.inner.db.write("make the first account", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, email, name, token, phc, visitor, origin) = &*work;
                if !one_time::use_all(tx, one_time::SETUP, token, now).await? {
                    return Err(wrong_token());
                }
                let tenant = identity.host()?;
                member::lock(tx, tenant).await?;
                // Whoever was invited before is here, and nobody becomes an owner beside them by this token.
                if store::has_users_in(tx).await? {
                    return Err(wrong_token());
                }
                if !store::insert(tx, user, email, name, now).await? {
                    return Err(wrong_token());
                }
                store::set_password(tx, user, phc, now).await?;
                store::join(tx, tenant, user, role::OWNER, now).await?;
                let (session, token) = session::new(&identity.inner.ids, user, tenant, visitor, now);
                let data = json!({ "id": user.to_string(), "email": email.typed, "role": role::OWNER });
                let event = login::event("identity.user.registered", tenant, user, &data);
                login::open(tx, &session, &event, &identity.inner.outbox, origin).await?;
                Ok((session, token))
            })
        });
        let (session, token) = made.await?;
        self.inner.has_users.store(true, Ordering::Relaxed);
        setup::done(self);
        let account = store::find(&self.inner.db, user).await?.ok_or_else(|| Error::internal("the account is gone"))?;
        self.entered(session, token, account).await
    }

    /// The caller.
    pub async fn me(&self, caller: &CallContext) -> Result<UserInfo> {
        let (user, _) = person(&caller.principal)?;
        let account = store::find(&self.inner.db, user).await?;
        account.map(UserInfo::from).ok_or_else(|| Error::not_found("NOT_FOUND", "there is no such account"))
    }

    /// Changes the caller's password. All sessions end, and the caller goes on with a new one.
    ///
    /// # Errors
    /// `INVALID_CREDENTIALS` if `current` is wrong, which counts as a try to log in; `CODE_REQUIRED`, `CODE_INVALID`;
    /// `PASSWORD_INVALID`, `PASSWORD_WEAK`.
    pub async fn change_password(
        &self,
        caller: &CallContext,
        visitor: Visitor,
        current: Secret<String>,
        new: Secret<String>,
        code: Option<Secret<String>>,
    ) -> Result<Entered> {
        let (user, _) = person(&caller.principal)?;
        let seat = self.inner.hasher.seat()?;
        let account = store::find(&self.inner.db, user).await?.ok_or_else(login::refused)?;
        let email = Email::parse(&account.email)?;
        let new = password::read(&new)?;
        password::check_strength(&new, &email, &account.name)?;
        let tries = self.prove(&seat, Some(&account), &email, visitor.ip, current).await?;
        let tenant = caller.principal.tenant;
        let second = self.second(caller, tenant, user, code.as_ref()).await?;
        let phc = self.inner.hasher.hash(&seat, new).await?;
        let now = self.inner.clock.now();
        let (opened, token) = session::new(&self.inner.ids, user, tenant, &visitor, now);
        let opened = NewSession { mfa: second.kind().is_some(), ..opened };
        let generation = account.generation;
        let work = (self.clone(), opened.clone(), phc, tries, second, Origin::of(caller));
        let work = Arc::new(work);
        let changed = self.inner.db.write("change a password", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, opened, phc, tries, second, origin) = &*work;
                // Somebody else may have changed it while it was compared.
                if !store::hold(tx, user, generation).await? {
                    return Err(login::refused());
                }
                if let Err(refused) = second.settle(tx, now).await? {
                    return Ok(Err(refused));
                }
                tries.succeeded(tx, now).await?;
                store::set_password(tx, user, phc, now).await?;
                sessions::revoke(tx, user, Which::All, now).await?;
                identity.tell_password_changed(tx, user, now).await?;
                let data = json!({ "reason": "password_changed" });
                let event = login::event("identity.session.revoked", tenant, user, &data);
                login::open(tx, opened, &event, &identity.inner.outbox, origin).await.map(Ok)
            })
        });
        changed.await??;
        self.forget(&Which::All.subject(user));
        self.entered(opened, token, account).await
    }
}

fn wrong_token() -> Error {
    let message = "this is not the token of setup.token, or it was used, or its 24 hours are over";
    Error::new(Code::Unauthenticated, "SETUP_TOKEN_INVALID", message)
}
