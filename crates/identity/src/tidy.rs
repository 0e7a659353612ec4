//! Keeps the tables of the service small: revocations that every process has read, usage of long ago, events that everybody
//! has seen, dead letters and jobs of long ago, and answers that nobody asks for again.

use std::time::Duration;

use manifold_core::Result;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::notice::PLACES;
use crate::{Identity, revoke, usage};

const EVERY: Duration = Duration::from_secs(600);
/// How long sessions that are over, used tokens and tries to log in are kept.
const KEEP: Duration = Duration::from_secs(24 * 3_600);

/// Prunes now and then until shutdown.
pub async fn run(identity: Identity) {
    let stop = identity.inner.tasks.token();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = prune(&identity).await {
            warn!(%error, "cannot prune the tables of identity");
        }
    }
}

/// How long what looked like an attack is kept after its last sign; the audit chain keeps that it was noticed.
const INCIDENTS: Duration = Duration::from_secs(90 * 24 * 3_600);

async fn prune(identity: &Identity) -> Result<()> {
    let before = identity.inner.clock.now().before(revoke::RETAIN);
    manifold_store::prune(&identity.inner.db, "revocation", "seq", "at", before).await?;
    let before = identity.inner.clock.now().before(usage::MAX_WINDOW);
    manifold_store::prune(&identity.inner.db, "key_usage", "hour, key_id, outcome, operation", "hour", before).await?;
    let now = identity.inner.clock.now();
    manifold_store::prune(&identity.inner.db, "session", "expires_at, id", "expires_at", now.before(KEEP)).await?;
    manifold_store::prune(&identity.inner.db, "refresh_token", "expires_at, hash", "expires_at", now.before(KEEP))
        .await?;
    manifold_store::prune(&identity.inner.db, "one_time", "expires_at, hash", "expires_at", now.before(KEEP)).await?;
    manifold_store::prune(&identity.inner.db, "invitation", "id", "expires_at", now.before(KEEP)).await?;
    manifold_store::prune(&identity.inner.db, "login_attempt", "at, subject", "at", now.before(KEEP)).await?;
    let places = now.before(PLACES);
    manifold_store::prune(&identity.inner.db, "user_place", "seen_at, user_id, network", "seen_at", places).await?;
    manifold_store::prune(&identity.inner.db, "incident", "last_at, id", "last_at", now.before(INCIDENTS)).await?;
    identity.purge_tenants().await?;
    manifold_store::prune(&identity.inner.db, "network_block", "id", "expires_at", now).await?;
    identity.inner.outbox.tidy(&identity.inner.db).await
}
