//! SQL of `audit_entry`, `audit_head` and `audit_checkpoint`.

use manifold_core::{Error, Result, TenantId, Timestamp};
use manifold_runtime::Mark;
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::audit::chain::{Entry, Hash, START};
use crate::audit::checkpoint::Checkpoint;

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

/// Whether another request than this one has done something to a target since the mark.
pub async fn has_others_since(tx: &mut Tx<'_>, mark: Mark, target: &str, request: &str) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM audit_entry WHERE tenant_id = $1 AND seq > $2 AND target = $3 \
               AND (request_id IS NULL OR request_id <> $4)";
    let others = on!(tx, |executor| {
        let query = sqlx::query_scalar::<_, i64>(sql).bind(mark.tenant.0).bind(mark.seq).bind(target);
        query.bind(request).fetch_one(executor).await
    });
    Ok(others.during("look for what was done meanwhile")? > 0)
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

/// What is told in particular of what was done to a target, in the chain of whichever tenant_id.
pub async fn details_of(tx: &mut Tx<'_>, target: &str) -> Result<Vec<String>> {
    let sql = "SELECT detail FROM audit_entry WHERE tenant_id IS NOT NULL AND target = $1 AND detail IS NOT NULL";
    on!(tx, |executor| sqlx::query_scalar(sql).bind(target).fetch_all(executor).await)
        .during("read what was done to somebody")
}

/// Erases it. The chains hold.
pub async fn erase_details(tx: &mut Tx<'_>, target: &str) -> Result<()> {
    let sql = "UPDATE audit_entry SET detail = NULL WHERE tenant_id IS NOT NULL AND target = $1 AND detail IS NOT NULL";
    on!(tx, |executor| sqlx::query(sql).bind(target).execute(executor).await.map(|_| ()))
        .during("erase what was done to somebody")
}

/// Erases whom invitations were for that hold this text, in lower case.
pub async fn erase_invited(tx: &mut Tx<'_>, text: &str) -> Result<()> {
    let sql = "UPDATE audit_entry SET detail = NULL WHERE tenant_id IS NOT NULL AND action = 'identity.invitation.created' \
               AND detail IS NOT NULL AND LOWER(detail) <> REPLACE(LOWER(detail), $1, '')";
    on!(tx, |executor| sqlx::query(sql).bind(text).execute(executor).await.map(|_| ())).during("erase who was invited")
}

/// Which entries are wanted. What is None does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Who did it.
    pub actor: Option<String>,
    /// What was done.
    pub action: Option<String>,
    /// To what.
    pub target: Option<String>,
    /// `ok`, `failed` or `denied`.
    pub outcome: Option<String>,
    /// Not before.
    pub from: Option<Timestamp>,
    /// Before.
    pub to: Option<Timestamp>,
}

/// In which order entries are read, from where on.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// The newest first, of those before this number.
    Newest(i64),
    /// The oldest first, of those after this number.
    Oldest(i64),
}

const COLUMNS: &str =
    "tenant_id, seq, at, actor, action, target, outcome, request_id, trace_id, detail_sha256, detail, hash";

/// Entries of a tenant's chain.
pub async fn list(db: &Db, tenant: TenantId, filter: &AuditFilter, order: Order, limit: i64) -> Result<Vec<Entry>> {
    let (place, order, start) = match order {
        Order::Newest(before) => ("seq < $2", "DESC", before),
        Order::Oldest(after) => ("seq > $2", "ASC", after),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM audit_entry WHERE tenant_id = $1 AND {place} AND ($3 IS NULL OR actor = $3) \
         AND ($4 IS NULL OR action = $4) AND ($5 IS NULL OR target = $5) AND ($6 IS NULL OR outcome = $6) \
         AND ($7 IS NULL OR at >= $7) AND ($8 IS NULL OR at < $8) ORDER BY seq {order} LIMIT $9"
    );
    on!(db, |executor| {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.0).bind(start).bind(&filter.actor);
        let query = query.bind(&filter.action).bind(&filter.target).bind(&filter.outcome);
        let query = query.bind(filter.from.map(Micros::from)).bind(filter.to.map(Micros::from));
        query.bind(limit).fetch_all(executor).await
    })
    .during("list audit entries")
}

/// The number and hash of the last entry of a tenant's chain.
pub async fn head(db: &Db, tenant: TenantId) -> Result<Option<(i64, Vec<u8>)>> {
    let sql = "SELECT seq, hash FROM audit_head WHERE tenant_id = $1";
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).fetch_optional(executor).await)
        .during("read the end of an audit chain")
}

/// Tenants that have a chain: every one, and nil.
pub async fn list_chains(db: &Db) -> Result<Vec<Uuid>> {
    let sql = "SELECT tenant_id FROM audit_head ORDER BY tenant_id";
    on!(db, |executor| sqlx::query_scalar(sql).fetch_all(executor).await).during("list audit chains")
}

/// Ends of chains, of whatever tenant_id, that grew by `entries` since they were signed or began, or at all if that was
/// before `before`.
pub async fn list_unsigned(db: &Db, entries: i64, before: Timestamp) -> Result<Vec<(Uuid, i64, Vec<u8>)>> {
    let sql = "SELECT h.tenant_id, h.seq, h.hash FROM audit_head h LEFT JOIN \
               audit_checkpoint c ON c.tenant_id = h.tenant_id AND c.seq = \
               (SELECT MAX(seq) FROM audit_checkpoint WHERE tenant_id = h.tenant_id) WHERE h.seq > COALESCE(c.seq, 0) \
               AND (h.seq - COALESCE(c.seq, 0) >= $1 OR COALESCE(c.at, (SELECT e.at FROM audit_entry e \
               WHERE e.tenant_id = h.tenant_id AND e.seq = 1)) <= $2) ORDER BY h.tenant_id";
    on!(db, |executor| sqlx::query_as(sql).bind(entries).bind(Micros::from(before)).fetch_all(executor).await)
        .during("look for audit chains to sign")
}

/// Inserts a signature; false if there is one of this place.
pub async fn insert_checkpoint(tx: &mut Tx<'_>, new: &Checkpoint) -> Result<bool> {
    let sql = "INSERT INTO audit_checkpoint (tenant_id, seq, hash, at, kid, signature) VALUES ($1, $2, $3, $4, $5, $6) \
               ON CONFLICT (tenant_id, seq) DO NOTHING";
    let inserted = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(new.tenant_id).bind(new.seq).bind(new.hash.as_slice());
        let query = query.bind(Micros::from(new.at)).bind(&new.kid).bind(new.signature.as_slice());
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(inserted.during("keep the signature of an audit chain")? == 1)
}

/// The signatures of a tenant's chain, the oldest first.
pub async fn list_checkpoints(db: &Db, tenant: TenantId) -> Result<Vec<Checkpoint>> {
    let sql = "SELECT tenant_id, seq, hash, at, kid, signature FROM audit_checkpoint WHERE tenant_id = $1 ORDER BY seq";
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).fetch_all(executor).await)
        .during("list the signatures of an audit chain")
}
