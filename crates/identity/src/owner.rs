//! Owners: for whom keys are. A customer or program of the tenant, under the tenant's own name for it; it has any number of
//! keys, which share the limits that it was given.

use std::sync::Arc;
use std::time::Duration;

use manifold_bus::Draft;
use manifold_core::{Code, Error, OwnerId, Page, PageRequest, Result, TenantId, Timestamp};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde_json::{Map, Value, json};
use sqlx::types::Json;

use crate::key::terms::check_metadata;
use crate::limit::given;
use crate::origin::Origin;
use crate::store::owner::{self as store, OwnerRow};
use crate::store::{limit as limits, revocation};
use crate::usage::{self, UsageRow};
use crate::{Identity, name};

const READ: &str = "keys.owner.read";
const WRITE: &str = "keys.owner.write";
const MAX_EXTERNAL_ID: usize = 128;

/// For whom keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The owner.
    pub id: OwnerId,
    /// What the tenant calls it among its own, such as the number of a customer.
    pub external_id: String,
    /// What a person calls it.
    pub name: String,
    /// What shall be remembered with it.
    pub metadata: Map<String, Value>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a new owner shall be.
#[derive(Clone, Debug)]
pub struct NewKeyOwner {
    /// What the tenant calls it among its own: 1 to 128 visible ASCII characters, once in a tenant, for good.
    pub external_id: String,
    /// What a person calls it, 1 to 100 characters.
    pub name: String,
    /// What shall be remembered with it, up to 4 KiB of JSON.
    pub metadata: Map<String, Value>,
}

/// What shall be different; None leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct OwnerChange {
    /// What a person calls it, 1 to 100 characters.
    pub name: Option<String>,
    /// What shall be remembered with it, up to 4 KiB of JSON.
    pub metadata: Option<Map<String, Value>>,
}

/// Reads the printed id of an owner. Malformed, unknown and foreign ids are the same error.
pub fn parse_owner_id(text: &str) -> Result<OwnerId> {
    OwnerId::parse(text).ok_or_else(not_found)
}

impl Identity {
    /// Makes an owner in the caller's tenant. Needs `keys.owner.write`.
    ///
    /// # Errors
    /// `EXTERNAL_ID_INVALID`, `NAME_INVALID`, `METADATA_TOO_LARGE`, `OWNER_EXISTS`.
    pub async fn create_owner(&self, caller: &CallContext, new: NewKeyOwner) -> Result<Owner> {
        caller.principal.require(WRITE)?;
        check_external_id(&new.external_id)?;
        check_metadata(&new.metadata)?;
        let row = OwnerRow {
            id: self.inner.ids.next(),
            external_id: new.external_id,
            name: name::read(&new.name)?,
            metadata: Json(new.metadata),
            created_at: self.inner.clock.now(),
        };
        let work = Arc::new((row.clone(), self.inner.outbox.clone(), Origin::of(caller)));
        let made = self.inner.db.write("make an owner", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (row, outbox, origin) = &*work;
                let tenant = origin.principal.tenant;
                if !store::insert(tx, tenant, row).await? {
                    let message = "the tenant has an owner with this external_id already";
                    return Err(Error::new(Code::Conflict, "OWNER_EXISTS", message).at("external_id"));
                }
                let event = event("identity.owner.created", tenant, row, &json!({ "after": print(row) }));
                outbox.append(tx, &[event], &origin.cause()).await
            })
        });
        made.await?;
        Ok(describe(row))
    }

    /// A page of the owners of the caller's tenant, newest first. Needs `keys.owner.read`.
    pub async fn list_owners(&self, caller: &CallContext, page: PageRequest) -> Result<Page<Owner>> {
        caller.principal.require(READ)?;
        let (before, limit) = manifold_store::newest_first(&page);
        let rows = store::list(&self.inner.db, caller.principal.tenant, before, limit).await?;
        Ok(Page::cut(&page, rows.into_iter().map(describe).collect(), |owner: &Owner| owner.id.0))
    }

    /// One owner of the caller's tenant. Needs `keys.owner.read`.
    pub async fn get_owner(&self, caller: &CallContext, id: OwnerId) -> Result<Owner> {
        caller.principal.require(READ)?;
        store::find(&self.inner.db, caller.principal.tenant, id).await?.map(describe).ok_or_else(not_found)
    }

    /// Changes an owner of the caller's tenant. Needs `keys.owner.write`.
    ///
    /// # Errors
    /// `OWNER_NOT_FOUND`, `NAME_INVALID`, `METADATA_TOO_LARGE`.
    pub async fn update_owner(&self, caller: &CallContext, id: OwnerId, mut change: OwnerChange) -> Result<Owner> {
        caller.principal.require(WRITE)?;
        change.name = change.name.map(|text| name::read(&text)).transpose()?;
        change.metadata.as_ref().map_or(Ok(()), check_metadata)?;
        let work = Arc::new((change, self.inner.outbox.clone(), Origin::of(caller)));
        let changed = self.inner.db.write("change an owner", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (change, outbox, origin) = &*work;
                let tenant = origin.principal.tenant;
                let before = store::lock(tx, tenant, id).await?.ok_or_else(not_found)?;
                let mut after = before.clone();
                after.name = change.name.clone().unwrap_or(after.name);
                after.metadata = change.metadata.clone().map_or(after.metadata, Json);
                let (printed, wanted) = (print(&before), print(&after));
                if printed == wanted {
                    return Ok(before);
                }
                store::update(tx, tenant, &after).await?;
                let data = json!({ "before": printed, "after": wanted });
                let event = event("identity.owner.updated", tenant, &after, &data);
                outbox.append(tx, &[event], &origin.cause()).await?;
                Ok(after)
            })
        });
        changed.await.map(describe)
    }

    /// Deletes an owner of the caller's tenant, all of whose keys were revoked before, and the limits that it was given. Needs `keys.owner.write`.
    ///
    /// # Errors
    /// `OWNER_NOT_FOUND`, `OWNER_IN_USE`.
    pub async fn delete_owner(&self, caller: &CallContext, id: OwnerId) -> Result<()> {
        caller.principal.require(WRITE)?;
        let now = self.inner.clock.now();
        let work = Arc::new((self.inner.outbox.clone(), Origin::of(caller)));
        let deleted = self.inner.db.write("delete an owner", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (outbox, origin) = &*work;
                let tenant = origin.principal.tenant;
                let before = store::lock(tx, tenant, id).await?.ok_or_else(not_found)?;
                if store::has_keys(tx, tenant, id).await? {
                    let message = "this owner has keys: revoke them, or give them to another one, first";
                    return Err(Error::new(Code::Conflict, "OWNER_IN_USE", message));
                }
                store::delete(tx, tenant, id).await?;
                limits::delete(tx, tenant, &id.to_string()).await?;
                revocation::append(tx, &given::subject(tenant), now).await?;
                let event = event("identity.owner.deleted", tenant, &before, &json!({ "before": print(&before) }));
                outbox.append(tx, &[event], &origin.cause()).await
            })
        });
        deleted.await
    }

    /// What the keys of an owner of the caller's tenant were used for since `window` ago, together, by hour, the oldest first,
    /// about a second late. The first hour is whole. Needs `keys.owner.read`.
    pub async fn owner_usage(&self, caller: &CallContext, id: OwnerId, window: Duration) -> Result<Vec<UsageRow>> {
        caller.principal.require(READ)?;
        let from = usage::since(self.inner.clock.now(), window)?;
        let tenant = caller.principal.tenant;
        store::find(&self.inner.db, tenant, id).await?.ok_or_else(not_found)?;
        store::usage(&self.inner.db, tenant, id, from).await
    }
}

/// Reads the printed id of the owner of a key.
///
/// # Errors
/// `OWNER_UNKNOWN`, as for those whom the tenant does not have.
pub fn read(text: &str) -> Result<OwnerId> {
    OwnerId::parse(text).ok_or_else(unknown)
}

/// Refuses owners whom the tenant does not have; the one it has stays until the transaction ends.
pub(crate) async fn require(tx: &mut Tx<'_>, tenant: TenantId, owner: Option<OwnerId>) -> Result<()> {
    let Some(owner) = owner else { return Ok(()) };
    let found = store::lock(tx, tenant, owner).await?;
    found.map(|_| ()).ok_or_else(unknown)
}

fn unknown() -> Error {
    Error::invalid("OWNER_UNKNOWN", "the tenant has no such owner").at("owner")
}

fn check_external_id(text: &str) -> Result<()> {
    if (1..=MAX_EXTERNAL_ID).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let message = "external_id has 1 to 128 visible ASCII characters";
    Err(Error::invalid("EXTERNAL_ID_INVALID", message).at("external_id"))
}

fn print(row: &OwnerRow) -> Value {
    json!({ "external_id": row.external_id, "name": row.name, "metadata": row.metadata.0 })
}

fn event(type_: &'static str, tenant: TenantId, row: &OwnerRow, change: &Value) -> Draft {
    let subject = OwnerId(row.id).to_string();
    let mut data = change.clone();
    data["id"] = json!(subject);
    Draft { type_, subject, tenant, data: data.to_string().into() }
}

fn describe(row: OwnerRow) -> Owner {
    let OwnerRow { id, external_id, name, metadata, created_at } = row;
    Owner { id: OwnerId(id), external_id, name, metadata: metadata.0, created_at }
}

fn not_found() -> Error {
    Error::not_found("OWNER_NOT_FOUND", "no such owner")
}
