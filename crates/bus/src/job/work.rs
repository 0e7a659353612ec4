//! Workers: they claim jobs, let the handler work, and keep the leases meanwhile.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{FusedFuture, join};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use manifold_core::{Error, Result};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::claim;
use super::running::{Done, Hold, Lease, Running};
use super::{Job, Jobs};
use crate::failure::{Failure, pause};

/// Who works on which jobs.
#[derive(Clone, Copy, Debug)]
pub struct Worker {
    /// The jobs' kind.
    pub kind: &'static str,
    /// How many run here at a time, at most.
    pub slots: usize,
    /// How many of one tenant run at a time, at most, in all processes together.
    pub per_tenant: i64,
    /// How long a job is kept for a worker that says nothing. It says something after each third of that time, and stops
    /// if it could not for two thirds.
    pub lease: Duration,
}

impl Worker {
    /// Four jobs of a tenant at a time, with a lease of a minute.
    pub fn new(kind: &'static str, slots: usize) -> Self {
        Self { kind, slots, per_tenant: 4, lease: Duration::from_secs(60) }
    }
}

impl Jobs {
    /// Works on jobs until it is dropped, which harms nothing: their leases run out, and other workers go on from where
    /// they were. The handler gets a job and ends with [`Running::finish`]; an error or a panic brings the job back after
    /// a pause. All jobs of a worker share its task: what computes for long goes to a thread.
    pub async fn work<H, F>(self, worker: Worker, handler: H)
    where
        H: Fn(Running) -> F + Send + Sync,
        F: Future<Output = Result<Done, Failure>> + Send,
    {
        let crew = Crew { jobs: self, worker, handler, seen: AtomicU64::new(0), failing: AtomicBool::new(false) };
        join(crew.work(), crew.reap()).await;
    }
}

pub(super) struct Crew<H> {
    pub(super) jobs: Jobs,
    pub(super) worker: Worker,
    handler: H,
    /// How many jobs had been enqueued here when was last looked for some.
    seen: AtomicU64,
    /// Whether the database was away when last asked.
    failing: AtomicBool,
}

/// How an attempt ended.
pub(super) enum End {
    Done,
    Failed(Failure),
    Canceled,
    Lost,
}

impl<H, F> Crew<H>
where
    H: Fn(Running) -> F + Send + Sync,
    F: Future<Output = Result<Done, Failure>> + Send,
{
    async fn work(&self) {
        let slots = self.worker.slots.max(1);
        let mut running = FuturesUnordered::new();
        // Never dropped in the middle: jobs that it has claimed already would wait for the end of their leases.
        let mut finding = pin!(self.find(slots).fuse());
        loop {
            if finding.is_terminated() && running.len() < slots {
                finding.set(self.find(slots - running.len()).fuse());
            }
            tokio::select! {
                jobs = &mut finding => running.extend(jobs.into_iter().map(|job| self.run(job))),
                Some(()) = running.next() => {}
            }
        }
    }

    /// Waits until there are jobs to do, and claims up to so many.
    async fn find(&self, free: usize) -> Vec<Job> {
        let rows = self.jobs.db.rows();
        // Made before looking, so that nothing that comes meanwhile is missed.
        let mut next_commit = pin!(rows.next_commit());
        loop {
            match self.claim(free).await {
                Err(error) => self.complain(&error),
                Ok(jobs) => {
                    self.failing.store(false, Ordering::Relaxed);
                    if !jobs.is_empty() {
                        return jobs;
                    }
                }
            }
            let enqueued = async {
                loop {
                    next_commit.as_mut().await;
                    next_commit.set(rows.next_commit());
                    let n = self.jobs.enqueued.load(Ordering::Relaxed);
                    if self.seen.swap(n, Ordering::Relaxed) != n {
                        return;
                    }
                }
            };
            // About a second: other processes enqueue, too, and times come.
            let _ = timeout(pause(1, self.jobs.ids.next()), enqueued).await;
        }
    }

    /// Claims what is due: of every tenant some, if there are several.
    async fn claim(&self, free: usize) -> Result<Vec<Job>> {
        let (worker, now) = (self.worker, self.jobs.clock.now());
        let tenants = Arc::new(claim::waiting(&self.jobs.db, &worker, now, free).await?);
        if tenants.is_empty() {
            return Ok(Vec::new());
        }
        let claimed = self.jobs.db.write("claim jobs", move |tx| {
            let tenants = Arc::clone(&tenants);
            Box::pin(async move {
                claim::lock(tx, worker.kind).await?;
                let mut jobs = Vec::new();
                for (i, tenant) in tenants.iter().enumerate() {
                    let share = (free - jobs.len()).div_ceil(tenants.len() - i);
                    jobs.extend(claim::claim(tx, &worker, *tenant, share, now).await?);
                }
                Ok(jobs)
            })
        });
        claimed.await
    }

    /// One attempt.
    async fn run(&self, job: Job) {
        let (id, hold) = (job.id, Hold { id: job.id.0, fence: job.fence });
        let (n_attempts, stop) = (AtomicI64::new(job.n_attempts), CancellationToken::new());
        let lease = Arc::new(Lease { hold, n_attempts, stop: stop.clone() });
        let stopped = stop.clone().drop_guard();
        let running = Running::new(self.jobs.clone(), self.worker, job, Arc::clone(&lease));
        let work = AssertUnwindSafe(async { (self.handler)(running).await }).catch_unwind();
        let end = tokio::select! {
            biased;
            outcome = work => match outcome {
                Ok(Ok(Done { .. })) => End::Done,
                Ok(Err(_)) if stop.is_cancelled() => End::Lost,
                Ok(Err(failure)) => End::Failed(failure),
                Err(_) => End::Failed(Error::internal("the handler of the job panicked").into()),
            },
            end = self.keep(&lease) => end,
        };
        drop(stopped);
        self.settle(id, &lease, end).await;
    }

    /// Holds the lease; ends when the work has to.
    async fn keep(&self, lease: &Lease) -> End {
        let mut held_at = Instant::now();
        loop {
            tokio::select! {
                () = lease.stop.cancelled() => return End::Lost,
                () = sleep(self.worker.lease / 3) => {}
            }
            let asked_at = Instant::now();
            match timeout_at(held_at + self.worker.lease * 2 / 3, self.beat(lease.hold)).await {
                Ok(Some(false)) => held_at = asked_at,
                Ok(Some(true)) => return End::Canceled,
                Ok(None) | Err(_) => return End::Lost,
            }
        }
    }

    /// Extends a lease, whenever the database is there; whether the job is canceled. None if another worker has it.
    async fn beat(&self, hold: Hold) -> Option<bool> {
        loop {
            let (now, lease) = (self.jobs.clock.now(), self.worker.lease);
            let beaten = self.jobs.db.write_repeatable("extend the lease of a job", move |tx| {
                Box::pin(async move { claim::beat(tx, hold, now.after(lease)).await })
            });
            match beaten.await {
                Ok(beaten) => return beaten,
                Err(error) => self.complain(&error),
            }
            sleep(self.worker.lease / 60).await;
        }
    }
}

impl<H> Crew<H> {
    /// Says once that the database is away.
    pub(super) fn complain(&self, error: &Error) {
        if !self.failing.swap(true, Ordering::Relaxed) {
            warn!(kind = self.worker.kind, error = error.chain(), "cannot work on jobs, trying again");
        }
    }
}
