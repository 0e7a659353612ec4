//! The feed of revocations: what another process revoked is dead here within a second, whether or not anything else
//! connects the two. The feed is also the pulse of the database: it tells requests not to wait for one that is away.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use manifold_core::{Code, Error, KeyId, Result, SessionId, TenantId, Timestamp, UserId};
use manifold_runtime::health::Component;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use crate::limit::given;
use crate::store::revocation as store;
use crate::token::Bearer;
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

/// The subject of a change of the keys that sign access tokens.
pub const SIGNING: &str = "signing:";

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

/// The subject of the sessions of a person, and of what the person may do.
pub fn user_subject(id: UserId) -> String {
    format!("user:{id}")
}

/// The subject of the end of a session.
pub fn session_subject(id: SessionId) -> String {
    format!("session:{id}")
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
            warn!(error = error.chain(), "the database is away; cached API keys and access tokens go on");
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
        let missed = identity.inner.pulse.silence(now) > MAX_SILENCE;
        if missed {
            identity.inner.cache.forget_all();
            identity.inner.tokens.forget_all();
        }
        // First of all: what cannot be read again below must keep nothing alive.
        apply(identity, rows.iter().map(|(_, subject)| subject.as_str()));
        if missed {
            identity.load_limits().await?;
        }
        for tenant in rows.iter().filter_map(|(_, subject)| given::tenant_of(subject)).collect::<HashSet<_>>() {
            identity.load_limits_of(tenant).await?;
        }
        if missed || rows.iter().any(|(_, subject)| subject.starts_with("tenant:")) {
            identity.load_origins().await?;
        }
        if missed || rows.iter().any(|(_, subject)| subject == SIGNING) {
            identity.inner.signing.read(&identity.inner.db, &identity.inner.vault).await?;
        }
        identity.inner.pulse.heard(now);
        seq = rows.last().map_or(seq, |(last, _)| *last);
        if rows.len() < BATCH as usize {
            return Ok(seq);
        }
    }
}

impl Identity {
    /// Drops what this process has just revoked, before the feed comes by.
    pub(crate) fn forget(&self, subject: &str) {
        apply(self, std::iter::once(subject));
    }
}

/// What was revoked, by kind.
#[derive(Default)]
struct Revoked {
    keys: HashSet<KeyId>,
    users: HashSet<UserId>,
    sessions: HashSet<SessionId>,
    tenants: HashSet<TenantId>,
    /// Tenants where a role means something else now.
    roles: HashSet<TenantId>,
}

/// Drops what the subjects name; it is read again when it is asked for. Subjects of other kinds are not cached here.
fn apply<'s>(identity: &Identity, subjects: impl Iterator<Item = &'s str>) {
    let mut gone = Revoked::default();
    for subject in subjects {
        match subject.split_once(':') {
            Some(("key", id)) => gone.keys.extend(KeyId::parse(id)),
            Some(("user", id)) => gone.users.extend(UserId::parse(id)),
            Some(("session", id)) => gone.sessions.extend(SessionId::parse(id)),
            Some(("tenant", id)) => gone.tenants.extend(TenantId::parse(id)),
            Some(("roles", id)) => gone.roles.extend(TenantId::parse(id)),
            _ => {}
        }
    }
    if !gone.keys.is_empty() || !gone.tenants.is_empty() {
        identity.inner.cache.forget(|known| {
            let principal = &known.principal;
            principal.key.is_some_and(|key| gone.keys.contains(&key)) || gone.tenants.contains(&principal.tenant)
        });
    }
    if !gone.users.is_empty() || !gone.sessions.is_empty() || !gone.tenants.is_empty() || !gone.roles.is_empty() {
        identity.inner.tokens.forget(|seen| {
            let Bearer { user, session, tenant, .. } = seen.bearer;
            gone.users.contains(&user)
                || gone.sessions.contains(&session)
                || gone.tenants.contains(&tenant)
                || gone.roles.contains(&tenant)
        });
    }
}

fn missed(identity: &Identity, error: &Error, health: &Component) {
    identity.inner.pulse.missed(error);
    if identity.inner.pulse.heard_within(identity.inner.grace, identity.inner.clock.now()) {
        health.degraded("the database is away; cached API keys and access tokens go on");
    } else {
        health.failed("the database has been away for too long; no API key and no access token works");
    }
}
