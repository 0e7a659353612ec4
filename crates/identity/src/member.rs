//! Members of a tenant: who they are, what they may do, how somebody stops to be one, and new passwords for those who forgot
//! theirs. How somebody becomes one is in `invitation`.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Code, Error, Page, PageRequest, Principal, Result, Secret, TenantId, Timestamp, UserId};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::email::Email;
use crate::origin::Origin;
use crate::role::Roles;
use crate::session;
use crate::store::member::{self as store, MemberRow};
use crate::store::one_time::{self, Made, Promise};
use crate::store::session::{self as sessions, Which};
use crate::store::user::{self, Account};
use crate::store::{account, revocation};
use crate::user::UserInfo;
use crate::{Identity, login, password, revoke, step_up};

pub(crate) const READ: &str = "users.user.read";
pub(crate) const WRITE: &str = "users.user.write";
/// How long a link for a new password works.
const RESET: Duration = Duration::from_secs(24 * 3_600);

/// A person in a tenant.
#[derive(Clone, Debug)]
pub struct Member {
    /// Who.
    pub user: UserInfo,
    /// Names of roles.
    pub roles: Vec<String>,
    /// Since when.
    pub joined_at: Timestamp,
}

/// A token that works once, shown once.
#[derive(Debug)]
pub struct OneTime {
    /// The token.
    pub token: Secret<String>,
    /// Until when it works.
    pub expires_at: Timestamp,
}

impl From<MemberRow> for Member {
    fn from(row: MemberRow) -> Self {
        let MemberRow { id, email, name, locale, zone, created_at, joined_at, roles } = row;
        Self { user: UserInfo { id: UserId(id), email, name, locale, zone, created_at }, roles, joined_at }
    }
}

impl Identity {
    /// Members of the caller's tenant, in the order in which their accounts were made. Needs `users.user.read`.
    pub async fn list_members(&self, caller: &CallContext, page: PageRequest) -> Result<Page<Member>> {
        caller.principal.require(READ)?;
        let (after, limit) = manifold_store::oldest_first(&page);
        let rows = store::list(&self.inner.db, caller.principal.tenant, after, limit).await?;
        Ok(Page::cut(&page, rows.into_iter().map(Member::from).collect(), |member: &Member| member.user.id.0))
    }

    /// One member of the caller's tenant. Needs `users.user.read`.
    ///
    /// # Errors
    /// `USER_NOT_FOUND` for who is no member, whoever else it may be.
    pub async fn get_member(&self, caller: &CallContext, user: UserId) -> Result<Member> {
        caller.principal.require(READ)?;
        self.find_member(caller.principal.tenant, user).await
    }

    /// Gives a member these roles and no others, at once. Needs `users.user.write`, and all that the roles before and after
    /// can do.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `ROLE_UNKNOWN`, `ESCALATION`, `LAST_OWNER`.
    pub async fn set_roles(&self, caller: &CallContext, user: UserId, mut roles: Vec<String>) -> Result<Member> {
        caller.principal.require(WRITE)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        roles.sort();
        roles.dedup();
        self.change(caller, user, Change::Roles(roles)).await?;
        self.find_member(caller.principal.tenant, user).await
    }

    /// Ends a membership; sessions of the person in this tenant end with it, keys go on. Needs `users.user.write`.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `ESCALATION`, `LAST_OWNER`.
    pub async fn remove_member(&self, caller: &CallContext, user: UserId) -> Result<()> {
        caller.principal.require(WRITE)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        self.change(caller, user, Change::Removal).await
    }

    /// A token by which the person chooses a new password; earlier ones end. Needs `users.user.write`.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `ESCALATION`.
    pub async fn make_reset_link(&self, caller: &CallContext, user: UserId) -> Result<OneTime> {
        caller.principal.require(WRITE)?;
        if *user.to_string() == *caller.principal.subject {
            let message = "one's own password is changed with POST /v1/auth/password, by who knows it";
            return Err(Error::new(Code::Denied, "ESCALATION", message));
        }
        let now = self.inner.clock.now();
        step_up::require(&caller.principal, now)?;
        let account = user::find(&self.inner.db, user).await?.ok_or_else(no_member)?;
        let token = session::one_time("mfr");
        let expires_at = now.after(RESET);
        let work = Arc::new((promise(&token, &account, expires_at)?, self.inner.outbox.clone(), Origin::of(caller)));
        let made = self.inner.db.write("make a token for a new password", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (promise, outbox, origin) = &*work;
                let caller = &origin.principal;
                govern(tx, caller, user).await?;
                // The password opens every tenant of the person, and the caller has power over one of them.
                if store::is_elsewhere(tx, caller.tenant, user).await? {
                    let message =
                        "this person is a member of another tenant, too, and has to change the password there";
                    return Err(Error::new(Code::Denied, "ESCALATION", message));
                }
                one_time::end_of(tx, user).await?;
                one_time::insert(tx, promise).await?;
                let data = json!({ "expires_at": expires_at.to_string() });
                let event = login::event("identity.user.reset_link_created", caller.tenant, user, &data);
                outbox.append(tx, &[event], &origin.cause()).await.map(|_| ())
            })
        });
        made.await?;
        Ok(OneTime { token, expires_at })
    }

    /// A new password for who holds the token. All sessions of the person end.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, `PASSWORD_INVALID`, `PASSWORD_WEAK`.
    pub async fn reset_password(&self, call: &CallContext, token: &Secret<String>, new: &Secret<String>) -> Result<()> {
        let new = password::read(new)?;
        let (hash, now) = (session::hash(token.expose()), self.inner.clock.now());
        let made = one_time::find(&self.inner.db, one_time::RESET, &hash, now).await?;
        let (user, promised) = made.and_then(read_promise).ok_or_else(wrong_token)?;
        let account = user::find(&self.inner.db, user).await?.ok_or_else(wrong_token)?;
        password::check_strength(&new, &Email::parse(&account.email)?, &account.name)?;
        let tenant = user::home(&self.inner.db, user).await?.ok_or_else(wrong_token)?;
        let phc = self.inner.hasher.hash(&self.inner.hasher.seat()?, new).await?;
        let work = Arc::new((self.clone(), hash, phc, Origin::of(call), promised));
        let reset = self.inner.db.write("reset a password", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, hash, phc, origin, promised) = &*work;
                let Promised { email_norm, generation } = promised;
                if !one_time::use_up(tx, one_time::RESET, hash, now).await?
                    || !user::hold(tx, user, *generation).await?
                    || !account::has_email(tx, user, email_norm).await?
                {
                    return Err(wrong_token());
                }
                user::set_password(tx, user, phc, now).await?;
                sessions::revoke(tx, user, Which::All, now).await?;
                identity.tell_password_changed(tx, user, now).await?;
                let event =
                    login::event("identity.session.revoked", tenant, user, &json!({ "reason": "password_reset" }));
                identity.inner.outbox.append(tx, &[event], &origin.cause()).await.map(|_| ())
            })
        });
        reset.await?;
        self.forget(&Which::All.subject(user));
        Ok(())
    }

    async fn change(&self, caller: &CallContext, user: UserId, change: Change) -> Result<()> {
        let (tenant, now) = (caller.principal.tenant, self.inner.clock.now());
        let work = Arc::new((change, self.inner.outbox.clone(), Origin::of(caller)));
        let changed = self.inner.db.write("change a member", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (change, outbox, origin) = &*work;
                let before = govern(tx, &origin.principal, user).await?;
                if let Change::Roles(roles) = change {
                    Roles::governed(tx, &origin.principal).await?.check_gift(&origin.principal, roles)?;
                }
                store::end_promises(tx, tenant, user).await?;
                let data = match change {
                    Change::Roles(roles) => {
                        store::set_roles(tx, tenant, user, roles).await?;
                        revocation::append(tx, &revoke::user_subject(user), now).await?;
                        json!({ "id": user.to_string(), "roles": roles, "before": before })
                    }
                    Change::Removal => {
                        store::remove(tx, tenant, user).await?;
                        sessions::revoke(tx, user, Which::In(tenant), now).await?;
                        json!({ "id": user.to_string(), "removed": true, "before": before })
                    }
                };
                if !store::has_owner(tx, tenant).await? {
                    let message = "a tenant needs an owner: make somebody else one first";
                    return Err(Error::new(Code::Conflict, "LAST_OWNER", message));
                }
                let event = login::event("identity.role.changed", tenant, user, &data);
                outbox.append(tx, &[event], &origin.cause()).await.map(|_| ())
            })
        });
        changed.await?;
        self.forget(&revoke::user_subject(user));
        Ok(())
    }

    pub(crate) async fn find_member(&self, tenant: TenantId, user: UserId) -> Result<Member> {
        store::find(&self.inner.db, tenant, user).await?.map(Member::from).ok_or_else(no_member)
    }
}

/// To whom a new password is promised: who has this address, and this password.
#[derive(Serialize, Deserialize)]
struct Promised {
    email_norm: String,
    generation: i64,
}

/// That the person chooses a new password by this token.
pub(crate) fn promise(token: &Secret<String>, account: &Account, until: Timestamp) -> Result<Promise> {
    let promised = Promised { email_norm: Email::parse(&account.email)?.norm, generation: account.generation };
    let data = serde_json::to_value(promised);
    let data = data.map_err(|error| Error::internal("write what is promised").because(error))?;
    let hash = session::hash(token.expose());
    Ok(Promise { purpose: one_time::RESET, hash, user: Some(UserId(account.id)), data, until })
}

fn read_promise(made: Made) -> Option<(UserId, Promised)> {
    Some((made.user()?, serde_json::from_value(made.data.0).ok()?))
}

/// The roles of a member, over whom the caller must have power. Until the transaction ends nobody else changes members.
pub(crate) async fn govern(tx: &mut Tx<'_>, caller: &Principal, user: UserId) -> Result<Vec<String>> {
    store::lock(tx, caller.tenant).await?;
    let held = store::roles_of(tx, caller.tenant, user).await?.ok_or_else(no_member)?;
    Roles::governed(tx, caller).await?.check_power(caller, &held)?;
    Ok(held)
}

/// What becomes of a member.
enum Change {
    Roles(Vec<String>),
    Removal,
}

/// Reads the printed id of a person. Malformed, unknown and foreign ids are the same error.
pub fn parse_user_id(text: &str) -> Result<UserId> {
    UserId::parse(text).ok_or_else(no_member)
}

fn no_member() -> Error {
    Error::not_found("USER_NOT_FOUND", "no such person")
}

pub(crate) fn wrong_token() -> Error {
    Error::new(Code::Unauthenticated, "TOKEN_INVALID", "this token was used, is over, or was taken back")
}
