//! SQL of `audit_entry` and `audit_head`.

use manifold_core::{Error, Result, TenantId};
use manifold_store::{Micros, SqlResultExt, Tx, on};

use crate::audit::chain::{Entry, Hash, START};

/// Appends an entry to its tenant's chain; its `seq` and `hash` are found here. The head's row is locked until the commit,
/// so this belongs to the last statements of a transaction.
pub async fn append(tx: &mut Tx<'_>, mut entry: Entry) -> Result<()> {
    let before;
    (entry.seq, before) = next(tx, TenantId(entry.tenant_id)).await?;
    entry.hash = entry.hash_after(&before).to_vec();
    let sql = "INSERT INTO audit_entry (tenant_id, seq, at, actor, action, target, outcome, request_id, trace_id, \
               detail_sha256, detail, hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(entry.tenant_id).bind(entry.seq).bind(Micros::from(entry.at));
        let query = query.bind(&entry.actor).bind(&entry.action).bind(&entry.target).bind(&entry.outcome);
        let query = query.bind(&entry.request_id).bind(&entry.trace_id).bind(entry.detail_sha256.as_slice());
        let query = query.bind(&entry.detail).bind(entry.hash.as_slice());
        query.execute(executor).await.map(|_| ())
    })
    .during("write down what was done")?;
    let sql = "UPDATE audit_head SET hash = $2 WHERE tenant_id = $1";
    on!(tx, |executor| {
        sqlx::query(sql).bind(entry.tenant_id).bind(entry.hash.as_slice()).execute(executor).await.map(|_| ())
    })
    .during("move the end of an audit chain")
}

/// The number of the next entry, and the hash that it stands behind.
async fn next(tx: &mut Tx<'_>, tenant: TenantId) -> Result<(i64, Hash)> {
    let sql = "INSERT INTO audit_head (tenant_id, seq, hash) VALUES ($1, 1, $2) \
               ON CONFLICT (tenant_id) DO UPDATE SET seq = audit_head.seq + 1 RETURNING seq, hash";
    let next: Result<(i64, Vec<u8>), _> =
        on!(tx, |executor| sqlx::query_as(sql).bind(tenant.0).bind(START.as_slice()).fetch_one(executor).await);
    let (seq, hash) = next.during("take the number of an audit entry")?;
    let wrong = |_| Error::internal("the hash of an audit entry has another length");
    Ok((seq, hash.try_into().map_err(wrong)?))
}
