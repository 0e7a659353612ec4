//! Roles: what their holders may do in a tenant. Five are built in, a tenant makes others.

pub mod built_in;
pub mod grants;

use std::sync::Arc;

use manifold_core::{Code, Error, Principal, Result, RoleId, TenantId, Timestamp};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde_json::json;

use crate::key::access::refuse_restricted;
use crate::key::format::Environment;
use crate::origin::Origin;
use crate::role::grants::RoleGrant;
use crate::store::role::{self as store, RoleRow};
use crate::store::{member as members, revocation};
use crate::{Identity, name, revoke, step_up};

/// Who made the house: everything.
pub const OWNER: &str = "owner";

const READ: &str = "roles.role.read";
const WRITE: &str = "roles.role.write";
/// Most roles that a tenant makes.
const MAX_ROLES: usize = 100;

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleInfo {
    /// What it is bound by: `rol_…`, or the name of a built-in one.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Whether every tenant has it, and none changes it.
    pub built_in: bool,
    /// What its holders may do.
    pub grants: Vec<RoleGrant>,
    /// When it was made, unless it is built in.
    pub created_at: Option<Timestamp>,
}

/// The roles that there are in a tenant: the built-in ones, and those that it made, which are here.
pub struct Roles(Vec<RoleInfo>);

impl Roles {
    /// With those that the tenant made.
    pub fn of(made: Vec<RoleRow>) -> Self {
        Self(made.into_iter().map(RoleInfo::from).collect())
    }

    /// Those of the caller's tenant, for a caller who is about to use power over people. Restricted keys have none.
    ///
    /// # Errors
    /// `ESCALATION`.
    pub async fn governed(tx: &mut Tx<'_>, caller: &Principal) -> Result<Self> {
        refuse_restricted(tx, caller).await?;
        Ok(Self::of(store::list_in(tx, caller.tenant).await?))
    }

    /// All of them, the built-in ones first.
    fn all(&self) -> impl Iterator<Item = &RoleInfo> {
        built_in::ROLES.iter().chain(&self.0)
    }

    fn find(&self, id: &str) -> Option<&RoleInfo> {
        self.all().find(|role| role.id == id)
    }

    /// What the holder of these roles is granted. An unknown role grants nothing.
    pub fn grants<'r>(&'r self, held: &'r [String]) -> impl Iterator<Item = &'r RoleGrant> {
        held.iter().filter_map(|id| self.find(id)).flat_map(|role| &role.grants)
    }

    /// Refuses roles that do not exist, and those that can do what `giver` cannot.
    ///
    /// # Errors
    /// `ROLE_UNKNOWN`, `ESCALATION`.
    pub fn check_gift(&self, giver: &Principal, given: &[String]) -> Result<()> {
        check_environment(giver)?;
        for (index, id) in given.iter().enumerate() {
            let Some(role) = self.find(id) else {
                let known = self.all().map(|role| role.id.as_str()).collect::<Vec<_>>().join(", ");
                return Err(
                    Error::invalid("ROLE_UNKNOWN", format!("the roles are {known}")).at(format!("roles[{index}]"))
                );
            };
            if !role.grants.iter().all(|grant| giver.covers(&grant.text())) {
                let message = format!("nobody can give the role {} who cannot do all that it can", role.name);
                return Err(Error::new(Code::Denied, "ESCALATION", message).at(format!("roles[{index}]")));
            }
        }
        Ok(())
    }

    /// Refuses to touch people who can do what `caller` cannot.
    ///
    /// # Errors
    /// `ESCALATION`.
    pub fn check_power(&self, caller: &Principal, held: &[String]) -> Result<()> {
        check_environment(caller)?;
        if self.grants(held).all(|grant| caller.covers(&grant.text())) {
            return Ok(());
        }
        Err(Error::new(Code::Denied, "ESCALATION", "this person can do what the caller cannot"))
    }
}

impl From<RoleRow> for RoleInfo {
    fn from(row: RoleRow) -> Self {
        let (id, created_at) = (RoleId(row.id).to_string(), Some(row.created_at));
        Self { id, name: row.name, built_in: false, grants: row.grants.0, created_at }
    }
}

/// People and tenants are real whatever a key is for.
pub fn check_environment(caller: &Principal) -> Result<()> {
    if &*caller.environment == Environment::Test.name() {
        return Err(Error::new(Code::Denied, "ESCALATION", "a test key has no power over people and tenants"));
    }
    Ok(())
}

impl Identity {
    /// What the holder of these roles is granted, in whichever moment.
    pub(crate) async fn grants_of(&self, tenant: TenantId, held: &[String]) -> Result<Vec<RoleGrant>> {
        let made = match held.iter().any(|id| RoleId::parse(id).is_some()) {
            true => store::list(&self.inner.db, tenant).await?,
            false => Vec::new(),
        };
        Ok(Roles::of(made).grants(held).cloned().collect())
    }

    /// The roles of the caller's tenant, the built-in ones first. Needs `roles.role.read`.
    pub async fn list_roles(&self, caller: &CallContext) -> Result<Vec<RoleInfo>> {
        caller.principal.require(READ)?;
        Ok(Roles::of(store::list(&self.inner.db, caller.principal.tenant).await?).all().cloned().collect())
    }

    /// One role of the caller's tenant. Needs `roles.role.read`.
    ///
    /// # Errors
    /// `ROLE_NOT_FOUND`.
    pub async fn get_role(&self, caller: &CallContext, id: &str) -> Result<RoleInfo> {
        self.list_roles(caller).await?.into_iter().find(|role| role.id == id).ok_or_else(not_found)
    }

    /// Makes a role of the caller's tenant, that can do no more than the caller. Needs `roles.role.write`.
    ///
    /// # Errors
    /// `NAME_INVALID`, `PERMISSION_INVALID`, `EXPRESSION_INVALID`, `ESCALATION`, `ROLE_EXISTS`, `TOO_MANY_ROLES`.
    pub async fn create_role(&self, caller: &CallContext, name: &str, grants: Vec<RoleGrant>) -> Result<RoleInfo> {
        self.check_role(caller, &grants)?;
        grants::check(&grants)?;
        let now = self.inner.clock.now();
        let row = RoleRow {
            id: self.inner.ids.next(),
            name: read_name(name)?,
            grants: sqlx::types::Json(grants),
            created_at: now,
        };
        let work = Arc::new((row, self.inner.outbox.clone(), Origin::of(caller)));
        let made = self.inner.db.write("make a role", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (row, outbox, origin) = &*work;
                let tenant = origin.principal.tenant;
                refuse_restricted(tx, &origin.principal).await?;
                members::lock(tx, tenant).await?;
                if store::list_in(tx, tenant).await?.len() >= MAX_ROLES {
                    let message = format!("a tenant makes at most {MAX_ROLES} roles: remove one that nobody holds");
                    return Err(Error::new(Code::Conflict, "TOO_MANY_ROLES", message));
                }
                if !store::insert(tx, tenant, row).await? {
                    return Err(exists());
                }
                let data = json!({ "id": RoleId(row.id).to_string(), "name": row.name, "grants": row.grants });
                outbox.append(tx, &[event(tenant, row, &data)], &origin.cause()).await?;
                Ok(row.clone())
            })
        });
        Ok(made.await?.into())
    }

    /// Changes a role that the tenant made, at once for all who hold it. Needs `roles.role.write`, and all that the role can
    /// do before and after. None = it stays.
    ///
    /// # Errors
    /// `ROLE_NOT_FOUND`, `ROLE_BUILT_IN`, and those of [`Identity::create_role`].
    pub async fn update_role(
        &self,
        caller: &CallContext,
        id: &str,
        name: Option<&str>,
        grants: Option<Vec<RoleGrant>>,
    ) -> Result<RoleInfo> {
        self.check_role(caller, grants.as_deref().unwrap_or_default())?;
        grants.as_deref().map_or(Ok(()), grants::check)?;
        let (id, name) = (made(id)?, name.map(read_name).transpose()?);
        let now = self.inner.clock.now();
        let work = Arc::new((name, grants, self.inner.outbox.clone(), Origin::of(caller)));
        let changed = self.inner.db.write("change a role", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (name, grants, outbox, origin) = &*work;
                let tenant = origin.principal.tenant;
                refuse_restricted(tx, &origin.principal).await?;
                members::lock(tx, tenant).await?;
                let roles = store::list_in(tx, tenant).await?;
                let before = roles.iter().find(|row| row.id == id.0).ok_or_else(not_found)?;
                check_covers(&origin.principal, &before.grants)?;
                let mut row = before.clone();
                row.name = name.clone().unwrap_or(row.name);
                row.grants.0 = grants.clone().unwrap_or(row.grants.0);
                if roles.iter().any(|other| other.id != row.id && other.name == row.name) {
                    return Err(exists());
                }
                store::update(tx, tenant, &row).await?;
                // What was given by the power of its holders, or over them, ends with what they could do.
                members::end_resets(tx, tenant).await?;
                for holder in store::holders(tx, tenant, id).await? {
                    members::end_invitations_by(tx, tenant, &holder.to_string()).await?;
                }
                revocation::append(tx, &revoke::roles_subject(tenant), now).await?;
                let was = json!({ "name": before.name, "grants": before.grants });
                let data = json!({ "id": id.to_string(), "name": row.name, "grants": row.grants, "before": was });
                outbox.append(tx, &[event(tenant, &row, &data)], &origin.cause()).await?;
                Ok(row)
            })
        });
        Ok(changed.await?.into())
    }

    /// Removes a role that nobody holds; invitations that promise it end. Needs `roles.role.write`, and all that the role can
    /// do.
    ///
    /// # Errors
    /// `ROLE_NOT_FOUND`, `ROLE_BUILT_IN`, `ROLE_IN_USE`, `ESCALATION`.
    pub async fn delete_role(&self, caller: &CallContext, id: &str) -> Result<()> {
        self.check_role(caller, &[])?;
        let id = made(id)?;
        let work = Arc::new((self.inner.outbox.clone(), Origin::of(caller)));
        let removed = self.inner.db.write("remove a role", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (outbox, origin) = &*work;
                let tenant = origin.principal.tenant;
                refuse_restricted(tx, &origin.principal).await?;
                members::lock(tx, tenant).await?;
                let row = store::list_in(tx, tenant).await?.into_iter().find(|row| row.id == id.0).ok_or_else(not_found)?;
                check_covers(&origin.principal, &row.grants)?;
                let holders = store::holders(tx, tenant, id).await?.len();
                if holders > 0 {
                    let message = format!("{holders} hold this role: give them others first");
                    return Err(Error::new(Code::Conflict, "ROLE_IN_USE", message));
                }
                store::remove(tx, tenant, id).await?;
                let data = json!({ "id": id.to_string(), "removed": true, "before": { "name": row.name, "grants": row.grants } });
                outbox.append(tx, &[event(tenant, &row, &data)], &origin.cause()).await.map(|_| ())
            })
        });
        removed.await
    }

    fn check_role(&self, caller: &CallContext, grants: &[RoleGrant]) -> Result<()> {
        caller.principal.require(WRITE)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        check_environment(&caller.principal)?;
        check_covers(&caller.principal, grants)
    }
}

/// Refuses grants of more than the caller has.
fn check_covers(caller: &Principal, grants: &[RoleGrant]) -> Result<()> {
    match grants.iter().position(|grant| !caller.covers(&grant.text())) {
        None => Ok(()),
        Some(index) => {
            let message = format!("nobody grants {}, who does not hold it", grants[index].text());
            Err(Error::new(Code::Denied, "ESCALATION", message).at(format!("grants[{index}].permission")))
        }
    }
}

/// A role's name is not that of a built-in one.
fn read_name(text: &str) -> Result<String> {
    let name = name::read(text)?;
    if built_in::ROLES.iter().any(|role| role.name.eq_ignore_ascii_case(&name)) {
        return Err(exists());
    }
    Ok(name)
}

/// The id of a role that a tenant made.
fn made(id: &str) -> Result<RoleId> {
    if built_in::ROLES.iter().any(|role| role.id == id) {
        let message = "a built-in role stays as it is: make another one";
        return Err(Error::new(Code::Conflict, "ROLE_BUILT_IN", message));
    }
    RoleId::parse(id).ok_or_else(not_found)
}

fn event(tenant: TenantId, row: &RoleRow, data: &serde_json::Value) -> manifold_bus::Draft {
    let (subject, data) = (RoleId(row.id).to_string(), data.to_string().into());
    manifold_bus::Draft { type_: "identity.role.changed", subject, tenant, data }
}

fn exists() -> Error {
    Error::new(Code::Conflict, "ROLE_EXISTS", "there is a role of this name").at("name")
}

fn not_found() -> Error {
    Error::not_found("ROLE_NOT_FOUND", "no such role")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(role: &str) -> Principal {
        let roles = Roles::of(Vec::new());
        let permissions = roles.grants(&[role.to_owned()]).map(RoleGrant::text).collect::<Vec<_>>().into();
        Principal { permissions, ..Principal::anonymous() }
    }

    #[test]
    fn unknown_roles_grant_nothing() {
        assert!(Roles::of(Vec::new()).grants(&["stranger".to_owned(), "rol_x".to_owned()]).next().is_none());
    }

    #[test]
    fn every_built_in_grant_has_the_form_of_one() {
        let roles = Roles::of(Vec::new());
        for role in roles.all() {
            assert!(grants::check(&role.grants).is_ok(), "{}", role.name);
        }
    }

    #[test]
    fn nobody_gives_a_mightier_role_than_the_own() {
        let roles = Roles::of(Vec::new());
        for (giver, role, reason) in [
            ("owner", "owner", None),
            ("owner", "viewer", None),
            ("admin", "admin", None),
            ("admin", "developer", None),
            ("admin", "owner", Some("ESCALATION")),
            ("viewer", "operator", Some("ESCALATION")),
            ("developer", "viewer", Some("ESCALATION")),
            ("owner", "stranger", Some("ROLE_UNKNOWN")),
        ] {
            let refused = roles.check_gift(&holder(giver), &[role.to_owned()]).err();
            assert_eq!(refused.as_ref().map(Error::reason), reason, "{giver} gives {role}");
            let test = Principal { environment: "test".into(), ..holder(giver) };
            assert!(roles.check_gift(&test, &[role.to_owned()]).is_err(), "a test key gives nothing");
            if reason != Some("ROLE_UNKNOWN") {
                assert_eq!(roles.check_power(&holder(giver), &[role.to_owned()]).is_ok(), reason.is_none());
            }
        }
    }
}
