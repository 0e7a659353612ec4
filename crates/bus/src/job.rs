//! Jobs: work that outlives its process. A job is a row; who works on it holds a lease and a number, the fence, that grows
//! with each lease, so that a write of somebody who has lost the lease changes nothing. Here: what a job is, and what those
//! do with jobs who do not work on them.

mod claim;
mod reap;
mod running;
mod sql;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use manifold_core::{Clock, Error, Ids, JobId, Page, PageRequest, Result, TenantId, Timestamp};
use manifold_store::{Db, Tx};
use serde_json::Value;

use crate::chain::Chain;
use crate::dead;

pub use running::{Done, Progress, Running};
pub(crate) use sql::again;
pub use work::Worker;

/// Largest arguments as JSON: those of an event. What is larger belongs where artefacts are kept.
const MAX_ARGS: usize = 256 * 1024;
/// Longest key, in bytes.
const MAX_KEY: usize = 200;
/// How long jobs stay after their end.
const RETAIN: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Work to be done.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which worker does it.
    pub kind: &'static str,
    /// While a job of this tenant and kind with this key waits or runs, no other is made. At most 200 bytes.
    pub dedup_key: Option<String>,
    /// What the worker needs to know, at most 256 KiB of JSON.
    pub args: Value,
    /// Not before; None = at once.
    pub run_at: Option<Timestamp>,
    /// How often it may fail before it is given up. It is counted anew whenever the job has got further.
    pub max_attempts: i64,
    /// What it is enqueued for, told by the events that it causes: [`Cause::chain`](crate::Cause::chain).
    pub chain: Chain,
}

impl NewJob {
    /// A job to be done at once, with up to five attempts.
    pub fn new(tenant: TenantId, kind: &'static str, args: Value) -> Self {
        let chain = Chain::default();
        Self { tenant, kind, dedup_key: None, args, run_at: None, max_attempts: 5, chain }
    }

    fn check(&self) -> Result<()> {
        if self.args.to_string().len() > MAX_ARGS {
            let message = format!("the arguments of a job of kind {} are larger than 256 KiB", self.kind);
            return Err(Error::invalid("JOB_TOO_LARGE", message));
        }
        let keys = self.dedup_key.iter();
        if keys.clone().any(|key| key.is_empty() || key.len() > MAX_KEY || key.contains('\0')) {
            let message = "the key of a job has 1 to 200 bytes and no NUL character";
            return Err(Error::invalid("JOB_KEY_INVALID", message));
        }
        Ok(())
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits for its time or for a worker.
    Queued = 1,
    /// A worker has it.
    Running = 2,
    /// Done.
    Succeeded = 3,
    /// Given up; there is a dead letter.
    Dead = 4,
    /// Somebody did not want it any more.
    Canceled = 5,
}

impl State {
    /// All of them, in the order of a job's life.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Succeeded, Self::Dead, Self::Canceled];

    /// As in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Dead => "dead",
            Self::Canceled => "canceled",
        }
    }
}

/// A job as it stands in the table.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Which worker does it.
    pub kind: String,
    /// Where it stands.
    pub state: State,
    /// What the worker needs to know.
    pub args: Value,
    /// Not before.
    pub run_at: Timestamp,
    /// Attempts since it last got further.
    pub n_attempts: i64,
    /// How many of them it has.
    pub max_attempts: i64,
    /// From where to go on; None = from the start.
    pub cursor: Option<Value>,
    /// How many items are done.
    pub done: i64,
    /// Of how many.
    pub total: Option<i64>,
    /// What it was enqueued for.
    pub chain: Chain,
    /// Number of its lease. Part of the name of everything that it writes outside of the database.
    pub fence: i64,
    /// When somebody did not want it any more.
    pub cancel_at: Option<Timestamp>,
    /// What came out.
    pub result: Option<Value>,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it was enqueued.
    pub created_at: Timestamp,
    /// When it came to an end.
    pub finished_at: Option<Timestamp>,
}

/// Which jobs.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only those that stand there.
    pub state: Option<State>,
}

/// The jobs of one service. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Jobs {
    db: Db,
    clock: Clock,
    ids: Ids,
    /// How many were enqueued in this process: workers look for jobs when it has grown.
    enqueued: Arc<AtomicU64>,
}

impl Jobs {
    /// The jobs in `db`.
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, ids: Ids::new(clock.clone()), clock, enqueued: Arc::default() }
    }

    /// Writes a job in the caller's transaction: it is there once that is committed. If one with the same key waits or
    /// runs, its id is returned. A job that is refused leaves the transaction usable.
    pub async fn enqueue(&self, tx: &mut Tx<'_>, job: &NewJob) -> Result<JobId> {
        job.check()?;
        let id = sql::insert(tx, self.ids.next(), job, self.clock.now()).await?;
        self.enqueued.fetch_add(1, Ordering::Relaxed);
        Ok(JobId(id))
    }

    /// A job of a tenant.
    pub async fn get(&self, tenant: TenantId, id: JobId) -> Result<Job> {
        let job = sql::find(&self.db, tenant, id).await?;
        job.ok_or_else(|| Error::not_found("JOB_NOT_FOUND", format!("there is no job {id}")))
    }

    /// Jobs of a tenant, the newest first.
    pub async fn list(&self, tenant: TenantId, filter: &JobFilter, page: &PageRequest) -> Result<Page<Job>> {
        list(&self.db, Some(tenant), filter, page).await
    }

    /// Lets nobody begin a job, or its worker stop within 20 seconds: until then it is still running. A job that has come
    /// to an end stays as it is.
    pub async fn cancel(&self, tenant: TenantId, id: JobId) -> Result<Job> {
        let now = self.clock.now();
        let canceled =
            self.db.write("cancel a job", move |tx| Box::pin(async move { sql::cancel(tx, tenant, id, now).await }));
        match canceled.await? {
            Some(job) => Ok(job),
            None => self.get(tenant, id).await,
        }
    }

    /// Deletes the jobs of a kind whose arguments hold `mark`, wherever they stand and whosever they are, with their dead
    /// letters: what they hold shall be known to nobody any more. Who works on one has lost its lease.
    pub async fn forget(&self, tx: &mut Tx<'_>, kind: &str, mark: &str) -> Result<()> {
        for job in sql::forget(tx, kind, mark).await? {
            dead::forget(tx, &JobId(job).to_string()).await?;
        }
        Ok(())
    }

    /// Deletes jobs that came to an end more than 30 days ago, and counts them.
    pub async fn prune(&self) -> Result<u64> {
        manifold_store::prune(&self.db, "job", "id", "finished_at", self.clock.now().before(RETAIN)).await
    }
}

/// Jobs of all tenants, for the people who run the system, the newest first.
pub async fn all_jobs(db: &Db, filter: &JobFilter, page: &PageRequest) -> Result<Page<Job>> {
    list(db, None, filter, page).await
}

async fn list(db: &Db, tenant: Option<TenantId>, filter: &JobFilter, page: &PageRequest) -> Result<Page<Job>> {
    let rows = sql::list(db, tenant, filter, page).await?;
    Ok(Page::cut(page, rows, |job| job.id.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_large_arguments_and_useless_keys_are_refused() {
        let job = NewJob::new(TenantId(uuid::Uuid::nil()), "export", Value::Null);
        let large = NewJob { args: Value::String("x".repeat(MAX_ARGS)), ..job.clone() };
        let keyed = |key: &str| NewJob { dedup_key: Some(key.to_owned()), ..job.clone() };

        assert!(job.check().is_ok() && keyed(&"k".repeat(200)).check().is_ok());
        assert_eq!(large.check().unwrap_err().reason(), "JOB_TOO_LARGE");
        for key in ["", "a\0b", &"k".repeat(201)] {
            assert_eq!(keyed(key).check().unwrap_err().reason(), "JOB_KEY_INVALID");
        }
    }
}
