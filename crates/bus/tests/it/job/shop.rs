//! A database with jobs, workers, and effects to count.

use std::sync::Arc;

use futures::future::BoxFuture;
use manifold_bus::{Done, Failure, Job, Jobs, NewJob, Progress, Running, Worker, migrations};
use manifold_core::{Clock, JobId, Result, Timestamp};
use manifold_store::{Db, Location, Migrations, SqlResultExt, Tx, WriterConfig, on};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use crate::consumer::eventually;
use crate::house::TENANT;
use crate::scratch::Scratch;

pub const KIND: &str = "export";
pub const START: Timestamp = Timestamp::from_micros(1_763_629_200_000_000);

pub struct Shop {
    pub db: Db,
    pub clock: Clock,
    pub jobs: Jobs,
    tasks: JoinSet<()>,
}

impl Shop {
    pub async fn open(scratch: &Scratch) -> Self {
        Self::open_at(scratch.location(), START).await
    }

    /// With a clock that stands at `now`.
    pub async fn open_at(location: &Location, now: Timestamp) -> Self {
        Self::open_with(location, Clock::manual(now)).await
    }

    pub async fn open_with(location: &Location, clock: Clock) -> Self {
        let own =
            Migrations { sqlite: sqlx::migrate!("tests/migrations"), postgres: sqlx::migrate!("tests/migrations") };
        let opened = Db::open(location, "test-jobs", &[&migrations(), &own], &WriterConfig::default()).await;
        let (db, writer) = opened.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(std::future::pending()));
        Self { jobs: Jobs::new(db.clone(), clock.clone()), db, clock, tasks }
    }

    pub async fn enqueue(&self, job: NewJob) -> JobId {
        let work = Arc::new((self.jobs.clone(), job));
        let enqueued = self.db.write("enqueue", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move { work.0.enqueue(tx, &work.1).await })
        });
        enqueued.await.unwrap()
    }

    /// Starts a worker, which ends wherever it is when it is aborted.
    pub fn work<H, F>(&mut self, worker: Worker, handler: H) -> AbortHandle
    where
        H: Fn(Running) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Done, Failure>> + Send + 'static,
    {
        self.tasks.spawn(self.jobs.clone().work(worker, handler))
    }

    /// Runs a command beside the test.
    pub fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    /// Waits until the job is as expected.
    pub async fn until(&self, id: JobId, expected: impl Fn(&Job) -> bool) -> Job {
        eventually(async || expected(&self.jobs.get(TENANT, id).await.unwrap())).await;
        self.jobs.get(TENANT, id).await.unwrap()
    }

    /// All effects, sorted.
    pub async fn effects(&self) -> Vec<String> {
        let sql = "SELECT subject FROM effect ORDER BY subject";
        on!(&self.db, |pool| sqlx::query_scalar(sql).fetch_all(pool).await).unwrap()
    }

    pub async fn change(&self, sql: &'static str) {
        let changed = self.db.write("change by a test", move |tx| {
            Box::pin(async move {
                on!(tx, |executor| sqlx::query(sql).execute(executor).await.map(|_| ())).during("change")
            })
        });
        changed.await.unwrap();
    }

    /// One number from the database.
    pub async fn count(&self, sql: &'static str) -> i64 {
        on!(&self.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
    }
}

pub fn job() -> NewJob {
    NewJob::new(TENANT, KIND, json!({}))
}

/// Behind so many items of so many.
pub fn progress(done: i64, total: i64) -> Progress {
    Progress { done, total: Some(total), cursor: json!(done) }
}

/// Writes an effect.
pub fn effect(
    subject: impl Into<String>,
) -> impl for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<()>> + Send + Sync + 'static {
    let subject = subject.into();
    move |tx| {
        let subject = subject.clone();
        Box::pin(async move {
            // So that a step is never over after its first poll, however fast the database is.
            tokio::task::yield_now().await;
            let sql = "INSERT INTO effect (subject) VALUES ($1)";
            let written = on!(tx, |executor| sqlx::query(sql).bind(subject).execute(executor).await.map(|_| ()));
            written.during("write an effect")
        })
    }
}

/// One effect per item, from the cursor on, and one at the end.
pub async fn items(mut running: Running, n: i64) -> Result<Done, Failure> {
    for item in first(&running)..n {
        running.step(progress(item + 1, n), effect(format!("{item:04}"))).await?;
    }
    running.finish(json!({"items": n}), effect("end")).await
}

/// The item that the job goes on from.
pub fn first(running: &Running) -> i64 {
    running.job().cursor.as_ref().and_then(Value::as_i64).unwrap_or(0)
}

/// Holds up those who want to acquire it until it is closed.
pub fn gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}
