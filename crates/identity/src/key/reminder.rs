//! What is said about secrets without being asked: that their time to be replaced has come, and, when half of the grace is over,
//! that an old one is still used. Each is said once, whichever process comes first.

use std::sync::Arc;
use std::time::Duration;

use manifold_bus::Draft;
use manifold_core::{KeyId, Result, TenantId, Timestamp};
use manifold_store::Tx;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;
use uuid::Uuid;

use super::Origin;
use crate::store::key as keys;
use crate::store::reminder as store;
use crate::{Identity, events};

const EVERY: Duration = Duration::from_secs(60);
/// Keys per look.
const BATCH: i64 = 100;

#[derive(Clone, Copy)]
enum Kind {
    Due,
    Old,
}

/// Reminds until shutdown.
pub async fn run(identity: Identity) {
    let stop = identity.inner.tasks.token();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = remind(&identity).await {
            warn!(%error, "cannot remind of secrets that should be replaced");
        }
    }
}

/// Says what is to be said now. What does not fit waits for the next time.
async fn remind(identity: &Identity) -> Result<()> {
    let (db, now) = (&identity.inner.db, identity.inner.clock.now());
    for (tenant, key) in store::list_due(db, now, BATCH).await? {
        say(identity, Kind::Due, tenant, key, now).await?;
    }
    for (tenant, key) in store::list_old(db, now, BATCH).await? {
        say(identity, Kind::Old, tenant, key, now).await?;
    }
    Ok(())
}

async fn say(identity: &Identity, kind: Kind, tenant: Uuid, key: Uuid, now: Timestamp) -> Result<()> {
    let (tenant, key) = (TenantId(tenant), KeyId(key));
    let work = Arc::new((identity.inner.outbox.clone(), Origin::of_house(&identity.inner.ids, tenant)));
    let said = identity.inner.db.write("remind of a secret", move |tx| {
        let work = Arc::clone(&work);
        Box::pin(async move {
            let event = match kind {
                Kind::Due => due(tx, tenant, key, now).await?,
                Kind::Old => old(tx, tenant, key, now).await?,
            };
            match event {
                Some(event) => work.0.append(tx, &[event], &work.1.cause()).await,
                None => Ok(()),
            }
        })
    });
    said.await
}

async fn due(tx: &mut Tx<'_>, tenant: TenantId, key: KeyId, now: Timestamp) -> Result<Option<Draft>> {
    if !store::take_due(tx, tenant, key, now).await? {
        return Ok(None);
    }
    let Some(row) = keys::find_key_in(tx, tenant, key).await? else { return Ok(None) };
    let data = json!({ "id": key.to_string(), "name": row.name, "rotate_every": row.rotate_days,
        "rotation_due_at": row.due_at().map(|time| time.to_string()) });
    Ok(Some(events::key("identity.key.rotation_due", tenant, key, &data)))
}

/// Only if the old secret was used since there is a new one.
async fn old(tx: &mut Tx<'_>, tenant: TenantId, key: KeyId, now: Timestamp) -> Result<Option<Draft>> {
    let Some(secret) = store::take_old(tx, tenant, key, now).await? else { return Ok(None) };
    let Some(row) = keys::find_key_in(tx, tenant, key).await? else { return Ok(None) };
    let used_at = secret.last_used_at.map(Timestamp::from).filter(|used_at| *used_at > row.secret_created_at);
    let data = json!({ "id": key.to_string(), "name": row.name,
        "old_prefix": format!("mfk_{}_{}", row.environment, secret.lookup),
        "old_ends_at": secret.expires_at.map(|time| Timestamp::from(time).to_string()),
        "old_used_at": used_at.map(|time| time.to_string()) });
    Ok(used_at.map(|_| events::key("identity.key.old_secret_used", tenant, key, &data)))
}
