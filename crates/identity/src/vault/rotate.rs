//! Changing the master key while everything runs: whatever the old one seals is sealed under the new one, piece by piece.
//! Every row names its master key, so what was interrupted goes on where it stopped.

use std::sync::Arc;

use manifold_bus::{Cause, Draft};
use manifold_core::{
    Clock, Code, Error, Ids, Principal, RequestId, Result, SubjectKind, TenantId, Timestamp, TraceContext,
};
use manifold_store::{Db, Tx};
use serde_json::json;
use uuid::Uuid;

use super::envelope::Label;
use super::master::{MasterKey, Masters};
use crate::audit::Outbox;
use crate::store::system::{self, SystemKey};
use crate::store::vault::{self as store, TenantKey};

/// Keys per transaction.
const BATCH: usize = 100;
/// Who does it, in the audit chain.
const MAKER: &str = "manifold vault";

/// What a change of the master key did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Keys that were sealed anew.
    pub n_keys: usize,
    /// Master keys that seal nothing any more.
    pub retired: Vec<String>,
}

/// A master key, and how much it seals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterStatus {
    /// Its name.
    pub id: String,
    /// `active`: seals new keys. `retiring`: seals some still. `retired`: seals nothing any more.
    pub state: String,
    /// Since when the database knows it.
    pub created_at: Timestamp,
    /// Keys that it seals.
    pub n_keys: i64,
}

/// The master keys of a database, the oldest first.
pub async fn master_status(db: &Db) -> Result<Vec<MasterStatus>> {
    let rows = store::list_masters(db).await?;
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        let n_keys = store::count_keys_of(db, &row.id).await?;
        all.push(MasterStatus { id: row.id, state: row.state, created_at: row.created_at, n_keys });
    }
    Ok(all)
}

/// Makes `to` the active master key, seals every key under it, checks all of them, and retires the others. Running
/// processes go on if `to` is configured in all of them.
///
/// # Errors
/// `MASTER_KEY_MISSING`, `MASTER_KEY_INVALID`, `MASTER_KEY_WRONG`; `MASTER_ROTATION_OVERTAKEN` if somebody changes it to
/// another one meanwhile.
pub async fn rotate_master(db: &Db, clock: &Clock, configured: &[MasterKey], to: &str) -> Result<Rotated> {
    let sealed = system::list_system_keys(db).await?;
    if sealed.is_empty() {
        return Err(Error::new(Code::Precondition, "FAILED_PRECONDITION", "this database has no keys yet"));
    }
    let masters = Masters::open(db, configured, &sealed, clock.now()).await?;
    activate(db, &masters, to, clock.now()).await?;
    let mut n_keys = rewrap_system(db, &masters, to).await?;
    n_keys += rewrap_tenants(db, &masters, to).await?;
    check_all(db, &masters, to).await?;
    let retired = retire(db, clock, to, n_keys).await?;
    Ok(Rotated { n_keys, retired })
}

/// From here on new keys are sealed under it.
async fn activate(db: &Db, masters: &Masters, to: &str, now: Timestamp) -> Result<()> {
    let row = masters.new_row(to, now)?;
    let activated = db.write("change the master key", move |tx| {
        let row = row.clone();
        Box::pin(async move { store::activate_master(tx, &row).await })
    });
    activated.await
}

async fn rewrap_system(db: &Db, masters: &Masters, to: &str) -> Result<usize> {
    let old = system::list_system_keys(db).await?.into_iter().filter(|key| key.master_id != to);
    let fresh = old.map(|old| {
        let key = masters.unwrap(&old.wrapped, Label::of(&old))?;
        let label = Label { master_id: to, ..Label::of(&old) };
        Ok((old.master_id.clone(), SystemKey { wrapped: masters.wrap(&key, label)?, ..old }))
    });
    let fresh: Vec<_> = fresh.collect::<Result<_>>()?;
    let n = fresh.len();
    for batch in fresh.chunks(BATCH) {
        let work = Arc::new((batch.to_vec(), to.to_owned()));
        let written = db.write("seal system keys anew", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (batch, to) = &*work;
                hold(tx, to).await?;
                for (from, key) in batch {
                    system::rewrap(tx, key, from, to).await?;
                }
                Ok(())
            })
        });
        written.await?;
    }
    Ok(n)
}

async fn rewrap_tenants(db: &Db, masters: &Masters, to: &str) -> Result<usize> {
    let (mut n, mut after) = (0, (TenantId(Uuid::nil()), 0));
    loop {
        let old = store::list_keys(db, after, BATCH).await?;
        let Some(last) = old.last() else { return Ok(n) };
        after = (TenantId(last.tenant_id), last.version);
        let fresh = old.into_iter().filter(|old| old.master_id != to).map(|old| {
            let owner = old.tenant_id.to_string();
            let label = Label { owner: &owner, version: old.version, master_id: &old.master_id };
            let key = masters.unwrap(&old.wrapped, label)?;
            let wrapped = masters.wrap(&key, Label { master_id: to, ..label })?;
            Ok(TenantKey { wrapped, ..old })
        });
        let fresh: Vec<_> = fresh.collect::<Result<_>>()?;
        if fresh.is_empty() {
            continue;
        }
        n += fresh.len();
        let work = Arc::new((fresh, to.to_owned()));
        let written = db.write("seal keys of tenants anew", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (fresh, to) = &*work;
                hold(tx, to).await?;
                store::rewrap(tx, fresh, to).await
            })
        });
        written.await?;
    }
}

/// Reads everything back: what does not open now would never open again.
async fn check_all(db: &Db, masters: &Masters, to: &str) -> Result<()> {
    for key in system::list_system_keys(db).await? {
        masters.unwrap(&key.wrapped, Label { master_id: to, ..Label::of(&key) })?;
    }
    let mut after = (TenantId(Uuid::nil()), 0);
    loop {
        let keys = store::list_keys(db, after, BATCH).await?;
        let Some(last) = keys.last() else { return Ok(()) };
        after = (TenantId(last.tenant_id), last.version);
        for key in &keys {
            let owner = key.tenant_id.to_string();
            masters.unwrap(&key.wrapped, Label { owner: &owner, version: key.version, master_id: to })?;
        }
    }
}

/// The others are of no use any more.
async fn retire(db: &Db, clock: &Clock, to: &str, n_keys: usize) -> Result<Vec<String>> {
    let ids = Ids::new(clock.clone());
    let principal = Principal { kind: SubjectKind::Service, subject: MAKER.into(), ..Principal::anonymous() };
    let request = RequestId(ids.next());
    let work = Arc::new((to.to_owned(), Outbox::new(clock.clone(), ids), principal));
    let retired = db.write("retire master keys", move |tx| {
        let work = Arc::clone(&work);
        Box::pin(async move {
            let (to, outbox, principal) = &*work;
            hold(tx, to).await?;
            let retired = store::retire_masters(tx).await?;
            if !retired.is_empty() {
                let trace = TraceContext::root();
                let data = json!({ "what": "master_key", "before": retired, "after": to, "n_keys": n_keys });
                let event = rotated(TenantId(Uuid::nil()), to.clone(), &data);
                outbox.append(tx, &[event], &Cause::Request { principal, request, trace: &trace }.into()).await?;
            }
            Ok(retired)
        })
    });
    retired.await
}

/// The event of a changed key.
pub(super) fn rotated(tenant: TenantId, subject: String, data: &serde_json::Value) -> Draft {
    Draft { type_: "identity.vault.key_rotated", subject, tenant, data: data.to_string().into() }
}

/// Stops if somebody else changes to another key meanwhile.
async fn hold(tx: &mut Tx<'_>, to: &str) -> Result<()> {
    if store::hold_master(tx, to).await? {
        return Ok(());
    }
    let message = "somebody changes the master key to another one: let them finish";
    Err(Error::new(Code::Conflict, "MASTER_ROTATION_OVERTAKEN", message))
}
