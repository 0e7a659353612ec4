//! A job in the hands of its handler: how far it is, what it writes, how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::BoxFuture;
use manifold_core::{Code, Error, Result};
use manifold_store::Tx;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::claim::{self, Mark};
use super::{Job, Jobs, Worker};
use crate::failure::Failure;

/// Proof that a job has come to its end: only [`Running::finish`] makes it.
#[derive(Debug)]
pub struct Done(());

/// How far a job is.
#[derive(Clone, Debug)]
pub struct Progress {
    /// How many items are done.
    pub done: i64,
    /// Of how many, if that is known.
    pub total: Option<i64>,
    /// From where another attempt goes on.
    pub cursor: Value,
}

/// Which job under which lease.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hold {
    pub(super) id: Uuid,
    pub(super) fence: i64,
}

/// What the handler and those who watch over it have in common.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) hold: Hold,
    /// Attempts since the job last got further.
    pub(super) n_attempts: AtomicI64,
    /// The lease is lost, or the handler has ended.
    pub(super) stop: CancellationToken,
}

/// A job in the hands of its handler, which is dropped when the job is canceled or its lease lost. All that it writes goes
/// through here: it is refused once another worker has the job.
#[derive(Debug)]
pub struct Running {
    jobs: Jobs,
    worker: Worker,
    job: Job,
    lease: Arc<Lease>,
    /// False while it is not known whether the last write took place.
    settled: bool,
}

impl Running {
    pub(super) fn new(jobs: Jobs, worker: Worker, job: Job, lease: Arc<Lease>) -> Self {
        Self { jobs, worker, job, lease, settled: true }
    }

    /// The job as it was when this attempt began: its arguments, the cursor to go on from, the fence.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// For threads and processes that the handler has started: canceled when the handler ends or is dropped.
    pub fn stop(&self) -> CancellationToken {
        self.lease.stop.clone()
    }

    /// Tells how far the job is.
    pub async fn progress(&mut self, progress: Progress) -> Result<()> {
        self.step(progress, |_| Box::pin(async { Ok(()) })).await
    }

    /// Writes effects and how far the job is with them in one transaction: an attempt that begins at the cursor repeats
    /// none of them. `effects` is SQL and nothing else, as in `Db::write`. If they fail, nothing is written.
    /// `JOB_LEASE_LOST` if another worker has the job by now. After an error that leaves open whether it was written, every
    /// further step is refused: the next attempt reads from the table how far the job is.
    pub async fn step<T, F>(&mut self, progress: Progress, effects: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
    {
        self.write(Mark::Progress(progress), effects).await
    }

    /// Writes the last effects and the result in one transaction. Otherwise as [`Running::step`].
    pub async fn finish<F>(mut self, result: Value, effects: F) -> Result<Done, Failure>
    where
        F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<()>> + Send + Sync + 'static,
    {
        self.write(Mark::Result(result), effects).await?;
        Ok(Done(()))
    }

    async fn write<T, F>(&mut self, mark: Mark, effects: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
    {
        if self.lease.stop.is_cancelled() {
            return Err(lost());
        }
        // Whoever drops this future does not learn whether it was written, either.
        if !std::mem::take(&mut self.settled) {
            let message =
                "it is not known whether the last step of the job was written: end this attempt with an error";
            return Err(Error::new(Code::Unavailable, "STORE_UNAVAILABLE", message));
        }
        let now = self.jobs.clock.now();
        let work = Arc::new((self.lease.hold, mark, effects, self.worker.lease));
        let written = self.jobs.db.write("write a step of a job", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (hold, mark, effects, lease) = &*work;
                let Some(n_attempts) = claim::mark(tx, *hold, mark, now, *lease).await? else { return Ok(None) };
                Ok(Some((n_attempts, effects(tx).await?)))
            })
        });
        let written = written.await;
        self.settled = match &written {
            Ok(written) => written.is_some(),
            Err(error) => error.code() != Code::Unavailable,
        };
        let Some((n_attempts, value)) = written? else {
            self.lease.stop.cancel();
            return Err(lost());
        };
        self.lease.n_attempts.store(n_attempts, Ordering::Relaxed);
        Ok(value)
    }
}

fn lost() -> Error {
    let message = "another worker has the job, or it has come to an end: nothing was written";
    Error::new(Code::Conflict, "JOB_LEASE_LOST", message)
}
