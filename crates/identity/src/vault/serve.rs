//! The vault for the other services of the house. Each seals only in its own name: what one of them sealed no other opens.
//! Whatever they open is written down first.

use std::sync::Arc;
use std::time::Duration;

use manifold_bus::Draft;
use manifold_core::{Code, Error, Result, Secret, SubjectKind, TenantId, encode_id};
use manifold_runtime::CallContext;
use serde_json::json;
use uuid::Uuid;

use super::Place;
use crate::origin::Origin;
use crate::secret;
use crate::store::secret as secrets;
use crate::store::vault as store;
use crate::{Identity, vault};

/// Most items of a call.
const MAX_ITEMS: usize = 100;
/// Longest value, in bytes.
const MAX_VALUE: usize = 64 * 1024;
/// Longest name of a table or column.
const MAX_NAME: usize = 63;
/// After so long nothing is on its way any more that was sealed under a replaced key: opened keys are used for half a
/// minute, and calls take a minute at most.
const SETTLED: Duration = Duration::from_secs(300);

/// Where a service keeps a value.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    /// Whose it is; nil if no tenant's.
    pub tenant: TenantId,
    /// Table of the service.
    pub table: String,
    /// Column.
    pub column: String,
    /// Id of the row.
    pub row: Uuid,
}

/// What a service wants to open.
pub(crate) enum Wanted {
    /// What it had sealed.
    Sealed(Spot, Vec<u8>),
    /// A secret of a tenant, by its name.
    Secret(TenantId, String),
}

impl Identity {
    /// Seals values for the calling service, in their order.
    ///
    /// # Errors
    /// `SERVICE_REQUIRED`, `VAULT_REQUEST_INVALID`.
    pub(crate) async fn seal_for(
        &self,
        caller: &CallContext,
        items: &[(Spot, Secret<Vec<u8>>)],
    ) -> Result<Vec<Vec<u8>>> {
        let service = service(caller)?;
        check_count(items.len())?;
        let mut all = Vec::with_capacity(items.len());
        for (spot, text) in items {
            if text.expose().len() > MAX_VALUE {
                return Err(invalid("a value has at most 65536 bytes"));
            }
            let table = spot.holder(service)?;
            let sealed = self.inner.vault.seal(spot.place(&table), text.expose()).await?;
            self.inner.vault.note_holder(spot.tenant, table, &sealed).await?;
            all.push(sealed);
        }
        Ok(all)
    }

    /// Opens values for the calling service, in their order, after all of them are written down.
    ///
    /// # Errors
    /// `SERVICE_REQUIRED`, `VAULT_REQUEST_INVALID`, `SECRET_NOT_FOUND`; `INTERNAL` for what was altered or moved.
    pub(crate) async fn open_for(&self, caller: &CallContext, items: &[Wanted]) -> Result<Vec<Secret<Vec<u8>>>> {
        let service = service(caller)?;
        check_count(items.len())?;
        let (mut all, mut events) = (Vec::with_capacity(items.len()), Vec::with_capacity(items.len()));
        for item in items {
            let (text, event) = match item {
                Wanted::Sealed(spot, sealed) => self.open_sealed(service, spot, sealed).await?,
                Wanted::Secret(tenant, name) => self.open_secret(service, *tenant, name).await?,
            };
            all.push(text);
            events.push(event);
        }
        // Each tenant has a chain of its own: in one order, so that no two calls wait for each other.
        events.sort_by_key(|event: &Draft| event.tenant);
        let work = Arc::new((events, self.inner.outbox.clone(), Origin::of(caller)));
        let noted = self.inner.db.write("note that secrets were read", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (events, outbox, origin) = &*work;
                outbox.append(tx, events, &origin.cause()).await
            })
        });
        noted.await?;
        Ok(all)
    }

    async fn open_sealed(&self, service: &str, spot: &Spot, sealed: &[u8]) -> Result<(Secret<Vec<u8>>, Draft)> {
        let table = spot.holder(service)?;
        let text = self.inner.vault.open(spot.place(&table), sealed).await?;
        let data = json!({ "table": table, "column": spot.column, "row": spot.row.to_string(), "read_by": service });
        let subject = encode_id("row", spot.row);
        let event =
            Draft { type_: "identity.secret.read", subject, tenant: spot.tenant, data: data.to_string().into() };
        Ok((text, event))
    }

    async fn open_secret(&self, service: &str, tenant: TenantId, name: &str) -> Result<(Secret<Vec<u8>>, Draft)> {
        let row = secrets::find(&self.inner.db, tenant, name).await?.ok_or_else(secret::not_found)?;
        let text = self.inner.vault.open(secret::place(tenant, row.id), &row.sealed).await?;
        let data = json!({ "name": name, "version": row.version, "read_by": service });
        Ok((text, secret::event("identity.secret.read", tenant, row.id, &data)))
    }

    /// Notes the lowest version of a tenant's key that a table of the calling service needs; None = there is nothing in it.
    /// False if it is too early to tell.
    ///
    /// # Errors
    /// `SERVICE_REQUIRED`, `VAULT_REQUEST_INVALID`.
    pub(crate) async fn report_reseal(
        &self,
        caller: &CallContext,
        tenant: TenantId,
        table: &str,
        lowest: Option<i32>,
    ) -> Result<bool> {
        let holder = holder(service(caller)?, table)?;
        let active = store::active_version(&self.inner.db, tenant).await?.map_or(0, |(version, _)| version);
        let lowest = lowest.unwrap_or(active);
        if lowest > active {
            return Err(invalid("there is no such version"));
        }
        let before = self.inner.clock.now().before(SETTLED);
        if !store::is_settled(&self.inner.db, tenant, lowest, before).await? {
            return Ok(false);
        }
        let reported = self.inner.db.write("note what a table needs", move |tx| {
            let holder = holder.clone();
            Box::pin(async move { store::report(tx, tenant, &holder, lowest).await })
        });
        reported.await?;
        Ok(true)
    }
}

impl vault::Vault {
    /// Remembers that a table needs the version that sealed this.
    async fn note_holder(&self, tenant: TenantId, holder: String, sealed: &[u8]) -> Result<()> {
        let (id, now) = ((tenant, holder), self.clock.now());
        if self.holders.get(&id, now).is_some() {
            return Ok(());
        }
        let (holder, version) = (id.1.clone(), super::envelope::version_of(sealed).unwrap_or_default());
        let noted = self.db.write("note what a table needs", move |tx| {
            let holder = holder.clone();
            Box::pin(async move { store::insert_holder(tx, tenant, &holder, version).await })
        });
        noted.await?;
        self.holders.put(id, (), now);
        Ok(())
    }
}

impl Spot {
    /// The table, with the service that it belongs to.
    fn holder(&self, service: &str) -> Result<String> {
        is_name(&self.column).then_some(()).ok_or_else(malformed)?;
        holder(service, &self.table)
    }

    fn place<'a>(&'a self, table: &'a str) -> Place<'a> {
        Place { tenant: self.tenant, table, column: &self.column, row: self.row }
    }
}

/// The name of the service that calls.
fn service(caller: &CallContext) -> Result<&str> {
    let principal = &caller.principal;
    let is_service = principal.kind == SubjectKind::Service;
    Some(&*principal.subject).filter(|name| is_service && is_name(&name.replace('-', "_"))).ok_or_else(|| {
        Error::new(Code::Denied, "SERVICE_REQUIRED", "only a service of the house can do this, in its own name")
    })
}

/// A dot is in no table of our own: those are out of reach.
fn holder(service: &str, table: &str) -> Result<String> {
    is_name(table).then(|| format!("{service}.{table}")).ok_or_else(malformed)
}

fn is_name(text: &str) -> bool {
    let fits = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    fits && (1..=MAX_NAME).contains(&text.len())
}

fn check_count(n: usize) -> Result<()> {
    if n > MAX_ITEMS { Err(invalid("a call has at most 100 items")) } else { Ok(()) }
}

fn malformed() -> Error {
    invalid("a table or column is 1 to 63 of a-z 0-9 _")
}

pub(crate) fn invalid(message: &'static str) -> Error {
    Error::invalid("VAULT_REQUEST_INVALID", message)
}
