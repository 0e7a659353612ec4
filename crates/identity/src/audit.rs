//! Audit: whatever changes something is written into its tenant's chain in the same transaction. No entry, no change.

pub mod chain;
pub mod checkpoint;
pub mod file;
pub mod patrol;
pub mod read;
pub mod refused;
pub mod verify;

use manifold_bus::{Cause, Draft};
use manifold_core::{Clock, Code, Error, Ids, Result, TenantId};
use manifold_runtime::Mark;
use manifold_store::{Db, Tx};
use sha2::{Digest, Sha256};

use crate::Identity;
use crate::origin::{Caused, HOUSE};
use crate::store::audit as store;
use chain::Entry;

/// Where identity tells what it did: an event is an entry of the tenant's chain first, and then leaves by the bus.
#[derive(Clone)]
pub struct Outbox {
    bus: manifold_bus::Outbox,
    clock: Clock,
}

impl Outbox {
    /// Of this service.
    pub fn new(clock: Clock, ids: Ids) -> Self {
        Self { bus: manifold_bus::Outbox::new("identity", clock.clone(), ids), clock }
    }

    /// Writes down and publishes what was done, as the last statements of the transaction that does it: they hold the locks
    /// that others wait for. The type of an event is the action, its subject the target, its data the detail, and who caused
    /// it the actor.
    ///
    /// # Errors
    /// `PRECONDITION_FAILED` if another request has done something to the target since the mark of `caused`: the end of the
    /// chain is locked here, so of several that rely on the same state one succeeds.
    pub async fn append(&self, tx: &mut Tx<'_>, drafts: &[Draft], caused: &Caused<'_>) -> Result<()> {
        for draft in drafts {
            store::append(tx, self.entry(draft, &caused.cause)).await?;
            if let Some(mark) = caused.unchanged_since.filter(|mark| mark.tenant == draft.tenant)
                && store::has_others_since(tx, mark, &draft.subject, caused.cause.chain().request()).await?
            {
                let message = "this has changed since it was read; read it again and decide anew";
                return Err(Error::new(Code::Precondition, "PRECONDITION_FAILED", message).at("If-Match"));
            }
        }
        self.bus.append(tx, drafts, &caused.cause).await
    }

    /// Publishes what is no deed of anybody and no entry of the chain.
    pub async fn publish(&self, tx: &mut Tx<'_>, drafts: &[Draft], cause: &Cause<'_>) -> Result<()> {
        self.bus.append(tx, drafts, cause).await
    }

    /// Deletes what is old of all that the bus keeps.
    pub async fn tidy(&self, db: &Db) -> Result<()> {
        self.bus.tidy(db).await
    }

    fn entry(&self, draft: &Draft, cause: &Cause<'_>) -> Entry {
        let actor = match cause {
            Cause::Request { principal, .. } => principal.subject.to_string(),
            Cause::Event(event) => event.source.clone(),
            Cause::Job(_) => HOUSE.to_owned(),
        };
        let (chain, detail) = (cause.chain(), String::from_utf8_lossy(&draft.data).into_owned());
        Entry {
            tenant_id: draft.tenant.0,
            seq: 0,
            at: self.clock.now(),
            actor,
            action: draft.type_.to_owned(),
            target: draft.subject.clone(),
            outcome: outcome(draft.type_).to_owned(),
            request_id: given(chain.request()),
            trace_id: given(chain.trace()),
            detail_sha256: Sha256::digest(&detail).to_vec(),
            detail: Some(detail),
            hash: Vec::new(),
        }
    }
}

impl Identity {
    /// Where the record of a tenant ends. Who reads a thing afterwards, and changes it by a call with this mark, changes what
    /// was read or nothing.
    pub async fn mark(&self, tenant: TenantId) -> Result<Mark> {
        let head = store::head(&self.inner.db, tenant).await?;
        Ok(Mark { tenant, seq: head.map_or(0, |(seq, _)| seq) })
    }
}

/// How it ended, by the last word of its name.
fn outcome(action: &str) -> &'static str {
    match action.rsplit('.').next() {
        Some("failed") => "failed",
        Some("denied") => "denied",
        _ => "ok",
    }
}

fn given(text: &str) -> Option<String> {
    Some(text).filter(|text| !text.is_empty()).map(str::to_owned)
}
