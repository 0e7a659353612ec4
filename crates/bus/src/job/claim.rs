//! SQL of those who work. Whatever a worker writes about its job asks for its fence in the same statement.

use std::time::Duration;

use manifold_core::{Result, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use serde_json::Value;
use sqlx::{AssertSqlSafe, FromRow};
use uuid::Uuid;

use super::running::{Hold, Progress};
use super::sql::{COLUMNS, Columns, jobs, state};
use super::{Job, State, Worker};

/// Tenants that have a job to do and may run one more: who runs least comes first, then who waits longest. One look at an
/// index per tenant, however many jobs each has.
pub(super) async fn waiting(db: &Db, worker: &Worker, now: Timestamp, limit: usize) -> Result<Vec<Uuid>> {
    let sql = "WITH RECURSIVE tenant (id) AS ( \
                 SELECT * FROM (SELECT tenant_id FROM job WHERE kind = $1 AND state = 1 ORDER BY tenant_id LIMIT 1) AS first \
                 UNION ALL \
                 SELECT (SELECT tenant_id FROM job WHERE kind = $1 AND state = 1 AND tenant_id > tenant.id \
                         ORDER BY tenant_id LIMIT 1) \
                 FROM tenant WHERE tenant.id IS NOT NULL) \
               SELECT id FROM ( \
                 SELECT tenant.id, \
                   (SELECT MIN(run_at) FROM job WHERE kind = $1 AND tenant_id = tenant.id AND state = 1) AS first_at, \
                   (SELECT COUNT(*) FROM job WHERE kind = $1 AND tenant_id = tenant.id AND state = 2) AS n_running \
                 FROM tenant WHERE tenant.id IS NOT NULL) AS waiting \
               WHERE first_at <= $2 AND n_running < $3 ORDER BY n_running, first_at LIMIT $4";
    let tenants = on!(db, |pool| {
        let query = sqlx::query_scalar(sql).bind(worker.kind).bind(Micros::from(now)).bind(worker.per_tenant);
        query.bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(pool).await
    });
    tenants.during("look for jobs")
}

/// Lets one claim of a kind follow the other, so that what a tenant runs is counted right. On SQLite they do so anyway.
pub(super) async fn lock(tx: &mut Tx<'_>, kind: &str) -> Result<()> {
    let Tx::Postgres(connection) = tx else { return Ok(()) };
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('manifold.job.' || current_schema() || '.' || $1, 0))";
    sqlx::query(sql).bind(kind).execute(&mut **connection).await.map(|_| ()).during("wait for other claims")
}

/// Gives up to `n` jobs of a tenant that are due to a worker, as many as the tenant may run.
pub(super) async fn claim(
    tx: &mut Tx<'_>,
    worker: &Worker,
    tenant: Uuid,
    n: usize,
    now: Timestamp,
) -> Result<Vec<Job>> {
    let sql = format!(
        "UPDATE job SET state = 2, lease_until = $6, fence = fence + 1, n_attempts = n_attempts + 1 \
         WHERE state = 1 AND id IN ( \
           SELECT id FROM job WHERE kind = $1 AND tenant_id = $2 AND state = 1 AND run_at <= $3 ORDER BY run_at, id LIMIT ( \
             SELECT CASE WHEN COUNT(*) >= $4 THEN 0 WHEN $4 - COUNT(*) < $5 THEN $4 - COUNT(*) ELSE $5 END \
             FROM job WHERE kind = $1 AND tenant_id = $2 AND state = 2)) \
         RETURNING {COLUMNS}"
    );
    let rows: Result<Vec<Columns>, _> = on!(tx, |executor| {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(worker.kind).bind(tenant).bind(Micros::from(now));
        let query = query.bind(worker.per_tenant).bind(i64::try_from(n).unwrap_or(i64::MAX));
        query.bind(Micros::from(now.after(worker.lease))).fetch_all(executor).await
    });
    jobs(rows.during("claim jobs")?)
}

/// What a worker writes about its job.
pub(super) enum Mark {
    Progress(Progress),
    Result(Value),
}

/// Writes how far a job is, or what came out. How many attempts it had since it last got further, this one included; None
/// if the fence is old.
pub(super) async fn mark(
    tx: &mut Tx<'_>,
    hold: Hold,
    mark: &Mark,
    now: Timestamp,
    lease: Duration,
) -> Result<Option<i64>> {
    let sql = match mark {
        Mark::Progress(_) => {
            "UPDATE job SET lease_until = $3, cursor = $4, done = $5, total = $6, \
             n_attempts = CASE WHEN cursor IS NOT DISTINCT FROM $4 THEN n_attempts ELSE 1 END \
             WHERE id = $1 AND fence = $2 AND state = 2 RETURNING n_attempts"
        }
        Mark::Result(_) => {
            "UPDATE job SET state = 3, finished_at = $3, result = $4, lease_until = NULL, error = NULL \
             WHERE id = $1 AND fence = $2 AND state = 2 RETURNING n_attempts"
        }
    };
    let marked = on!(tx, |executor| {
        let query = sqlx::query_scalar(sql).bind(hold.id).bind(hold.fence);
        let query = match mark {
            Mark::Progress(progress) => {
                let query = query.bind(Micros::from(now.after(lease))).bind(progress.cursor.to_string());
                query.bind(progress.done).bind(progress.total)
            }
            Mark::Result(result) => query.bind(Micros::from(now)).bind(result.to_string()),
        };
        query.fetch_optional(executor).await
    });
    marked.during("write a step of a job")
}

/// Extends a lease; whether the job is canceled. None if the fence is old.
pub(super) async fn beat(tx: &mut Tx<'_>, hold: Hold, until: Timestamp) -> Result<Option<bool>> {
    let sql = "UPDATE job SET lease_until = $3 WHERE id = $1 AND fence = $2 AND state = 2 RETURNING cancel_at";
    let cancel_at: Result<Option<Option<Micros>>, _> = on!(tx, |executor| {
        let query = sqlx::query_scalar(sql).bind(hold.id).bind(hold.fence).bind(Micros::from(until));
        query.fetch_optional(executor).await
    });
    Ok(cancel_at.during("extend the lease of a job")?.map(|cancel_at| cancel_at.is_some()))
}

/// Which running jobs.
#[derive(Clone, Copy)]
pub(super) enum Whose {
    /// This one, under this lease.
    Held(Hold),
    /// Those of a kind whose leases have run out.
    Expired(&'static str),
}

/// Why jobs are given back, and until when they rest.
pub(super) struct Release {
    pub(super) now: Timestamp,
    pub(super) run_at: Timestamp,
    /// Of the dead letter, if there is one.
    pub(super) reason: &'static str,
    /// Whether this was the last attempt whatever the number.
    pub(super) last: bool,
    pub(super) error: String,
}

/// A job that was given back.
#[derive(FromRow)]
pub(super) struct Released {
    pub(super) id: Uuid,
    pub(super) tenant_id: Uuid,
    pub(super) args: String,
    state: i64,
}

impl Released {
    pub(super) fn state(&self) -> Option<State> {
        state(self.state)
    }
}

/// Gives running jobs back: canceled if somebody wished it, dead if their attempts are used up, else queued.
pub(super) async fn release(tx: &mut Tx<'_>, whose: Whose, release: &Release) -> Result<Vec<Released>> {
    let these = match whose {
        Whose::Held(_) => "id = $5 AND fence = $6",
        Whose::Expired(_) => "kind = $5 AND lease_until < $1",
    };
    let sql = format!(
        "UPDATE job SET lease_until = NULL, run_at = $2, error = $3, \
         state = CASE WHEN cancel_at IS NOT NULL THEN 5 WHEN $4 OR n_attempts >= max_attempts THEN 4 ELSE 1 END, \
         finished_at = CASE WHEN cancel_at IS NOT NULL OR $4 OR n_attempts >= max_attempts THEN $1 END \
         WHERE state = 2 AND {these} RETURNING id, tenant_id, args, state"
    );
    let released = on!(tx, |executor| {
        let query = sqlx::query_as(AssertSqlSafe(sql)).bind(Micros::from(release.now));
        let query = query.bind(Micros::from(release.run_at)).bind(&release.error).bind(release.last);
        let query = match whose {
            Whose::Held(hold) => query.bind(hold.id).bind(hold.fence),
            Whose::Expired(kind) => query.bind(kind),
        };
        query.fetch_all(executor).await
    });
    released.during("give jobs back")
}

/// How many jobs of a kind there are.
#[derive(FromRow)]
pub(super) struct Counts {
    pub(super) n_queued: i64,
    pub(super) n_running: i64,
    /// Those whose leases have run out.
    pub(super) n_expired: i64,
}

pub(super) async fn counts(db: &Db, kind: &str, now: Timestamp) -> Result<Counts> {
    let sql = "SELECT (SELECT COUNT(*) FROM job WHERE kind = $1 AND state = 1) AS n_queued, \
               (SELECT COUNT(*) FROM job WHERE kind = $1 AND state = 2) AS n_running, \
               (SELECT COUNT(*) FROM job WHERE kind = $1 AND state = 2 AND lease_until < $2) AS n_expired";
    on!(db, |pool| sqlx::query_as(sql).bind(kind).bind(Micros::from(now)).fetch_one(pool).await).during("count jobs")
}
