//! Watching: signs are counted in memory, findings become incidents and blocks for every process.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use manifold_bus::Draft;
use manifold_core::{BlockId, Code, Error, IncidentId, Result, TenantId, Timestamp, UserId};
use serde_json::json;
use tokio::sync::Notify;
use tracing::warn;

use crate::Identity;
use crate::detect::{Counters, Finding, Sign};
use crate::network::Network;
use crate::origin::Origin;
use crate::store::incident::{self as store, BlockRow, IncidentRow};
use crate::store::user;

/// Findings that wait to be written down; beyond, they are only logged.
const MAX_WAITING: usize = 1_000;

/// What is watched, and the networks that nothing is taken from.
#[derive(Default)]
pub struct Watch {
    counters: Mutex<Counters>,
    found: Mutex<Vec<Finding>>,
    wake: Notify,
    any_block: AtomicBool,
    blocks: RwLock<HashMap<Network, Timestamp>>,
}

impl Watch {
    fn see(&self, sign: Sign, now: Timestamp) {
        let Some(finding) = lock(&self.counters).see(sign, now) else { return };
        let mut found = lock(&self.found);
        if found.len() < MAX_WAITING {
            found.push(finding);
            self.wake.notify_one();
        }
    }

    /// Takes over which networks are blocked now.
    pub fn set_blocks(&self, rows: &[BlockRow]) {
        let blocks: HashMap<_, _> =
            rows.iter().filter_map(|row| Some((Network::parse(&row.network)?, row.expires_at))).collect();
        let any = !blocks.is_empty();
        if any || self.any_block.load(Ordering::Relaxed) {
            *self.blocks.write().unwrap_or_else(PoisonError::into_inner) = blocks;
        }
        self.any_block.store(any, Ordering::Relaxed);
    }

    /// Until when nothing is taken from the network of this address.
    fn blocked_until(&self, ip: IpAddr, now: Timestamp) -> Option<Timestamp> {
        if !self.any_block.load(Ordering::Relaxed) {
            return None;
        }
        let blocks = self.blocks.read().unwrap_or_else(PoisonError::into_inner);
        blocks.get(&Network::of(ip)).copied().filter(|until| *until > now)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Identity {
    /// Refuses whoever calls from a network that is blocked. Costs nothing while none is.
    ///
    /// # Errors
    /// `ABNORMAL_USAGE_DETECTED` with the time to wait.
    pub fn refuse_blocked(&self, ip: IpAddr) -> Result<()> {
        let now = self.inner.clock.now();
        let Some(until) = self.inner.watch.blocked_until(ip, now) else { return Ok(()) };
        let message = "what came from this network looks like an attack; wait before the next request";
        let wait = until.since(now).max(Duration::from_secs(1));
        Err(Error::new(Code::Exhausted, "ABNORMAL_USAGE_DETECTED", message).retry_after(wait))
    }

    pub(crate) fn note_sign(&self, sign: Sign) {
        self.inner.watch.see(sign, self.inner.clock.now());
    }
}

/// Writes findings down until shutdown, and the rest then.
pub async fn run(identity: Identity) {
    let stop = identity.inner.tasks.token();
    while stop.run_until_cancelled(identity.inner.watch.wake.notified()).await.is_some() {
        write_all(&identity).await;
    }
    write_all(&identity).await;
}

async fn write_all(identity: &Identity) {
    let found = std::mem::take(&mut *lock(&identity.inner.watch.found));
    for finding in found {
        let rule = finding.sign.rule.name;
        if let Err(error) = write(identity, finding).await {
            warn!(rule, %error, "cannot write an incident down");
        }
    }
    if let Err(error) = read_blocks(identity).await {
        warn!(%error, "cannot read which networks are blocked");
    }
}

/// Learns from the database which networks are blocked.
pub async fn read_blocks(identity: &Identity) -> Result<()> {
    let rows = store::list_blocks(&identity.inner.db, identity.inner.clock.now()).await?;
    identity.inner.watch.set_blocks(&rows);
    Ok(())
}

/// Writes an incident down, or adds to the one that nobody has acknowledged yet, and blocks the network if the rule says so.
/// What is nearby is never blocked: whoever runs the house must be able to unblock, and behind a proxy that nobody named is
/// everybody.
async fn write(identity: &Identity, mut finding: Finding) -> Result<()> {
    let inner = &identity.inner;
    if let Some(user) = UserId::parse(&finding.sign.subject).filter(|_| finding.sign.tenant.is_none()) {
        finding.sign.tenant = user::home(&inner.db, user).await?;
    }
    let (rule, severity) = (finding.sign.rule.name, finding.sign.rule.severity);
    warn!(rule, severity, subject = finding.sign.subject, count = finding.count, "this looks like an attack");
    metrics::counter!("manifold_incidents_total", "rule" => rule).increment(1);
    let tenant = match finding.sign.tenant {
        Some(tenant) => tenant,
        None => identity.host()?,
    };
    let (incident, block) = (IncidentId(inner.ids.next()), BlockId(inner.ids.next()));
    let network = Network::parse(&finding.sign.subject).filter(|network| !network.is_nearby());
    let blocks = finding.sign.rule.blocks.filter(|_| network.is_some());
    let until = blocks.map(|time| finding.at.after(time));
    let work = Arc::new((inner.outbox.clone(), finding, Origin::of_house(&inner.ids, tenant)));
    let written = inner.db.write("write an incident down", move |tx| {
        let work = Arc::clone(&work);
        Box::pin(async move {
            let (outbox, finding, origin) = &*work;
            let sign = &finding.sign;
            let row = describe(incident, origin.principal.tenant, finding);
            let fresh = store::add(tx, &row).await?;
            if let Some(until) = until {
                let row = BlockRow {
                    id: block.0,
                    network: sign.subject.clone(),
                    rule: sign.rule.name.to_owned(),
                    created_at: finding.at,
                    expires_at: until,
                };
                store::block(tx, &row).await?;
            }
            if !fresh && until.is_none() {
                return Ok(());
            }
            outbox.append(tx, &[detected(&row, until)], &origin.cause()).await
        })
    });
    written.await
}

fn describe(id: IncidentId, tenant: TenantId, finding: &Finding) -> IncidentRow {
    let sign = &finding.sign;
    IncidentRow {
        id: id.0,
        tenant_id: tenant.0,
        rule: sign.rule.name.to_owned(),
        severity: sign.rule.severity.to_owned(),
        subject: sign.subject.clone(),
        count: i64::try_from(finding.count).unwrap_or(i64::MAX),
        first_at: finding.first_at,
        last_at: finding.at,
        detail: sign.seen.clone(),
        acknowledged_by: None,
        acknowledged_at: None,
    }
}

fn detected(row: &IncidentRow, until: Option<Timestamp>) -> Draft {
    let data = json!({
        "rule": row.rule,
        "severity": row.severity,
        "subject": row.subject,
        "count": row.count,
        "seen": row.detail,
        "blocked_until": until.map(|until| until.to_string()),
    });
    let (subject, tenant) = (row.subject.clone(), TenantId(row.tenant_id));
    Draft { type_: "identity.security.detected", subject, tenant, data: data.to_string().into() }
}
