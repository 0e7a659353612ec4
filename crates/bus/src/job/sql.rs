//! SQL of jobs for those who do not work on them, and what a row is.

use manifold_contract::events::v1::Event;
use manifold_core::{Error, JobId, PageRequest, Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, newest_first, on};
use prost::Message;
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::{Job, JobFilter, NewJob, State};
use crate::chain::Chain;

/// What makes a [`Job`].
pub(super) const COLUMNS: &str = "id, tenant_id, kind, state, args, run_at, n_attempts, max_attempts, cursor, done, total, chain, fence, \
                       cancel_at, result, error, created_at, finished_at";

#[derive(FromRow)]
pub(super) struct Columns {
    id: Uuid,
    tenant_id: Uuid,
    kind: String,
    state: i64,
    args: String,
    run_at: Micros,
    n_attempts: i64,
    max_attempts: i64,
    cursor: Option<String>,
    done: i64,
    total: Option<i64>,
    chain: Vec<u8>,
    fence: i64,
    cancel_at: Option<Micros>,
    result: Option<String>,
    error: Option<String>,
    created_at: Micros,
    finished_at: Option<Micros>,
}

impl TryFrom<Columns> for Job {
    type Error = Error;

    fn try_from(row: Columns) -> Result<Self> {
        let json = |text: String| {
            serde_json::from_str::<Value>(&text).map_err(|error| Error::internal("read a job").because(error))
        };
        let chain = Event::decode(&*row.chain).map_err(|error| Error::internal("read a job").because(error))?;
        Ok(Self {
            id: JobId(row.id),
            tenant: TenantId(row.tenant_id),
            kind: row.kind,
            state: state(row.state).ok_or_else(|| Error::internal("a job in an unknown state"))?,
            args: json(row.args)?,
            run_at: row.run_at.into(),
            n_attempts: row.n_attempts,
            max_attempts: row.max_attempts,
            cursor: row.cursor.map(json).transpose()?,
            done: row.done,
            total: row.total,
            chain: Chain(chain),
            fence: row.fence,
            cancel_at: row.cancel_at.map(Timestamp::from),
            result: row.result.map(json).transpose()?,
            error: row.error,
            created_at: row.created_at.into(),
            finished_at: row.finished_at.map(Timestamp::from),
        })
    }
}

pub(super) fn state(number: i64) -> Option<State> {
    State::ALL.into_iter().find(|state| *state as i64 == number)
}

pub(super) fn jobs(rows: Vec<Columns>) -> Result<Vec<Job>> {
    rows.into_iter().map(Job::try_from).collect()
}

/// Writes a job, unless one with its key waits or runs; the id of that which is there.
pub(super) async fn insert(tx: &mut Tx<'_>, id: Uuid, job: &NewJob, now: Timestamp) -> Result<Uuid> {
    // Changes nothing in a row that is there: without DO UPDATE its id would not be returned.
    let sql = "INSERT INTO job (id, tenant_id, kind, dedup_key, args, state, run_at, max_attempts, created_at, chain) \
               VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9) \
               ON CONFLICT (tenant_id, kind, dedup_key) WHERE state IN (1, 2) \
               DO UPDATE SET dedup_key = excluded.dedup_key RETURNING id";
    let inserted = on!(tx, |executor| {
        let query = sqlx::query_scalar(sql).bind(id).bind(job.tenant.0).bind(job.kind).bind(&job.dedup_key);
        let query = query.bind(job.args.to_string()).bind(Micros::from(job.run_at.unwrap_or(now)));
        let query = query.bind(job.max_attempts).bind(Micros::from(now)).bind(job.chain.0.encode_to_vec());
        query.fetch_one(executor).await
    });
    inserted.during("enqueue a job")
}

pub(super) async fn find(db: &Db, tenant: TenantId, id: JobId) -> Result<Option<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM job WHERE tenant_id = $1 AND id = $2");
    let row: Result<Option<Columns>, _> =
        on!(db, |pool| { sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.0).bind(id.0).fetch_optional(pool).await });
    row.during("read a job")?.map(Job::try_from).transpose()
}

pub(super) async fn list(
    db: &Db,
    tenant: Option<TenantId>,
    filter: &JobFilter,
    page: &PageRequest,
) -> Result<Vec<Job>> {
    // Two statements, so that the one of a tenant goes through its index.
    let whose = if tenant.is_some() { "tenant_id = $1" } else { "$1 IS NULL" };
    let sql = format!(
        "SELECT {COLUMNS} FROM job WHERE {whose} AND ($2 IS NULL OR kind = $2) AND ($3 IS NULL OR state = $3) \
         AND id < $4 ORDER BY id DESC LIMIT $5"
    );
    let (before, limit) = newest_first(page);
    let rows: Result<Vec<Columns>, _> = on!(db, |pool| {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.map(|tenant| tenant.0)).bind(&filter.kind);
        query.bind(filter.state.map(|state| state as i64)).bind(before).bind(limit).fetch_all(pool).await
    });
    jobs(rows.during("list jobs")?)
}

/// Ends a job that nobody works on; tells its worker otherwise. None if it has come to an end or is not there.
pub(super) async fn cancel(tx: &mut Tx<'_>, tenant: TenantId, id: JobId, now: Timestamp) -> Result<Option<Job>> {
    let sql = format!(
        "UPDATE job SET cancel_at = COALESCE(cancel_at, $3), \
         finished_at = CASE WHEN state = 1 OR lease_until < $3 THEN $3 END, \
         state = CASE WHEN state = 1 OR lease_until < $3 THEN 5 ELSE 2 END \
         WHERE tenant_id = $1 AND id = $2 AND state IN (1, 2) RETURNING {COLUMNS}"
    );
    let row: Result<Option<Columns>, _> = on!(tx, |executor| {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(tenant.0).bind(id.0).bind(Micros::from(now));
        query.fetch_optional(executor).await
    });
    row.during("cancel a job")?.map(Job::try_from).transpose()
}

/// Deletes the jobs of a kind whose arguments hold `mark`; which they were.
pub(super) async fn forget(tx: &mut Tx<'_>, kind: &str, mark: &str) -> Result<Vec<Uuid>> {
    let sql = "DELETE FROM job WHERE kind = $1 AND args <> REPLACE(args, $2, '') RETURNING id";
    on!(tx, |executor| sqlx::query_scalar(sql).bind(kind).bind(mark).fetch_all(executor).await).during("forget jobs")
}

/// Queues a dead job anew; false if it is not dead, or if another one with its key waits or runs.
pub(crate) async fn again(tx: &mut Tx<'_>, id: JobId, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE job SET state = 1, n_attempts = 0, run_at = $2, cancel_at = NULL, error = NULL, finished_at = NULL \
               WHERE id = $1 AND state = 4 AND NOT EXISTS (SELECT 1 FROM job AS other WHERE other.state IN (1, 2) \
               AND other.tenant_id = job.tenant_id AND other.kind = job.kind AND other.dedup_key = job.dedup_key)";
    let queued = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(id.0).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(queued.during("queue a dead job anew")? == 1)
}
