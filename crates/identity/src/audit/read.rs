//! Reading the chain: pages, exports, and whether it is what it was.

use std::sync::Arc;

use futures::Stream;
use futures::stream::try_unfold;
use manifold_bus::Draft;
use manifold_core::{Error, PageRequest, Result, TenantId};
use manifold_runtime::CallContext;
use serde_json::json;

use super::chain::{Entry, START};
use super::file::{self, Format};
use super::verify::{Verdict, Verifier};
use crate::Identity;
use crate::detect::{BULK_EXPORTS, CHAIN_BROKEN, Sign};
use crate::origin::Origin;
use crate::store::audit::{self as store, AuditFilter, Order};

const READ: &str = "audit.entry.read";
const EXPORT: &str = "audit.entry.export";
const VERIFY: &str = "audit.chain.verify";
/// Entries that are read, and hashed without a pause, at a time: about a millisecond.
const CHUNK: i64 = 500;

/// A page of entries, the newest first.
#[derive(Debug)]
pub struct AuditPage {
    /// The entries.
    pub data: Vec<Entry>,
    /// The number to go on before; None = this is the last page.
    pub next: Option<i64>,
}

/// Who signs checkpoints.
#[derive(Clone, Debug)]
pub struct AuditKey {
    /// Its name.
    pub kid: String,
    /// Ed25519 public key, base64url.
    pub public: String,
}

impl Identity {
    /// A page of the caller's tenant's entries before number `before`, the newest first. Needs `audit.entry.read`.
    ///
    /// # Errors
    /// `LIMIT_INVALID` unless there are 1 to 200 to a page.
    pub async fn list_audit(
        &self,
        caller: &CallContext,
        filter: &AuditFilter,
        limit: Option<u32>,
        before: Option<i64>,
    ) -> Result<AuditPage> {
        caller.principal.require(READ)?;
        let page = PageRequest::new(limit, None)?;
        let order = Order::Newest(before.unwrap_or(i64::MAX));
        let mut data = store::list(&self.inner.db, caller.principal.tenant, filter, order, page.fetch()).await?;
        let more = data.len() > page.limit as usize;
        data.truncate(page.limit as usize);
        let next = data.last().filter(|_| more).map(|entry| entry.seq);
        Ok(AuditPage { data, next })
    }

    /// The caller's tenant's entries as pieces of a file, the oldest first; that they were exported is the last of them. Needs
    /// `audit.entry.export`.
    pub async fn export_audit(
        &self,
        caller: &CallContext,
        filter: AuditFilter,
        format: Format,
    ) -> Result<impl Stream<Item = Result<Vec<u8>>> + Send + use<>> {
        caller.principal.require(EXPORT)?;
        let tenant = caller.principal.tenant;
        self.note_export(caller, &filter, format).await?;
        self.note_sign(Sign::by(&BULK_EXPORTS, &caller.principal, "GET /v1/audit/export"));
        // The signatures before the end, so that it is not before one of them.
        let checkpoints = store::list_checkpoints(&self.inner.db, tenant).await?;
        let (end, _) = store::head(&self.inner.db, tenant).await?.ok_or_else(no_chain)?;
        let start = match format {
            Format::Ndjson => file::begin(tenant, end, &checkpoints)?,
            Format::Csv => file::HEADING.as_bytes().to_vec(),
        };
        let (identity, first) = (self.clone(), Some(start));
        Ok(try_unfold((first, 0), move |(first, after)| {
            let (identity, filter) = (identity.clone(), filter.clone());
            async move {
                if let Some(start) = first {
                    return Ok(Some((start, (None, 0))));
                }
                let entries = store::list(&identity.inner.db, tenant, &filter, Order::Oldest(after), CHUNK).await?;
                let entries: Vec<Entry> = entries.into_iter().take_while(|entry| entry.seq <= end).collect();
                let Some(last) = entries.last().map(|entry| entry.seq) else { return Ok(None) };
                Ok(Some((file::lines(&entries, format)?, (None, last))))
            }
        }))
    }

    async fn note_export(&self, caller: &CallContext, filter: &AuditFilter, format: Format) -> Result<()> {
        let data = json!({
            "format": format.name(),
            "actor": filter.actor,
            "action": filter.action,
            "target": filter.target,
            "outcome": filter.outcome,
            "from": filter.from.map(|time| time.to_string()),
            "to": filter.to.map(|time| time.to_string()),
        });
        let tenant = caller.principal.tenant;
        let draft = Draft {
            type_: "identity.audit.exported",
            subject: tenant.to_string(),
            tenant,
            data: data.to_string().into(),
        };
        let work = Arc::new((self.inner.outbox.clone(), draft, Origin::of(caller)));
        let noted = self.inner.db.write("note an export", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (outbox, draft, origin) = &*work;
                outbox.append(tx, std::slice::from_ref(draft), &origin.cause()).await
            })
        });
        noted.await
    }

    /// Looks at every entry of the caller's tenant's chain. Needs `audit.chain.verify`.
    pub async fn verify_audit(&self, caller: &CallContext) -> Result<Verdict> {
        caller.principal.require(VERIFY)?;
        self.verify_chain(caller.principal.tenant).await
    }

    /// Looks at every entry of a chain.
    pub(crate) async fn verify_chain(&self, tenant: TenantId) -> Result<Verdict> {
        let db = &self.inner.db;
        // The signatures before the end, so that it is not before one of them.
        let checkpoints = store::list_checkpoints(db, tenant).await?;
        let head = store::head(db, tenant).await?;
        let end = head.as_ref().map_or(i64::MAX, |(end, _)| *end);
        let mut verifier = Verifier::new(tenant, self.inner.signer.public(), checkpoints);
        let mut after = 0;
        loop {
            let entries = store::list(db, tenant, &AuditFilter::default(), Order::Oldest(after), CHUNK).await?;
            let Some(last) = entries.last().map(|entry| entry.seq) else { break };
            let mut within = entries.iter().take_while(|entry| entry.seq <= end);
            if !within.all(|entry| verifier.check(entry)) || last >= end {
                break;
            }
            after = last;
            tokio::task::yield_now().await;
        }
        let (end, hash) = head.unwrap_or((0, START.to_vec()));
        let verdict = verifier.finish(Some((end, &hash)));
        if let Some(broken) = verdict.broken {
            self.note_sign(Sign {
                rule: &CHAIN_BROKEN,
                tenant: Some(tenant).filter(|tenant| !tenant.0.is_nil()),
                subject: tenant.to_string(),
                kind: String::new(),
                seen: format!("{} at seq {}", broken.fault.name(), broken.seq),
            });
        }
        Ok(verdict)
    }

    /// The key that checkpoints are signed with.
    pub fn audit_key(&self) -> AuditKey {
        AuditKey { kid: self.inner.signer.kid().to_owned(), public: self.inner.signer.printed() }
    }
}

fn no_chain() -> Error {
    Error::internal("an audit chain has no end")
}
