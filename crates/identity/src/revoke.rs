//! The feed of revocations: what another process revoked is dead here within a second, whether or not anything else
//! connects the two. The feed is also the pulse of the database: it tells requests not to wait for one that is away.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use manifold_core::{Code, Error, KeyId, Result, TenantId, Timestamp};
use manifold_runtime::health::Component;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::limit::given;
use crate::store::revocation as store;
use crate::{Identity, watch};

const EVERY: Duration = Duration::from_millis(500);
/// A database that does not answer within this time is away.
const POLL_TIMEOUT: Duration = Duration::from_secs(1);
/// Revocations per poll.
const BATCH: i64 = 1_000;
/// How long revocations stay readable.
pub const RETAIN: Duration = Duration::from_secs(3_600);
/// After a silence so long revocations may have been missed: nothing cached is believed.
const MAX_SILENCE: Duration = Duration::from_secs(1_800);

/// The subject of a key's revocation.
pub fn key_subject(id: KeyId) -> String {
    format!("key:{id}")
}

/// The subject of what changes for a whole tenant.
pub fn tenant_subject(id: TenantId) -> String {
    format!("tenant:{id}")
}

/// The subject of what the roles of a tenant permit.
pub fn roles_subject(id: TenantId) -> String {
    format!("roles:{id}")
}

/// Whether the database answers, and when it last did.
pub struct Pulse {
    heard_at: AtomicI64,
    away: AtomicBool,
}

impl Pulse {
    /// It answered just now.
    pub fn new(now: Timestamp) -> Self {
        Self { heard_at: AtomicI64::new(now.micros()), away: AtomicBool::new(false) }
    }

    /// Whether the last poll found no database.
    pub fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    /// Whether the feed was read in the last `time`.
    pub fn heard_within(&self, time: Duration, now: Timestamp) -> bool {
        self.silence(now) <= time
    }

    fn silence(&self, now: Timestamp) -> Duration {
        now.since(Timestamp::from_micros(self.heard_at.load(Ordering::Relaxed)))
    }

    fn heard(&self, now: Timestamp) {
        self.heard_at.store(now.micros(), Ordering::Relaxed);
        if self.away.swap(false, Ordering::Relaxed) {
            info!("the database is back");
        }
    }

    fn missed(&self, error: &Error) {
        if !self.away.swap(true, Ordering::Relaxed) {
            warn!(error = error.chain(), "the database is away; cached API keys go on");
        }
    }
}

/// Follows the feed from number `seq` on until shutdown.
pub async fn run(identity: Identity, mut seq: i64, health: Component) {
    let stop = identity.inner.tasks.token();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let polled = timeout(POLL_TIMEOUT, poll(&identity, seq)).await;
        let late = || Err(Error::new(Code::Unavailable, "STORE_UNAVAILABLE", "the database does not answer in time"));
        match polled.unwrap_or_else(|_| late()) {
            Ok(next) => {
                seq = next;
                health.ready();
            }
            Err(error) => missed(&identity, &error, &health),
        }
    }
}

/// Takes over which networks are blocked, and applies what was revoked after `seq`; returns the last number seen.
async fn poll(identity: &Identity, mut seq: i64) -> Result<i64> {
    watch::read_blocks(identity).await?;
    loop {
        let rows = store::list_after(&identity.inner.db, seq, BATCH).await?;
        let now = identity.inner.clock.now();
        if identity.inner.pulse.silence(now) > MAX_SILENCE {
            identity.inner.cache.forget_all();
            identity.load_limits().await?;
            identity.load_origins().await?;
        }
        for tenant in rows.iter().filter_map(|(_, subject)| given::tenant_of(subject)).collect::<HashSet<_>>() {
            identity.load_limits_of(tenant).await?;
        }
        apply(identity, rows.iter().map(|(_, subject)| subject.as_str()));
        if rows.iter().any(|(_, subject)| subject.starts_with("tenant:")) {
            identity.load_origins().await?;
        }
        identity.inner.pulse.heard(now);
        seq = rows.last().map_or(seq, |(last, _)| *last);
        if rows.len() < BATCH as usize {
            return Ok(seq);
        }
    }
}

/// Drops what the subjects name. Subjects of other kinds are not cached here.
fn apply<'s>(identity: &Identity, subjects: impl Iterator<Item = &'s str>) {
    let (mut keys, mut tenants) = (HashSet::new(), HashSet::new());
    for subject in subjects {
        match subject.split_once(':') {
            Some(("key", id)) => keys.extend(KeyId::parse(id)),
            Some(("tenant", id)) => tenants.extend(TenantId::parse(id)),
            _ => {}
        }
    }
    if !keys.is_empty() || !tenants.is_empty() {
        identity.inner.cache.forget(|known| {
            let principal = &known.principal;
            principal.key.is_some_and(|key| keys.contains(&key)) || tenants.contains(&principal.tenant)
        });
    }
}

fn missed(identity: &Identity, error: &Error, health: &Component) {
    identity.inner.pulse.missed(error);
    if identity.inner.pulse.heard_within(identity.inner.grace, identity.inner.clock.now()) {
        health.degraded("the database is away; cached API keys go on");
    } else {
        health.failed("the database has been away for too long; no API key works");
    }
}
