//! How jobs end that do not simply succeed: they fail, are given up, sent again, canceled, forgotten.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use manifold_bus::{Done, Failure, NewJob, Running, State, Which, Worker, dead_letters, redrive};
use manifold_core::Error;
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;

use super::shop::{KIND, Shop, effect, gate, items, job, progress};
use crate::consumer::eventually;
use crate::house::TENANT;
use crate::on_both_engines;
use crate::scratch::Scratch;

on_both_engines!(
    a_failing_job_comes_again_and_is_given_up_in_the_end,
    attempts_are_counted_anew_when_a_job_gets_further,
    a_job_can_be_given_up_at_once,
    a_panicking_handler_fails_its_job_only,
    a_dead_job_waits_while_another_one_has_its_key,
    a_canceled_job_is_not_begun,
    a_running_job_that_is_canceled_stops,
    only_what_ended_long_ago_is_forgotten,
);

const ALL: Which = Which { id: None, consumer: None, limit: 10 };
/// Longer than the pauses of the first attempts, shorter than a lease.
const PAUSE: Duration = Duration::from_secs(10);

fn refusal() -> Failure {
    Error::internal("the test\0says no").into()
}

async fn a_failing_job_comes_again_and_is_given_up_in_the_end(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    shop.work(Worker::new(KIND, 2), move |running: Running| {
        let mended = is_mended.load(Ordering::Relaxed);
        async move { if mended { items(running, 1).await } else { Err(refusal()) } }
    });
    let id = shop.enqueue(NewJob { max_attempts: 2, args: json!("abc"), ..job() }).await;

    let waiting = shop.until(id, |job| job.state == State::Queued && job.n_attempts == 1).await;
    shop.clock.advance(PAUSE);
    let dead = shop.until(id, |job| job.state == State::Dead).await;
    let letters = dead_letters(&shop.db, &ALL).await.unwrap();
    mended.store(true, Ordering::Relaxed);
    let n_redriven = redrive(&shop.db, &Which { consumer: Some(KIND.to_owned()), ..ALL }, &shop.clock).await.unwrap();

    let done = shop.until(id, |job| job.state == State::Succeeded).await;
    let pause = waiting.run_at.since(waiting.created_at);
    assert!((800..=1_200).contains(&pause.as_millis()), "{pause:?}");
    assert_eq!(dead.error.as_deref(), Some("INTERNAL: the testsays no"));
    let letter = &letters[0];
    assert_eq!((letter.kind.as_str(), letter.consumer.as_str()), ("job", KIND));
    assert_eq!((&letter.reference, letter.reason.as_str()), (&id.to_string(), "MAX_ATTEMPTS"));
    assert_eq!((letters.len(), &letter.tenant, letter.count), (1, &TENANT.to_string(), 1));
    assert_eq!((n_redriven, done.n_attempts, done.fence, done.error), (1, 1, 3, None));
    assert!(dead_letters(&shop.db, &ALL).await.unwrap().is_empty());
    assert_eq!(redrive(&shop.db, &ALL, &shop.clock).await.unwrap(), 0);
}

async fn attempts_are_counted_anew_when_a_job_gets_further(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    shop.work(Worker::new(KIND, 1), |mut running: Running| async move {
        let item = super::shop::first(&running);
        if item < 4 {
            running.step(progress(item + 1, 4), effect(format!("{item:04}"))).await?;
        }
        // Says again what is known: that is no way to get further.
        running.progress(progress((item + 1).min(4), 4)).await?;
        Err::<Done, _>(refusal())
    });
    let id = shop.enqueue(NewJob { max_attempts: 3, ..job() }).await;

    for fence in 1..=5 {
        let job = shop.until(id, |job| job.state == State::Queued && job.fence == fence).await;
        assert_eq!((job.done, job.n_attempts), (fence.min(4), if fence <= 4 { 1 } else { 2 }));
        shop.clock.advance(PAUSE);
    }
    let dead = shop.until(id, |job| job.state == State::Dead).await;

    assert_eq!((dead.fence, dead.n_attempts), (6, 3));
    assert_eq!(shop.effects().await, ["0000", "0001", "0002", "0003"]);
}

async fn a_job_can_be_given_up_at_once(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    shop.work(Worker::new(KIND, 1), |_| async {
        Err::<Done, _>(Failure::Dead { reason: "ON_PURPOSE", source: Error::internal("the test says no") })
    });

    let id = shop.enqueue(job()).await;
    let dead = shop.until(id, |job| job.state == State::Dead).await;

    let letters = dead_letters(&shop.db, &ALL).await.unwrap();
    assert_eq!((letters[0].reason.as_str(), dead.n_attempts), ("ON_PURPOSE", 1));
    assert_eq!(dead.finished_at, Some(shop.clock.now()));
}

async fn a_panicking_handler_fails_its_job_only(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    shop.work(Worker::new(KIND, 2), |running: Running| {
        let panics = running.job().args == json!("panic") && running.job().n_attempts == 1;
        assert!(!panics, "on purpose");
        items(running, 1)
    });

    let panicking = shop.enqueue(NewJob { args: json!("panic"), ..job() }).await;
    let good = shop.enqueue(job()).await;
    shop.until(good, |job| job.state == State::Succeeded).await;
    let waiting = shop.until(panicking, |job| job.state == State::Queued && job.n_attempts == 1).await;
    shop.clock.advance(PAUSE);

    shop.until(panicking, |job| job.state == State::Succeeded).await;
    assert_eq!(waiting.error.as_deref(), Some("INTERNAL: the handler of the job panicked"));
}

async fn a_dead_job_waits_while_another_one_has_its_key(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let worker = shop.work(Worker::new(KIND, 1), |_| async { Err::<Done, _>(refusal()) });
    let keyed = NewJob { dedup_key: Some("daily".to_owned()), max_attempts: 1, ..job() };
    let dead = shop.enqueue(keyed.clone()).await;
    shop.until(dead, |job| job.state == State::Dead).await;
    worker.abort();

    let other = shop.enqueue(keyed).await;
    let in_vain = redrive(&shop.db, &ALL, &shop.clock).await.unwrap();
    let letters = dead_letters(&shop.db, &ALL).await.unwrap();
    shop.jobs.cancel(TENANT, other).await.unwrap();
    let n_redriven = redrive(&shop.db, &ALL, &shop.clock).await.unwrap();

    assert_eq!((in_vain, letters.len(), n_redriven), (0, 1, 1));
    let again = shop.jobs.get(TENANT, dead).await.unwrap();
    assert_eq!((again.state, again.n_attempts, again.error), (State::Queued, 0, None));
}

async fn a_canceled_job_is_not_begun(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let id = shop.enqueue(job()).await;

    let canceled = shop.jobs.cancel(TENANT, id).await.unwrap();
    let other = shop.enqueue(job()).await;
    shop.work(Worker::new(KIND, 1), |running| items(running, 0));
    shop.until(other, |job| job.state == State::Succeeded).await;
    shop.clock.advance(PAUSE);
    let canceled_again = shop.jobs.cancel(TENANT, id).await.unwrap();
    let too_late = shop.jobs.cancel(TENANT, other).await.unwrap();

    assert_eq!((canceled.state, canceled.finished_at.is_some(), canceled.fence), (State::Canceled, true, 0));
    assert_eq!((canceled_again.state, canceled_again.cancel_at), (State::Canceled, canceled.cancel_at));
    assert_eq!((too_late.state, too_late.cancel_at), (State::Succeeded, None));
    assert_eq!(shop.effects().await, ["end"]);
}

async fn a_running_job_that_is_canceled_stops(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let (gate, (began, mut beginning)) = (gate(), unbounded_channel());
    let worker = Worker { lease: Duration::from_secs(3), ..Worker::new(KIND, 1) };
    shop.work(worker, move |running: Running| {
        let (gate, began) = (Arc::clone(&gate), began.clone());
        async move {
            began.send(running.stop()).unwrap();
            let _ = gate.acquire().await;
            running.finish(json!(null), effect("end")).await
        }
    });
    let id = shop.enqueue(job()).await;
    let stop = beginning.recv().await.unwrap();

    let told = shop.jobs.cancel(TENANT, id).await.unwrap();
    eventually(async || stop.is_cancelled()).await;
    let canceled = shop.until(id, |job| job.state == State::Canceled).await;

    assert_eq!((told.state, told.finished_at), (State::Running, None));
    assert_eq!(canceled.finished_at, Some(shop.clock.now()));
    assert!(shop.effects().await.is_empty());
    assert!(dead_letters(&shop.db, &ALL).await.unwrap().is_empty());
}

async fn only_what_ended_long_ago_is_forgotten(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let run_at = shop.clock.now().after(Duration::from_secs(90 * 24 * 60 * 60));
    let ended = shop.enqueue(job()).await;
    let waiting = shop.enqueue(NewJob { run_at: Some(run_at), ..job() }).await;
    shop.work(Worker::new(KIND, 1), |running| items(running, 0));
    shop.until(ended, |job| job.state == State::Succeeded).await;

    let n_early = shop.jobs.prune().await.unwrap();
    shop.clock.advance(Duration::from_secs(31 * 24 * 60 * 60));
    let n_late = shop.jobs.prune().await.unwrap();

    assert_eq!((n_early, n_late), (0, 1));
    assert_eq!(shop.jobs.get(TENANT, waiting).await.unwrap().state, State::Queued);
    eventually(async || shop.jobs.get(TENANT, ended).await.is_err()).await;
}
