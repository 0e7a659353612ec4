//! The patrol: every chain is verified at start, when it may have been changed while nobody looked, and once a day.

use std::time::Duration;

use manifold_core::{Result, TenantId};
use tracing::warn;

use crate::Identity;
use crate::store::audit as store;

const EVERY: Duration = Duration::from_secs(24 * 3_600);

/// Verifies chains until shutdown.
pub async fn run(identity: Identity) {
    let stop = identity.inner.tasks.token();
    let patrolling = async {
        loop {
            if let Err(error) = verify_all(&identity).await {
                warn!(%error, "cannot verify the audit chains");
            }
            tokio::time::sleep(EVERY).await;
        }
    };
    stop.run_until_cancelled(patrolling).await;
}

/// What is found becomes an incident.
async fn verify_all(identity: &Identity) -> Result<()> {
    for tenant in store::list_chains(&identity.inner.db).await? {
        // Whoever makes one chain unreadable must not hide the others.
        if let Err(error) = identity.verify_chain(TenantId(tenant)).await {
            warn!(tenant = %TenantId(tenant), %error, "cannot verify an audit chain");
        }
    }
    Ok(())
}
