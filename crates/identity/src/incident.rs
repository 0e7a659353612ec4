//! Incidents and blocks, as people look into them.

use std::sync::Arc;

use manifold_bus::Draft;
use manifold_core::{BlockId, Error, IncidentId, Page, PageRequest, Result, Timestamp};
use manifold_runtime::CallContext;
use serde_json::json;

use crate::origin::Origin;
use crate::store::incident::{self as store, BlockRow, IncidentRow};
use crate::{Identity, watch};

const READ: &str = "audit.incident.read";
const WRITE: &str = "audit.incident.write";
const READ_BLOCKS: &str = "audit.block.read";
const WRITE_BLOCKS: &str = "audit.block.write";

/// What looks like an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incident {
    /// The incident.
    pub id: IncidentId,
    /// Which rule found it.
    pub rule: String,
    /// `medium`, `high` or `critical`.
    pub severity: String,
    /// Who or what shows it: a network, a person, a key.
    pub subject: String,
    /// Signs so far.
    pub count: i64,
    /// When the first was.
    pub first_at: Timestamp,
    /// When the last was.
    pub last_at: Timestamp,
    /// What was seen in particular.
    pub seen: String,
    /// Who has looked into it, and when; None = it is open.
    pub acknowledged: Option<(String, Timestamp)>,
}

/// A network that nothing is taken from for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The block.
    pub id: BlockId,
    /// `203.0.113.0/24`.
    pub network: String,
    /// The rule that made it.
    pub rule: String,
    /// When.
    pub created_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
}

impl Identity {
    /// A page of the incidents of the caller's tenant, newest first. Those of nobody's tenant, such as guessed keys, are the
    /// first tenant's. Needs `audit.incident.read`.
    pub async fn list_incidents(&self, caller: &CallContext, page: PageRequest) -> Result<Page<Incident>> {
        caller.principal.require(READ)?;
        let (before, limit) = manifold_store::newest_first(&page);
        let rows = store::list(&self.inner.db, caller.principal.tenant, before, limit).await?;
        Ok(Page::cut(&page, rows.into_iter().map(Incident::from).collect(), |one: &Incident| one.id.0))
    }

    /// Notes that somebody has looked into it; the next sign begins a new incident. Repeating it changes nothing. Needs
    /// `audit.incident.write`.
    ///
    /// # Errors
    /// `INCIDENT_NOT_FOUND`.
    pub async fn acknowledge_incident(&self, caller: &CallContext, id: IncidentId) -> Result<Incident> {
        caller.principal.require(WRITE)?;
        let (tenant, now) = (caller.principal.tenant, self.inner.clock.now());
        let work = Arc::new((self.inner.outbox.clone(), Origin::of(caller)));
        let row = self.inner.db.write("acknowledge an incident", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (outbox, origin) = &*work;
                let closed = store::acknowledge(tx, tenant, id, &origin.principal.subject, now).await?;
                let row = store::find(tx, tenant, id).await?.ok_or_else(no_incident)?;
                if closed {
                    let data = json!({ "rule": row.rule, "subject": row.subject, "count": row.count });
                    let event = Draft {
                        type_: "identity.incident.acknowledged",
                        subject: id.to_string(),
                        tenant,
                        data: data.to_string().into(),
                    };
                    outbox.append(tx, &[event], &origin.cause()).await?;
                }
                Ok(row)
            })
        });
        row.await.map(Incident::from)
    }

    /// The networks that are blocked now, the newest first. Needs `audit.block.read` in the tenant that was made first.
    pub async fn list_blocks(&self, caller: &CallContext) -> Result<Vec<Block>> {
        self.require_host(&caller.principal, READ_BLOCKS)?;
        let rows = store::list_blocks(&self.inner.db, self.inner.clock.now()).await?;
        Ok(rows.into_iter().map(Block::from).collect())
    }

    /// Takes from a network again, in every process within a second. Needs `audit.block.write` in the tenant that was made
    /// first.
    ///
    /// # Errors
    /// `BLOCK_NOT_FOUND`.
    pub async fn remove_block(&self, caller: &CallContext, id: BlockId) -> Result<()> {
        self.require_host(&caller.principal, WRITE_BLOCKS)?;
        let now = self.inner.clock.now();
        let work = Arc::new((self.inner.outbox.clone(), Origin::of(caller)));
        let removed = self.inner.db.write("unblock a network", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (outbox, origin) = &*work;
                let network = store::unblock(tx, id, now).await?.ok_or_else(no_block)?;
                let event = Draft {
                    type_: "identity.block.removed",
                    subject: id.to_string(),
                    tenant: origin.principal.tenant,
                    data: json!({ "network": network }).to_string().into(),
                };
                outbox.append(tx, &[event], &origin.cause()).await
            })
        });
        removed.await?;
        watch::read_blocks(self).await
    }
}

impl From<IncidentRow> for Incident {
    fn from(row: IncidentRow) -> Self {
        Self {
            id: IncidentId(row.id),
            rule: row.rule,
            severity: row.severity,
            subject: row.subject,
            count: row.count,
            first_at: row.first_at,
            last_at: row.last_at,
            seen: row.detail,
            acknowledged: row.acknowledged_by.zip(row.acknowledged_at.map(Timestamp::from)),
        }
    }
}

impl From<BlockRow> for Block {
    fn from(row: BlockRow) -> Self {
        let BlockRow { id, network, rule, created_at, expires_at } = row;
        Self { id: BlockId(id), network, rule, created_at, expires_at }
    }
}

/// Reads the printed id of an incident. Malformed, unknown and foreign ids are the same error.
pub fn parse_incident_id(text: &str) -> Result<IncidentId> {
    IncidentId::parse(text).ok_or_else(no_incident)
}

/// Reads the printed id of a block. Malformed and unknown ids are the same error.
pub fn parse_block_id(text: &str) -> Result<BlockId> {
    BlockId::parse(text).ok_or_else(no_block)
}

fn no_incident() -> Error {
    Error::not_found("INCIDENT_NOT_FOUND", "no such incident")
}

fn no_block() -> Error {
    Error::not_found("BLOCK_NOT_FOUND", "no such block, or it is over")
}
