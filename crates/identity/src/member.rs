//! Members of a tenant: who they are, what they may do, and how somebody becomes one or stops to be one.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Code, Error, InvitationId, Page, PageRequest, Result, Secret, TenantId, Timestamp, UserId};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde_json::json;

use crate::email::Email;
use crate::key::Origin;
use crate::session::{self, Entered, Visitor};
use crate::store::member::{self as store, InvitationRow, MemberRow, NewInvitation};
use crate::store::user;
use crate::user::UserInfo;
use crate::{Identity, login, password, role};

const READ: &str = "users.user.read";
const WRITE: &str = "users.user.write";
/// How long an invitation works.
const INVITED: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long a link for a new password works.
const RESET: Duration = Duration::from_secs(24 * 3_600);
/// What such a link is for.
const PURPOSE: &str = "reset";

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

/// An invitation, without its token.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The invitation.
    pub id: InvitationId,
    /// Whom.
    pub email: String,
    /// As what.
    pub role: String,
    /// By whom.
    pub invited_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it works.
    pub expires_at: Timestamp,
}

/// A token that works once, shown once.
#[derive(Debug)]
pub struct OneTime {
    /// The token.
    pub token: Secret<String>,
    /// Until when it works.
    pub expires_at: Timestamp,
}

/// Who follows an invitation.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// The token of the invitation.
    pub token: Secret<String>,
    /// What the person is called; of who has an account, it stays.
    pub name: String,
    /// The new password; of who has an account, the one that there is.
    pub password: Secret<String>,
}

impl Identity {
    /// Members of the caller's tenant, in the order in which their accounts were made. Needs `users.user.read`.
    pub async fn list_members(&self, caller: &CallContext, page: PageRequest) -> Result<Page<Member>> {
        caller.principal.require(READ)?;
        let (after, limit) = manifold_store::oldest_first(&page);
        let rows = store::list(&self.inner.db, caller.principal.tenant, after, limit).await?;
        let Page { data, next } = Page::cut(&page, rows, |row: &MemberRow| row.id);
        let mut members = Vec::with_capacity(data.len());
        for row in data {
            members.push(self.member(caller.principal.tenant, row).await?);
        }
        Ok(Page { data: members, next })
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
    pub async fn set_roles(&self, caller: &CallContext, user: UserId, roles: Vec<String>) -> Result<Member> {
        role::check_gift(&caller.principal, &roles)?;
        let member = self.governed(caller, user).await?;
        let data = json!({ "id": user.to_string(), "roles": roles, "before": member.roles });
        let event = login::event("identity.role.changed", caller.principal.tenant, user, &data);
        let change = Change::Roles(roles);
        self.change(caller, user, change, event).await?;
        self.find_member(caller.principal.tenant, user).await
    }

    /// Ends a membership; sessions of the person in this tenant end with it, keys go on. Needs `users.user.write`.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `ESCALATION`, `LAST_OWNER`.
    pub async fn remove_member(&self, caller: &CallContext, user: UserId) -> Result<()> {
        let member = self.governed(caller, user).await?;
        let data = json!({ "id": user.to_string(), "before": member.roles, "removed": true });
        let event = login::event("identity.role.changed", caller.principal.tenant, user, &data);
        self.change(caller, user, Change::Removal, event).await
    }

    /// A token by which the person chooses a new password; earlier ones end. Needs `users.user.write`.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`, `ESCALATION`.
    pub async fn make_reset_link(&self, caller: &CallContext, user: UserId) -> Result<OneTime> {
        self.governed(caller, user).await?;
        let token = session::one_time("mfr");
        let (hash, expires_at) = (session::hash(token.expose()), self.inner.clock.now().after(RESET));
        let made = self.inner.db.write("make a link for a new password", move |tx| {
            let hash = hash.clone();
            Box::pin(async move { user::replace_one_time_of(tx, PURPOSE, user, &hash, expires_at).await })
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
        let user = user::owner_of(&self.inner.db, PURPOSE, &hash, now).await?.ok_or_else(wrong_token)?;
        let account = user::find(&self.inner.db, user).await?.ok_or_else(wrong_token)?;
        password::check_strength(&new, &Email::parse(&account.email)?, &account.name)?;
        let tenant = user::home(&self.inner.db, user).await?.ok_or_else(wrong_token)?;
        let phc = self.inner.hasher.hash(new).await?;
        let work = Arc::new((hash, phc, self.inner.outbox.clone(), Origin::of(call)));
        let reset = self.inner.db.write("reset a password", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (hash, phc, outbox, origin) = &*work;
                if !user::use_one_time_of(tx, PURPOSE, user, hash, now).await? {
                    return Err(wrong_token());
                }
                user::set_password(tx, user, phc, now).await?;
                crate::store::session::revoke(tx, user, crate::store::session::Which::All, now).await?;
                let event =
                    login::event("identity.session.revoked", tenant, user, &json!({ "reason": "password_reset" }));
                outbox.append(tx, &[event], &origin.cause()).await.map(|_| ())
            })
        });
        reset.await
    }

    /// Invites somebody into the caller's tenant; an earlier invitation of the same address ends. Needs `users.user.write`.
    ///
    /// # Errors
    /// `EMAIL_INVALID`, `ROLE_UNKNOWN`, `ESCALATION`.
    pub async fn invite(&self, caller: &CallContext, email: &str, role: &str) -> Result<(Invitation, OneTime)> {
        caller.principal.require(WRITE)?;
        role::check_gift(&caller.principal, &[role.to_owned()])?;
        let (token, now) = (session::one_time("mfi"), self.inner.clock.now());
        let new = NewInvitation {
            id: InvitationId(self.inner.ids.next()),
            tenant: caller.principal.tenant,
            email: Email::parse(email)?,
            role: role.to_owned(),
            hash: session::hash(token.expose()),
            invited_by: caller.principal.subject.to_string(),
            at: now,
            expires_at: now.after(INVITED),
        };
        let work = Arc::new(new.clone());
        let written = self.inner.db.write("invite somebody", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move { store::invite(tx, &work).await })
        });
        written.await?;
        let invitation = Invitation {
            id: new.id,
            email: new.email.typed,
            role: new.role,
            invited_by: new.invited_by,
            created_at: now,
            expires_at: new.expires_at,
        };
        let expires_at = invitation.expires_at;
        Ok((invitation, OneTime { token, expires_at }))
    }

    /// Invitations into the caller's tenant that still work, the newest first. Needs `users.user.read`.
    pub async fn list_invitations(&self, caller: &CallContext, page: PageRequest) -> Result<Page<Invitation>> {
        caller.principal.require(READ)?;
        let (before, limit) = manifold_store::newest_first(&page);
        let now = self.inner.clock.now();
        let rows = store::list_invitations(&self.inner.db, caller.principal.tenant, now, before, limit).await?;
        Ok(Page::cut(&page, rows.into_iter().map(Invitation::from).collect(), |one: &Invitation| one.id.0))
    }

    /// Takes an invitation back. Needs `users.user.write`.
    ///
    /// # Errors
    /// `INVITATION_NOT_FOUND`.
    pub async fn revoke_invitation(&self, caller: &CallContext, id: InvitationId) -> Result<()> {
        caller.principal.require(WRITE)?;
        let tenant = caller.principal.tenant;
        let revoked = self.inner.db.write("take an invitation back", move |tx| {
            Box::pin(async move { store::revoke_invitation(tx, tenant, id).await })
        });
        if revoked.await? { Ok(()) } else { Err(no_invitation()) }
    }

    /// Joins the tenant of an invitation, and logs in there. Who has an account proves it by its password.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, `NAME_INVALID`, `PASSWORD_INVALID`, `PASSWORD_WEAK`; for who has an account those of
    /// [`Identity::log_in`].
    pub async fn join(&self, call: &CallContext, visitor: Visitor, new: Newcomer) -> Result<Entered> {
        let now = self.inner.clock.now();
        let hash = session::hash(new.token.expose());
        let row = store::find_invitation(&self.inner.db, &hash, now).await?.ok_or_else(wrong_token)?;
        let email = Email::parse(&row.email)?;
        let known = user::find_by_email(&self.inner.db, &email.norm).await?;
        let join = match known {
            Some(account) => {
                self.prove(Some(&account), &email, visitor.ip, new.password).await?;
                Join { user: UserId(account.id), account: None, email, row }
            }
            None => {
                let name = crate::user::read_name(&new.name)?;
                let password = password::read(&new.password)?;
                password::check_strength(&password, &email, &name)?;
                let phc = self.inner.hasher.hash(password).await?;
                Join { user: UserId(self.inner.ids.next()), account: Some((name, phc)), email, row }
            }
        };
        let (user, tenant) = (join.user, TenantId(join.row.tenant_id));
        let (session, token) = session::new(&self.inner.ids, user, tenant, &visitor, now);
        let data = json!({ "id": user.to_string(), "email": join.email.typed, "role": join.row.role });
        let event = login::event("identity.user.registered", tenant, user, &data);
        let work = Arc::new((join, session.clone(), event, self.inner.outbox.clone(), Origin::of(call)));
        let joined = self.inner.db.write("join a tenant", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (join, session, event, outbox, origin) = &*work;
                join.write(tx, now).await?;
                login::open(tx, session, event, outbox, origin).await
            })
        });
        joined.await?;
        let account = user::find(&self.inner.db, user).await?.ok_or_else(wrong_token)?;
        self.entered(session, token, account).await
    }

    async fn change(
        &self,
        caller: &CallContext,
        user: UserId,
        change: Change,
        event: manifold_bus::Draft,
    ) -> Result<()> {
        let tenant = caller.principal.tenant;
        let work = Arc::new((change, event, self.inner.outbox.clone(), Origin::of(caller)));
        let changed = self.inner.db.write("change a member", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (change, event, outbox, origin) = &*work;
                store::lock(tx, tenant).await?;
                match change {
                    Change::Roles(roles) => store::set_roles(tx, tenant, user, roles).await?,
                    Change::Removal => {
                        if !store::remove(tx, tenant, user).await? {
                            return Err(no_member());
                        }
                    }
                }
                if !store::has_owner(tx, tenant).await? {
                    let message = "a tenant needs an owner: make somebody else one first";
                    return Err(Error::new(Code::Conflict, "LAST_OWNER", message));
                }
                outbox.append(tx, std::slice::from_ref(event), &origin.cause()).await.map(|_| ())
            })
        });
        changed.await
    }

    /// A member over whom the caller has power.
    async fn governed(&self, caller: &CallContext, user: UserId) -> Result<Member> {
        caller.principal.require(WRITE)?;
        let member = self.find_member(caller.principal.tenant, user).await?;
        role::check_power(&caller.principal, &member.roles)?;
        Ok(member)
    }

    async fn find_member(&self, tenant: TenantId, user: UserId) -> Result<Member> {
        let row = store::find(&self.inner.db, tenant, user).await?.ok_or_else(no_member)?;
        self.member(tenant, row).await
    }

    async fn member(&self, tenant: TenantId, row: MemberRow) -> Result<Member> {
        let id = UserId(row.id);
        let roles = user::roles(&self.inner.db, tenant, id).await?;
        let user = UserInfo { id, email: row.email, name: row.name, created_at: row.created_at };
        Ok(Member { user, roles, joined_at: row.joined_at })
    }
}

/// What becomes of a member.
enum Change {
    Roles(Vec<String>),
    Removal,
}

/// Somebody who follows an invitation.
struct Join {
    user: UserId,
    /// Name and hash of the password, of who has no account yet.
    account: Option<(String, String)>,
    email: Email,
    row: InvitationRow,
}

impl Join {
    async fn write(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<()> {
        let tenant = TenantId(self.row.tenant_id);
        if !store::use_invitation(tx, tenant, InvitationId(self.row.id), now).await? {
            return Err(wrong_token());
        }
        if let Some((name, phc)) = &self.account {
            if !user::insert(tx, self.user, &self.email, name, now).await? {
                return Err(wrong_token());
            }
            user::set_password(tx, self.user, phc, now).await?;
        }
        user::join(tx, tenant, self.user, &self.row.role, now).await
    }
}

impl From<InvitationRow> for Invitation {
    fn from(row: InvitationRow) -> Self {
        Self {
            id: InvitationId(row.id),
            email: row.email,
            role: row.role,
            invited_by: row.invited_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}

/// Reads the printed id of a person. Malformed, unknown and foreign ids are the same error.
pub fn parse_user_id(text: &str) -> Result<UserId> {
    UserId::parse(text).ok_or_else(no_member)
}

/// Reads the printed id of an invitation. Malformed, unknown and foreign ids are the same error.
pub fn parse_invitation_id(text: &str) -> Result<InvitationId> {
    InvitationId::parse(text).ok_or_else(no_invitation)
}

fn no_member() -> Error {
    Error::not_found("USER_NOT_FOUND", "no such person")
}

fn no_invitation() -> Error {
    Error::not_found("INVITATION_NOT_FOUND", "no such invitation")
}

fn wrong_token() -> Error {
    Error::new(Code::Unauthenticated, "TOKEN_INVALID", "this token was used, is over, or was taken back")
}
