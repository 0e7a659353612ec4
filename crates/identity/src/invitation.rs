//! Invitations: how somebody becomes a member of a tenant.

use std::sync::Arc;
use std::time::Duration;

use manifold_bus::Draft;
use manifold_core::{Error, InvitationId, Page, PageRequest, Result, Secret, TenantId, Timestamp, UserId};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde_json::json;

use crate::email::Email;
use crate::login::Tries;
use crate::mail::{Errand, letter};
use crate::member::{OneTime, READ, WRITE, wrong_token};
use crate::origin::Origin;
use crate::role::Roles;
use crate::second::Second;
use crate::session::{self, Entered, Visitor};
use crate::store::member::{self as store, InvitationRow, NewInvitation};
use crate::store::session::NewSession;
use crate::store::{revocation, tenant as tenants, user};
use crate::tenant::settings::Registration;
use crate::{Identity, login, name, password, registration, revoke, setup, step_up, tenant};

/// How long an invitation works.
const INVITED: Duration = Duration::from_secs(7 * 24 * 3_600);

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

/// Who follows an invitation.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// The token of the invitation.
    pub token: Secret<String>,
    /// What the person is called; of who has an account, it stays.
    pub name: String,
    /// The new password; of who has an account, the one that there is.
    pub password: Secret<String>,
    /// Of who has an account with a second factor: a code.
    pub code: Option<Secret<String>>,
}

impl Identity {
    /// Invites somebody into the caller's tenant, by mail, too, if there is a mail server; an earlier invitation of the same
    /// address ends. Needs `users.user.write`.
    ///
    /// # Errors
    /// `EMAIL_INVALID`, `ROLE_UNKNOWN`, `REGISTRATION_CLOSED` if the tenant takes nobody in, `ESCALATION`.
    pub async fn invite(&self, caller: &CallContext, email: &str, role: &str) -> Result<(Invitation, Option<OneTime>)> {
        caller.principal.require(WRITE)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        self.require_invitations(caller.principal.tenant).await?;
        let by = caller.principal.subject.to_string();
        let (new, token) = prepare(self, caller.principal.tenant, Email::parse(email)?, role, by);
        let work = Arc::new((self.clone(), new.clone(), token.clone(), Origin::of(caller)));
        let written = self.inner.db.write("invite somebody", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, new, token, origin) = &*work;
                let (caller, role) = (&origin.principal, std::slice::from_ref(&new.role));
                let roles = Roles::governed(tx, caller).await?;
                roles.check_gift(caller, role).map_err(|error| error.at("role"))?;
                send(identity, tx, new, token).await?;
                let data = json!({ "email": new.email.typed, "role": new.role });
                let event = event("identity.invitation.created", new.tenant, new.id, &data);
                identity.inner.outbox.append(tx, &[event], &origin.cause()).await.map(|_| ())
            })
        });
        written.await?;
        Ok(show(self, &new, &token))
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
        step_up::require(&caller.principal, self.inner.clock.now())?;
        let work = Arc::new((self.inner.outbox.clone(), Origin::of(caller)));
        let revoked = self.inner.db.write("take an invitation back", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (outbox, origin) = &*work;
                let tenant = origin.principal.tenant;
                if !store::revoke_invitation(tx, tenant, id).await? {
                    return Err(no_invitation());
                }
                let event = event("identity.invitation.revoked", tenant, id, &json!({}));
                outbox.append(tx, &[event], &origin.cause()).await.map(|_| ())
            })
        });
        revoked.await
    }

    /// Joins the tenant of an invitation, and logs in there. Who has an account proves it by its password.
    ///
    /// # Errors
    /// `TOKEN_INVALID`, `REGISTRATION_CLOSED`, `NAME_INVALID`, `PASSWORD_INVALID`, `PASSWORD_WEAK`; for who has an account
    /// those of [`Identity::log_in`], `CODE_REQUIRED` and `CODE_INVALID`.
    pub async fn join(&self, call: &CallContext, visitor: Visitor, new: Newcomer) -> Result<Entered> {
        let (seat, now) = (self.inner.hasher.seat()?, self.inner.clock.now());
        let hash = session::hash(new.token.expose());
        let row = store::find_invitation(&self.inner.db, &hash, now).await?.ok_or_else(wrong_token)?;
        self.require_invitations(TenantId(row.tenant_id)).await?;
        let email = Email::parse(&row.email)?;
        let known = user::find_by_email(&self.inner.db, &email.norm).await?;
        let join = match known {
            Some(account) => {
                let tries = self.prove(&seat, Some(&account), &email, visitor.ip, new.password).await?;
                let (tenant, user) = (TenantId(row.tenant_id), UserId(account.id));
                let second = Box::new(self.second(call, tenant, user, new.code.as_ref()).await?);
                Join { user, proof: Proof::Known { tries, second, generation: account.generation }, email, row }
            }
            None => {
                let name = name::read(&new.name)?;
                let password = password::read(&new.password)?;
                password::check_strength(&password, &email, &name)?;
                let phc = self.inner.hasher.hash(&seat, password).await?;
                Join { user: UserId(self.inner.ids.next()), proof: Proof::New { name, phc }, email, row }
            }
        };
        let (user, tenant) = (join.user, TenantId(join.row.tenant_id));
        let (session, token) = session::new(&self.inner.ids, user, tenant, &visitor, now);
        let session = NewSession { mfa: join.proof.is_twofold(), ..session };
        let data = json!({ "id": user.to_string(), "email": join.email.typed, "role": join.row.role });
        let kind = match join.proof {
            Proof::Known { .. } => "identity.role.changed",
            Proof::New { .. } => "identity.user.registered",
        };
        let event = login::event(kind, tenant, user, &data);
        let work = Arc::new((join, session.clone(), event, self.inner.outbox.clone(), Origin::of(call)));
        let joined = self.inner.db.write("join a tenant", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (join, session, event, outbox, origin) = &*work;
                if let Err(refused) = join.write(tx, now).await? {
                    return Ok(Err(refused));
                }
                login::open(tx, session, event, outbox, origin).await.map(Ok)
            })
        });
        joined.await??;
        setup::done(self);
        let account = user::find(&self.inner.db, user).await?.ok_or_else(wrong_token)?;
        self.entered(session, token, account).await
    }
}

/// A new invitation and its token.
pub(crate) fn prepare(
    identity: &Identity,
    tenant: TenantId,
    email: Email,
    role: &str,
    invited_by: String,
) -> (NewInvitation, Secret<String>) {
    let (token, at) = (session::one_time("mfi"), identity.inner.clock.now());
    let (id, hash) = (InvitationId(identity.inner.ids.next()), session::hash(token.expose()));
    let role = role.to_owned();
    (NewInvitation { id, tenant, email, role, hash, invited_by, at, expires_at: at.after(INVITED) }, token)
}

/// Writes an invitation, and mails it if there is a mail server.
pub(crate) async fn send(
    identity: &Identity,
    tx: &mut Tx<'_>,
    new: &NewInvitation,
    token: &Secret<String>,
) -> Result<()> {
    store::invite(tx, new).await?;
    let Some(url) = identity.inner.post.public_url() else { return Ok(()) };
    let letter = letter::invitation(url, &new.email, token, new.expires_at);
    identity.inner.post.send(tx, new.tenant, &Errand::Letter(letter)).await
}

fn event(kind: &'static str, tenant: TenantId, id: InvitationId, data: &serde_json::Value) -> Draft {
    Draft { type_: kind, subject: id.to_string(), tenant, data: data.to_string().into() }
}

/// What its maker is shown: the token only where nobody mails it, because who follows it has proven the address.
pub(crate) fn show(identity: &Identity, new: &NewInvitation, token: &Secret<String>) -> (Invitation, Option<OneTime>) {
    let invitation = Invitation {
        id: new.id,
        email: new.email.typed.clone(),
        role: new.role.clone(),
        invited_by: new.invited_by.clone(),
        created_at: new.at,
        expires_at: new.expires_at,
    };
    let shown = || OneTime { token: token.clone(), expires_at: new.expires_at };
    (invitation, identity.inner.post.public_url().is_none().then(shown))
}

/// Somebody who follows an invitation.
struct Join {
    user: UserId,
    proof: Proof,
    email: Email,
    row: InvitationRow,
}

/// Who it is.
enum Proof {
    /// Who has an account, and knew its password.
    Known { tries: Arc<Tries>, second: Box<Second>, generation: i64 },
    /// Who gets one.
    New { name: String, phc: String },
}

impl Proof {
    /// Whether by more than a password.
    fn is_twofold(&self) -> bool {
        matches!(self, Self::Known { second, .. } if second.kind().is_some())
    }
}

impl Join {
    /// As with [`Second::settle`], a wrong code counts.
    async fn write(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<Result<()>> {
        let tenant = TenantId(self.row.tenant_id);
        let row = tenants::hold(tx, tenant).await?.ok_or_else(wrong_token)?;
        if row.state != "active" {
            return Err(tenant::suspended());
        }
        if row.settings.registration == Registration::Closed {
            return Err(registration::closed());
        }
        if let Proof::Known { tries, second, generation } = &self.proof {
            if !user::hold(tx, self.user, *generation).await? {
                return Err(login::refused());
            }
            if let Err(refused) = second.settle(tx, now).await? {
                return Ok(Err(refused));
            }
            tries.succeeded(tx, now).await?;
        }
        if !store::use_invitation(tx, tenant, InvitationId(self.row.id), now).await? {
            return Err(wrong_token());
        }
        if let Proof::New { name, phc } = &self.proof {
            if !user::insert(tx, self.user, &self.email, name, now).await? {
                return Err(wrong_token());
            }
            user::set_password(tx, self.user, phc, now).await?;
        }
        user::join(tx, tenant, self.user, &self.row.role, now).await?;
        revocation::append(tx, &revoke::user_subject(self.user), now).await.map(Ok)
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

/// Reads the printed id of an invitation. Malformed, unknown and foreign ids are the same error.
pub fn parse_invitation_id(text: &str) -> Result<InvitationId> {
    InvitationId::parse(text).ok_or_else(no_invitation)
}

fn no_invitation() -> Error {
    Error::not_found("INVITATION_NOT_FOUND", "no such invitation")
}
