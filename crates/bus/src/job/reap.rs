//! What becomes of jobs that did not succeed, and of those whose workers are gone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use manifold_core::{JobId, Result, TenantId};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, warn};
use uuid::Uuid;

use super::State;
use super::claim::{self, Release, Released, Whose};
use super::running::Lease;
use super::work::{Crew, End};
use crate::dead::{self, DeadLetter, Kind, told};
use crate::failure::{Failure, pause};

/// How often is looked for jobs whose workers are gone.
const REAP: Duration = Duration::from_secs(5);
/// The reason of a job that failed as often as it may.
const TOO_OFTEN: &str = "MAX_ATTEMPTS";
/// The reason of a job whose workers vanished as often as it may fail.
const VANISHED: &str = "LEASE_LOST";

impl<H> Crew<H> {
    /// Writes down what becomes of a job.
    pub(super) async fn settle(&self, job: JobId, lease: &Lease, end: End) {
        let kind = self.worker.kind;
        let now = self.jobs.clock.now();
        let release = match &end {
            End::Done => return count(kind, State::Succeeded),
            End::Lost => return lost(kind, job),
            // The row says so, too, and decides.
            End::Canceled => Release { now, run_at: now, reason: TOO_OFTEN, last: true, error: "canceled".to_owned() },
            End::Failed(failure) => {
                let after = pause(lease.n_attempts.load(Ordering::Relaxed), job.0);
                let (after, reason, last) = match failure {
                    Failure::Retry { after: wished, .. } => (wished.unwrap_or(after), TOO_OFTEN, false),
                    Failure::Dead { reason, .. } => (after, *reason, true),
                };
                Release { now, run_at: now.after(after), reason, last, error: told(failure.error()) }
            }
        };
        let error = release.error.clone();
        match self.release(Whose::Held(lease.hold), release).await {
            Ok(released) if released.is_empty() => lost(kind, job),
            Ok(released) if released.iter().any(|job| job.state() == Some(State::Queued)) => {
                warn!(kind, %job, error, "a job failed, it comes again");
            }
            Ok(_) => {}
            // Its lease runs out, and it comes again.
            Err(error) => self.complain(&error),
        }
    }

    /// Now and then takes jobs back whose workers are gone.
    pub(super) async fn reap(&self) {
        let mut ticks = interval(REAP);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.reap_once().await {
                self.complain(&error);
            }
        }
    }

    async fn reap_once(&self) -> Result<()> {
        let (kind, now) = (self.worker.kind, self.jobs.clock.now());
        let counts = claim::counts(&self.jobs.db, kind, now).await?;
        for (state, n) in [(State::Queued, counts.n_queued), (State::Running, counts.n_running)] {
            metrics::gauge!("manifold_jobs", "kind" => kind, "state" => state.name()).set(n as f64);
        }
        if counts.n_expired > 0 {
            let error = "the worker vanished".to_owned();
            let release = Release { now, run_at: now, reason: VANISHED, last: false, error };
            self.jobs.enqueued.fetch_add(1, Ordering::Relaxed);
            for job in self.release(Whose::Expired(kind), release).await? {
                warn!(kind, job = %JobId(job.id), "the worker of a job vanished");
            }
        }
        Ok(())
    }

    /// Gives jobs back. Those that are given up get a dead letter in the same transaction.
    async fn release(&self, whose: Whose, release: Release) -> Result<Vec<Released>> {
        let (kind, work) = (self.worker.kind, Arc::new((release, self.jobs.ids.clone())));
        let released = self.jobs.db.write("give jobs back", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (release, ids) = &*work;
                let released = claim::release(tx, whose, release).await?;
                for job in released.iter().filter(|job| job.state() == Some(State::Dead)) {
                    dead::bury(tx, &letter(ids.next(), kind, job, release)).await?;
                }
                Ok(released)
            })
        });
        let released = released.await?;
        for job in &released {
            match job.state() {
                Some(State::Dead) => {
                    count(kind, State::Dead);
                    metrics::counter!("manifold_dead_letters_total", "kind" => Kind::Job.name()).increment(1);
                    error!(kind, job = %JobId(job.id), "a job is given up: see `manifold bus dead-letters`");
                }
                Some(State::Canceled) => count(kind, State::Canceled),
                _ => {}
            }
        }
        Ok(released)
    }
}

fn letter(id: Uuid, kind: &'static str, job: &Released, release: &Release) -> DeadLetter {
    DeadLetter {
        id,
        kind: Kind::Job,
        reference: JobId(job.id).into(),
        consumer: kind,
        tenant: TenantId(job.tenant_id).into(),
        reason: release.reason,
        payload: job.args.clone().into(),
        error: release.error.clone(),
        at: release.now,
    }
}

fn count(kind: &'static str, state: State) {
    metrics::counter!("manifold_jobs_finished_total", "kind" => kind, "state" => state.name()).increment(1);
}

fn lost(kind: &'static str, job: JobId) {
    metrics::counter!("manifold_job_lease_lost_total", "kind" => kind).increment(1);
    warn!(kind, %job, "the lease of a job was lost, what was done since is dropped");
}
