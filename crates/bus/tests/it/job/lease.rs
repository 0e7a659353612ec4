//! Leases: who has one keeps it by saying so, who has lost it writes nothing more, and somebody else goes on.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use manifold_bus::{Done, Failure, NewJob, Running, State, Which, Worker, dead_letters};
use manifold_core::Result;
use manifold_store::{SqlResultExt, on};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::shop::{KIND, Shop, effect, first, gate, items, job, progress};
use crate::consumer::eventually;
use crate::house::TENANT;
use crate::on_both_engines;
use crate::scratch::Scratch;

on_both_engines!(
    a_worker_that_says_so_keeps_its_job,
    a_late_worker_writes_nothing,
    a_worker_learns_that_another_one_has_its_job,
    a_worker_that_cannot_say_so_stops,
    another_worker_goes_on_where_the_first_vanished,
    a_job_whose_workers_vanish_is_given_up,
    a_canceled_job_whose_worker_vanished_ends_at_once,
    a_step_whose_end_is_not_known_is_the_last,
);

/// Longer than a lease.
const LATER: Duration = Duration::from_secs(61);
const SHORT: Duration = Duration::from_secs(3);

/// Does not end by itself.
async fn forever(_: Running) -> Result<Done, Failure> {
    std::future::pending().await
}

/// What a handler tells, unless it does not.
async fn hear(told: &mut UnboundedReceiver<String>) -> Option<String> {
    tokio::time::timeout(Duration::from_secs(20), told.recv()).await.ok().flatten()
}

async fn a_worker_that_says_so_keeps_its_job(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let gate = gate();
    let (opened, worker) = (Arc::clone(&gate), Worker { lease: SHORT, ..Worker::new(KIND, 1) });
    shop.work(worker, move |running: Running| {
        let gate = Arc::clone(&opened);
        async move {
            let _ = gate.acquire().await;
            items(running, 1).await
        }
    });
    let id = shop.enqueue(job()).await;
    shop.until(id, |job| job.state == State::Running).await;

    for _ in 0..2 {
        shop.clock.advance(SHORT * 9 / 10);
        let until = shop.clock.now().after(SHORT).micros();
        eventually(async || shop.count("SELECT lease_until FROM job").await == until).await;
    }
    // This one looks at once for workers that vanished.
    shop.work(worker, forever);
    let other = shop.enqueue(job()).await;
    shop.until(other, |job| job.state == State::Running).await;
    gate.close();

    let done = shop.until(id, |job| job.state == State::Succeeded).await;
    assert_eq!(done.fence, 1);
}

async fn a_late_worker_writes_nothing(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let (late, punctual, (tell, mut told)) = (gate(), gate(), unbounded_channel());
    let (gate, tell_late) = (Arc::clone(&late), tell.clone());
    shop.work(Worker::new(KIND, 1), move |mut running: Running| {
        let (gate, tell) = (Arc::clone(&gate), tell_late.clone());
        async move {
            running.step(progress(1, 2), effect("first")).await?;
            tell.send("began".to_owned()).unwrap();
            let _ = gate.acquire().await;
            let late = running.step(progress(9, 9), effect("late")).await;
            tell.send(late.unwrap_err().reason().to_owned()).unwrap();
            let end = running.finish(json!("late"), effect("late")).await;
            let Err(Failure::Retry { source, .. }) = &end else { panic!("{end:?}") };
            tell.send(source.reason().to_owned()).unwrap();
            end
        }
    });
    let id = shop.enqueue(job()).await;
    assert_eq!(hear(&mut told).await.as_deref(), Some("began"));

    shop.clock.advance(LATER);
    let gate = Arc::clone(&punctual);
    shop.work(Worker::new(KIND, 1), move |running: Running| {
        let (gate, tell) = (Arc::clone(&gate), tell.clone());
        async move {
            tell.send("took over".to_owned()).unwrap();
            let _ = gate.acquire().await;
            let went_on_from = first(&running);
            running.finish(json!(went_on_from), effect("second")).await
        }
    });
    assert_eq!(hear(&mut told).await.as_deref(), Some("took over"));
    late.close();
    for _ in 0..2 {
        assert_eq!(hear(&mut told).await.as_deref(), Some("JOB_LEASE_LOST"));
    }
    punctual.close();

    let job = shop.until(id, |job| job.state == State::Succeeded).await;
    assert_eq!((job.result, job.fence, job.done, job.error), (Some(json!(1)), 2, 1, None));
    assert_eq!(shop.effects().await, ["first", "second"]);
}

async fn a_worker_learns_that_another_one_has_its_job(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let (began, mut beginning) = unbounded_channel();
    let worker = Worker { lease: SHORT, ..Worker::new(KIND, 1) };
    shop.work(worker, move |running: Running| {
        began.send(running.stop()).unwrap();
        forever(running)
    });
    let id = shop.enqueue(job()).await;
    let stop = beginning.recv().await.unwrap();

    shop.change("UPDATE job SET state = 1").await;
    shop.work(Worker::new(KIND, 1), forever);
    shop.until(id, |job| job.fence == 2).await;
    eventually(async || stop.is_cancelled()).await;

    let job = shop.jobs.get(TENANT, id).await.unwrap();
    assert_eq!((job.state, job.error), (State::Running, None));
}

async fn a_worker_that_cannot_say_so_stops(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let (gate, (began, mut beginning)) = (gate(), unbounded_channel());
    let worker = Worker { lease: SHORT, ..Worker::new(KIND, 1) };
    let running = shop.work(worker, move |running: Running| {
        began.send(running.stop()).unwrap();
        forever(running)
    });
    let id = shop.enqueue(job()).await;
    let stop = beginning.recv().await.unwrap();

    shop.hold(&gate);
    eventually(async || stop.is_cancelled()).await;
    running.abort();
    gate.close();
    shop.clock.advance(LATER);
    shop.work(worker, |running| items(running, 1));

    let done = shop.until(id, |job| job.state == State::Succeeded).await;
    assert_eq!(done.fence, 2);
}

async fn another_worker_goes_on_where_the_first_vanished(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    // More workers vanish than it has attempts: it gets further each time.
    let id = shop.enqueue(NewJob { max_attempts: 2, ..job() }).await;
    for n in 1..=3 {
        let vanishing = shop.work(Worker::new(KIND, 1), |mut running: Running| async move {
            let item = first(&running);
            running.step(progress(item + 1, 5), effect(format!("{item:04}"))).await?;
            forever(running).await
        });
        shop.until(id, |job| job.done == n).await;
        vanishing.abort();
        shop.clock.advance(LATER);
    }

    shop.work(Worker::new(KIND, 1), |running| items(running, 5));

    let done = shop.until(id, |job| job.state == State::Succeeded).await;
    assert_eq!((done.fence, done.n_attempts), (4, 1));
    assert_eq!(shop.effects().await, ["0000", "0001", "0002", "0003", "0004", "end"]);
}

async fn a_job_whose_workers_vanish_is_given_up(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let id = shop.enqueue(NewJob { max_attempts: 2, ..job() }).await;

    for fence in 1..=2 {
        let vanishing = shop.work(Worker::new(KIND, 1), forever);
        shop.until(id, |job| job.state == State::Running && job.fence == fence).await;
        vanishing.abort();
        shop.clock.advance(LATER);
    }
    shop.work(Worker::new(KIND, 1), forever);

    shop.until(id, |job| job.state == State::Dead).await;
    let letters = dead_letters(&shop.db, &Which { limit: 10, ..Which::default() }).await.unwrap();
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "LEASE_LOST"));
}

async fn a_canceled_job_whose_worker_vanished_ends_at_once(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let (early, late) = (shop.enqueue(job()).await, shop.enqueue(job()).await);
    let vanishing = shop.work(Worker::new(KIND, 2), forever);
    shop.until(early, |job| job.state == State::Running).await;
    shop.until(late, |job| job.state == State::Running).await;
    vanishing.abort();

    let told = shop.jobs.cancel(TENANT, early).await.unwrap();
    shop.clock.advance(LATER);
    let ended = shop.jobs.cancel(TENANT, late).await.unwrap();
    shop.work(Worker::new(KIND, 1), forever);

    shop.until(early, |job| job.state == State::Canceled).await;
    assert_eq!((told.state, ended.state), (State::Running, State::Canceled));
}

async fn a_step_whose_end_is_not_known_is_the_last(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let (tell, mut told) = unbounded_channel();
    shop.work(Worker::new(KIND, 1), move |mut running: Running| {
        let tell = tell.clone();
        async move {
            if running.job().fence == 1 {
                // Polled once and dropped: it may take place or not.
                assert!(running.step(progress(1, 3), effect("0000")).now_or_never().is_none());
                let next = running.step(progress(2, 3), effect("0001")).await;
                tell.send(next.as_ref().unwrap_err().reason().to_owned()).unwrap();
                next?;
            }
            items(running, 3).await
        }
    });
    let id = shop.enqueue(job()).await;
    shop.until(id, |job| job.state == State::Queued && job.fence == 1).await;
    shop.clock.advance(Duration::from_secs(10));

    shop.until(id, |job| job.state == State::Succeeded).await;
    assert_eq!(hear(&mut told).await.as_deref(), Some("STORE_UNAVAILABLE"));
    assert_eq!(shop.effects().await, ["0000", "0001", "0002", "end"]);
}

impl Shop {
    /// Keeps everybody from writing to jobs until the gate is closed: on SQLite to anything.
    fn hold(&mut self, gate: &Arc<tokio::sync::Semaphore>) {
        let (db, gate) = (self.db.clone(), Arc::clone(gate));
        self.spawn(async move {
            let held = db.write("hold a job", move |tx| {
                let gate = Arc::clone(&gate);
                Box::pin(async move {
                    let sql = "UPDATE job SET done = done";
                    let held = on!(tx, |executor| sqlx::query(sql).execute(executor).await.map(|_| ()));
                    held.during("hold a job")?;
                    let _ = gate.acquire().await;
                    Ok(())
                })
            });
            held.await.unwrap();
        });
    }
}
