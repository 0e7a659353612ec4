//! SQL of keys whose secret is being replaced.

use manifold_core::{KeyId, Result, TenantId, Timestamp};
use manifold_store::{Micros, SqlResultExt, Tx, on};

/// Keeps others from changing a key, or its secrets, until the transaction ends.
pub async fn lock_key(tx: &mut Tx<'_>, tenant: TenantId, id: KeyId) -> Result<()> {
    let sql = "UPDATE api_key SET name = name WHERE tenant_id = $1 AND id = $2";
    on!(tx, |executor| sqlx::query(sql).bind(tenant.0).bind(id.0).execute(executor).await.map(|_| ()))
        .during("lock an API key")
}

/// Puts a tenant's key on the list of those of which somebody is reminded, by the age of its secret, or takes it off.
pub async fn schedule(tx: &mut Tx<'_>, tenant: TenantId, id: KeyId) -> Result<()> {
    let sql = "UPDATE api_key SET remind_at = rotate_days * 86400000000 + \
               (SELECT s.created_at FROM api_key_secret s WHERE s.key_id = api_key.id AND s.state = 'current') \
               WHERE tenant_id = $1 AND id = $2";
    on!(tx, |executor| sqlx::query(sql).bind(tenant.0).bind(id.0).execute(executor).await.map(|_| ()))
        .during("put a reminder down")
}

/// What becomes of the secrets of a key.
#[derive(Clone, Copy, Debug)]
pub enum Change {
    /// The current one becomes the old one, which ends.
    Replace {
        /// When it ends.
        ends_at: Timestamp,
        /// When to say that it is still used.
        warn_at: Timestamp,
    },
    /// The old one has ended, by now.
    DropOld(Timestamp),
    /// The new one has ended, by now.
    DropNew(Timestamp),
    /// The old one is the current one again.
    Restore,
}

/// Changes the secrets of a tenant's key.
pub async fn change_secrets(tx: &mut Tx<'_>, tenant: TenantId, id: KeyId, change: Change) -> Result<()> {
    let (from, to, ends_at, warn_at) = match change {
        Change::Replace { ends_at, warn_at } => ("current", "previous", Some(ends_at), Some(warn_at)),
        Change::DropOld(now) => ("previous", "revoked", Some(now), None),
        Change::DropNew(now) => ("current", "revoked", Some(now), None),
        Change::Restore => ("previous", "current", None, None),
    };
    // One that ended by itself before does not end again.
    let sql = "UPDATE api_key_secret SET state = $4, warn_at = $6, \
               expires_at = CASE WHEN $4 = 'revoked' AND expires_at < $5 THEN expires_at ELSE $5 END WHERE state = $3 \
               AND key_id = (SELECT id FROM api_key WHERE tenant_id = $1 AND id = $2)";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(id.0).bind(from).bind(to);
        let query = query.bind(ends_at.map(Micros::from)).bind(warn_at.map(Micros::from));
        query.execute(executor).await.map(|_| ())
    })
    .during("change the secrets of an API key")
}
