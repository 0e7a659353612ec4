//! Audit: whatever changes something is written into its tenant's chain in the same transaction. No entry, no change.

pub mod chain;
pub mod checkpoint;
pub mod file;
pub mod patrol;
pub mod read;
pub mod refused;
pub mod verify;

use manifold_bus::{Cause, Draft};
use manifold_core::{Clock, Ids, Result};
use manifold_store::{Db, Tx};
use sha2::{Digest, Sha256};

use crate::origin::HOUSE;
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
    pub async fn append(&self, tx: &mut Tx<'_>, drafts: &[Draft], cause: &Cause<'_>) -> Result<()> {
        for draft in drafts {
            store::append(tx, self.entry(draft, cause)).await?;
        }
        self.bus.append(tx, drafts, cause).await
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
