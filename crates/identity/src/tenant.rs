//! Tenants: making, changing, suspending and deleting them. The tenant that was made first is the house's own: with the
//! permission, its people and keys run all the others. Everybody else has power over the own tenant only.

pub mod origins;
pub mod purge;
pub mod settings;
mod switch;

use std::sync::Arc;
use std::time::Duration;

use manifold_bus::Draft;
use manifold_core::{
    Code, Error, Page, PageRequest, Principal, Result, Secret, SubjectKind, TenantId, Timestamp, UserId,
};
use manifold_runtime::CallContext;
use manifold_store::Micros;
use serde_json::json;

use crate::email::Email;
use crate::invitation::{self, Invitation};
use crate::key::access::refuse_restricted;
use crate::member::OneTime;
use crate::origin::Origin;
use crate::store::member::NewInvitation;
use crate::store::tenant::{self as store, NewTenant, TenantRow};
use crate::store::{revocation, user};
use crate::tenant::settings::Settings;
use crate::{Identity, name, revoke, role, session, step_up};

const READ: &str = "tenants.tenant.read";
const WRITE: &str = "tenants.tenant.write";
const CREATE: &str = "tenants.tenant.create";
const SUSPEND: &str = "tenants.tenant.suspend";
const DELETE: &str = "tenants.tenant.delete";
/// How long a deleted tenant can be brought back.
pub const GRACE: Duration = Duration::from_secs(30 * 24 * 3_600);
const MAX_SLUG: usize = 63;

/// A tenant, as its members may know it.
#[derive(Clone, Debug)]
pub struct TenantInfo {
    /// The tenant.
    pub id: TenantId,
    /// What addresses call it.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// `active`, `suspended` or `deleting`.
    pub state: String,
    /// What it decides for itself.
    pub settings: Settings,
    /// When it was made.
    pub created_at: Timestamp,
    /// When everything of it is removed, if it was deleted.
    pub delete_after: Option<Timestamp>,
}

/// What a new tenant shall be.
#[derive(Clone, Debug)]
pub struct NewTenantInfo {
    /// What people call it, 1 to 100 characters.
    pub name: String,
    /// What addresses call it: lower case letters, digits and hyphens, at most 63.
    pub slug: String,
    /// Whom to invite as its owner; None = the person who makes it.
    pub owner: Option<String>,
}

/// What shall change of a tenant; None = it stays.
#[derive(Clone, Debug, Default)]
pub struct TenantChange {
    /// What people call it.
    pub name: Option<String>,
    /// What it decides for itself.
    pub settings: Option<Settings>,
    /// Whether it works; the house's word alone.
    pub suspended: Option<bool>,
}

impl From<TenantRow> for TenantInfo {
    fn from(row: TenantRow) -> Self {
        Self {
            id: TenantId(row.id),
            slug: row.slug,
            name: row.name,
            state: row.state,
            settings: row.settings.0,
            created_at: row.created_at,
            delete_after: row.delete_after.map(Timestamp::from),
        }
    }
}

impl Identity {
    /// Makes a tenant, whose owner is the caller, or becomes who was invited. Needs `tenants.tenant.create` in the house's
    /// own tenant.
    ///
    /// # Errors
    /// `NAME_INVALID`, `SLUG_INVALID`, `SLUG_TAKEN`, `EMAIL_INVALID`, `OWNER_REQUIRED` for a key that names nobody,
    /// `ESCALATION` for test keys.
    pub async fn create_tenant(
        &self,
        caller: &CallContext,
        new: NewTenantInfo,
    ) -> Result<(TenantInfo, Option<(Invitation, Option<OneTime>)>)> {
        self.require_host(&caller.principal, CREATE)?;
        role::check_environment(&caller.principal)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        let (id, now) = (TenantId(self.inner.ids.next()), self.inner.clock.now());
        let tenant = NewTenant { id, slug: read_slug(&new.slug)?, name: name::read(&new.name)?, at: now };
        let owner = match new.owner {
            Some(email) => {
                let email = Email::parse(&email).map_err(|error| error.at("owner"))?;
                let by = caller.principal.subject.to_string();
                Owner::Invited(Box::new(invitation::prepare(self, id, email, role::OWNER, by)))
            }
            None if caller.principal.kind == SubjectKind::User => Owner::Caller(session::person(&caller.principal)?.0),
            None => {
                let message = "a key cannot own a tenant: name the address of the person who shall";
                return Err(Error::invalid("OWNER_REQUIRED", message).at("owner"));
            }
        };
        let work = Arc::new((tenant, owner, self.clone(), Origin::of(caller)));
        let made = Arc::clone(&work);
        let written = self.inner.db.write("make a tenant", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (tenant, owner, identity, origin) = &*work;
                refuse_restricted(tx, &origin.principal).await?;
                if !store::insert(tx, tenant).await? {
                    let message = format!("there is a tenant with the slug {}", tenant.slug);
                    return Err(Error::new(Code::Conflict, "SLUG_TAKEN", message).at("slug"));
                }
                match owner {
                    Owner::Caller(user) => user::join(tx, tenant.id, *user, role::OWNER, now).await?,
                    Owner::Invited(invited) => invitation::send(identity, tx, &invited.0, &invited.1).await?,
                }
                let data = json!({ "id": tenant.id.to_string(), "slug": tenant.slug, "name": tenant.name });
                let event = event("identity.tenant.created", tenant.id, &data);
                identity.inner.outbox.append(tx, &[event], &origin.cause()).await.map(|_| ())
            })
        });
        written.await?;
        let invited = match &made.1 {
            Owner::Caller(_) => None,
            Owner::Invited(invited) => Some(invitation::show(self, &invited.0, &invited.1)),
        };
        Ok((self.find_tenant(id).await?, invited))
    }

    /// A page of the tenants that the caller sees, the newest first. Needs `tenants.tenant.read`: of the house's own people
    /// and keys to see all, of other keys to see their own. A person sees those in which he is a member without it.
    pub async fn list_tenants(&self, caller: &CallContext, page: PageRequest) -> Result<Page<TenantInfo>> {
        let (before, limit) = manifold_store::newest_first(&page);
        let (principal, db) = (&caller.principal, &self.inner.db);
        let rows = if self.is_host(principal) && principal.allows(READ) {
            store::list(db, before, limit).await?
        } else if principal.kind == SubjectKind::User {
            store::list_of(db, session::person(principal)?.0, before, limit).await?
        } else {
            principal.require(READ)?;
            store::find(db, principal.tenant).await?.into_iter().filter(|row| row.id < before).collect()
        };
        Ok(Page::cut(&page, rows.into_iter().map(TenantInfo::from).collect(), |tenant: &TenantInfo| tenant.id.0))
    }

    /// A tenant that the caller sees.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND` for all others.
    pub async fn get_tenant(&self, caller: &CallContext, id: TenantId) -> Result<TenantInfo> {
        let principal = &caller.principal;
        let runs = principal.tenant == id || self.is_host(principal);
        let sees = (runs && principal.allows(READ))
            || (principal.kind == SubjectKind::User
                && store::has_member(&self.inner.db, id, session::person(principal)?.0).await?);
        if !sees {
            principal.require(READ)?;
            return Err(not_found());
        }
        self.find_tenant(id).await
    }

    /// Changes name or settings (needs `tenants.tenant.write`) of the caller's tenant, or of any by the house's own, which
    /// alone suspends and brings back (needs `tenants.tenant.suspend`). Keys and sessions of a suspended tenant are refused
    /// within a second.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `NAME_INVALID`, `SETTINGS_INVALID`, `MAIL_MISSING` for an open house without mail, `HOST_TENANT` for
    /// suspending the house's own, `ESCALATION` for test keys.
    pub async fn update_tenant(&self, caller: &CallContext, id: TenantId, change: TenantChange) -> Result<TenantInfo> {
        if change.suspended.is_some() {
            self.require_host(&caller.principal, SUSPEND)?;
            self.refuse_host(id)?;
        }
        if change.name.is_some() || change.settings.is_some() || change.suspended.is_none() {
            caller.principal.require(WRITE)?;
        }
        role::check_environment(&caller.principal)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        let (name, settings) = (change.name.as_deref().map(name::read).transpose()?, change.settings);
        settings.as_ref().map_or(Ok(()), Settings::check)?;
        if let Some(settings) = settings.as_ref().filter(|_| self.inner.host.get() == Some(&id)) {
            self.check_registration(settings.registration)?;
        }
        self.change_tenant(caller, id, move |row| {
            let before = (row.name.clone(), row.settings.clone(), row.state.clone());
            row.name = name.clone().unwrap_or_else(|| before.0.clone());
            row.settings.0 = settings.clone().unwrap_or_else(|| before.1.0.clone());
            if let Some(suspended) = change.suspended {
                // Whoever deletes it later begins a new grace.
                (row.state, row.delete_after) = (if suspended { "suspended" } else { "active" }.to_owned(), None);
            }
            let kind = match (before.2.as_str(), row.state.as_str()) {
                (was, "suspended") if was != "suspended" => "identity.tenant.suspended",
                (was, "active") if was != "active" => "identity.tenant.restored",
                _ => "identity.tenant.updated",
            };
            let data = json!({
                "name": row.name, "state": row.state, "settings": row.settings,
                "before": { "name": before.0, "state": before.2, "settings": before.1 },
            });
            (kind, data)
        })
        .await
    }

    /// Ends a tenant: its keys and sessions are refused within a second, and after [`GRACE`] everything of it is removed;
    /// until then the house brings it back with [`Identity::update_tenant`]. Needs `tenants.tenant.delete` in the tenant or
    /// in the house's own.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND`, `HOST_TENANT` for the house's own, `ESCALATION` for test keys.
    pub async fn delete_tenant(&self, caller: &CallContext, id: TenantId) -> Result<TenantInfo> {
        caller.principal.require(DELETE)?;
        role::check_environment(&caller.principal)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        let until = self.inner.clock.now().after(GRACE);
        if self.is_host(&caller.principal) {
            self.refuse_host(id)?;
        }
        self.change_tenant(caller, id, move |row| {
            let before = std::mem::replace(&mut row.state, "deleting".to_owned());
            let after = *row.delete_after.get_or_insert(Micros::from(until));
            let data =
                json!({ "state": "deleting", "delete_after": Timestamp::from(after).to_string(), "before": before });
            ("identity.tenant.deleted", data)
        })
        .await
    }

    async fn change_tenant(
        &self,
        caller: &CallContext,
        id: TenantId,
        alter: impl Fn(&mut TenantRow) -> (&'static str, serde_json::Value) + Send + Sync + 'static,
    ) -> Result<TenantInfo> {
        if caller.principal.tenant != id && !self.is_host(&caller.principal) {
            return Err(not_found());
        }
        let now = self.inner.clock.now();
        let work = Arc::new((alter, self.inner.outbox.clone(), Origin::of(caller)));
        let changed = self.inner.db.write("change a tenant", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (alter, outbox, origin) = &*work;
                refuse_restricted(tx, &origin.principal).await?;
                let mut row = store::hold(tx, id).await?.ok_or_else(not_found)?;
                let (kind, data) = alter(&mut row);
                store::update(tx, &row).await?;
                revocation::append(tx, &revoke::tenant_subject(id), now).await?;
                outbox.append(tx, &[event(kind, id, &data)], &origin.cause()).await?;
                Ok(TenantInfo::from(row))
            })
        });
        let tenant = changed.await?;
        self.forget(&revoke::tenant_subject(id));
        Ok(tenant)
    }

    async fn find_tenant(&self, id: TenantId) -> Result<TenantInfo> {
        store::find(&self.inner.db, id).await?.map(TenantInfo::from).ok_or_else(not_found)
    }

    /// The house's own tenant.
    pub(crate) fn host(&self) -> Result<TenantId> {
        self.inner.host.get().copied().ok_or_else(|| Error::internal("there is no tenant"))
    }

    /// Whether the caller belongs to the house's own tenant.
    pub(crate) fn is_host(&self, caller: &Principal) -> bool {
        self.inner.host.get() == Some(&caller.tenant)
    }

    /// Denies unless the caller belongs to it and has the permission.
    pub(crate) fn require_host(&self, caller: &Principal, permission: &'static str) -> Result<()> {
        caller.require(permission)?;
        if self.is_host(caller) {
            return Ok(());
        }
        let message = "only the tenant that was made first, the house's own, does this";
        Err(Error::new(Code::Denied, "INSUFFICIENT_SCOPE", message))
    }

    fn refuse_host(&self, id: TenantId) -> Result<()> {
        if self.inner.host.get() == Some(&id) {
            let message = "the house's own tenant is neither suspended nor deleted";
            return Err(Error::new(Code::Conflict, "HOST_TENANT", message));
        }
        Ok(())
    }
}

/// Who shall own a new tenant.
enum Owner {
    Caller(UserId),
    Invited(Box<(NewInvitation, Secret<String>)>),
}

/// What stands in addresses (RFC 1123 §2.1: a label of a host name).
fn read_slug(text: &str) -> Result<String> {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let sound = text.len() <= MAX_SLUG
        && text.bytes().all(|byte| letter(byte) || byte == b'-')
        && text.bytes().next().is_some_and(letter)
        && text.bytes().last().is_some_and(letter);
    if sound {
        return Ok(text.to_owned());
    }
    let message = "a slug has up to 63 lower case letters, digits and hyphens, and none of these at its ends";
    Err(Error::invalid("SLUG_INVALID", message).at("slug"))
}

fn event(kind: &'static str, tenant: TenantId, data: &serde_json::Value) -> Draft {
    Draft { type_: kind, subject: tenant.to_string(), tenant, data: data.to_string().into() }
}

/// Reads the printed id of a tenant. Malformed, unknown and foreign ids are the same error.
pub fn parse_tenant_id(text: &str) -> Result<TenantId> {
    TenantId::parse(text).ok_or_else(not_found)
}

/// Refuses who belongs to a tenant that was suspended or deleted.
pub(crate) fn suspended() -> Error {
    Error::new(Code::Denied, "TENANT_SUSPENDED", "this tenant is suspended or was deleted; ask who runs the server")
}

fn not_found() -> Error {
    Error::not_found("TENANT_NOT_FOUND", "no such tenant")
}
