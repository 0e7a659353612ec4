//! Jobs: they are done once, by one worker, and come again until they are done or given up.

mod end;
mod frozen;
mod kill;
mod lease;
pub mod shop;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use manifold_bus::{Done, Failure, Job, JobFilter, NewJob, Running, State, Worker, all_jobs};
use manifold_core::{Error, JobId, PageRequest, Result, TenantId};
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;
use uuid::Uuid;

use crate::consumer::eventually;
use crate::house::TENANT;
use crate::on_both_engines;
use crate::scratch::Scratch;
use shop::{KIND, Shop, effect, gate, items, job, progress};

on_both_engines!(
    a_job_is_there_once_its_transaction_is_committed,
    one_job_of_a_key_waits_or_runs_at_a_time,
    a_job_waits_for_its_time,
    each_job_has_one_worker,
    a_tenant_runs_so_many_jobs_at_a_time,
    one_tenant_keeps_no_other_waiting,
    a_job_that_is_enqueued_here_does_not_wait_for_the_poll,
    the_jobs_of_a_tenant_come_in_their_order,
    how_far_a_job_is_can_be_seen,
    a_tenant_sees_its_own_jobs_only,
    jobs_are_forgotten_by_what_they_hold,
);

async fn a_job_is_there_once_its_transaction_is_committed(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    shop.work(Worker::new(KIND, 2), |running| items(running, 3));
    let jobs = shop.jobs.clone();
    let undone = shop.db.write("enqueue and fail", move |tx| {
        let jobs = jobs.clone();
        Box::pin(async move {
            jobs.enqueue(tx, &job()).await?;
            Err::<JobId, _>(Error::invalid("ON_PURPOSE", "the test says no"))
        })
    });
    assert_eq!(undone.await.unwrap_err().reason(), "ON_PURPOSE");

    let id = shop.enqueue(job()).await;
    let done = shop.until(id, |job| job.state == State::Succeeded).await;

    assert_eq!(shop.effects().await, ["0000", "0001", "0002", "end"]);
    assert_eq!((done.done, done.total, done.result), (3, Some(3), Some(json!({"items": 3}))));
    assert_eq!((done.n_attempts, done.fence, done.finished_at), (1, 1, Some(shop.clock.now())));
    assert_eq!(shop.count("SELECT COUNT(*) FROM job").await, 1);
}

async fn one_job_of_a_key_waits_or_runs_at_a_time(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let keyed = NewJob { dedup_key: Some("daily".to_owned()), ..job() };
    let first = shop.enqueue(keyed.clone()).await;
    let again = shop.enqueue(keyed.clone()).await;
    let of_another_tenant = shop.enqueue(NewJob { tenant: TenantId(Uuid::from_u128(9)), ..keyed.clone() }).await;
    let without = [shop.enqueue(job()).await, shop.enqueue(job()).await];

    shop.work(Worker::new(KIND, 8), |running| items(running, 0));
    shop.until(first, |job| job.state == State::Succeeded).await;
    let after_its_end = shop.enqueue(keyed).await;

    assert_eq!(first, again);
    assert!(first != of_another_tenant && first != after_its_end && without[0] != without[1]);
    shop.until(after_its_end, |job| job.state == State::Succeeded).await;
}

async fn a_job_waits_for_its_time(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let run_at = shop.clock.now().after(Duration::from_secs(30));
    let later = shop.enqueue(NewJob { run_at: Some(run_at), ..job() }).await;
    let now = shop.enqueue(job()).await;

    shop.work(Worker::new(KIND, 8), |running| items(running, 0));
    shop.until(now, |job| job.state == State::Succeeded).await;
    let meanwhile = shop.jobs.get(TENANT, later).await.unwrap().state;
    shop.clock.advance(Duration::from_secs(30));

    shop.until(later, |job| job.state == State::Succeeded).await;
    assert_eq!(meanwhile, State::Queued);
}

async fn each_job_has_one_worker(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    for _ in 0..2 {
        shop.work(Worker::new(KIND, 8), |running| async move {
            let id = String::from(running.job().id);
            running.finish(json!(null), effect(id)).await
        });
    }

    let mut ids = Vec::new();
    for n in 0..40 {
        ids.push(String::from(shop.enqueue(NewJob { tenant: TenantId(Uuid::from_u128(n % 10)), ..job() }).await));
    }
    eventually(async || shop.count("SELECT COUNT(*) FROM job WHERE state = 3").await == 40).await;

    ids.sort();
    assert_eq!(shop.effects().await, ids);
    assert_eq!(shop.count("SELECT COUNT(*) FROM job WHERE fence = 1").await, 40);
}

async fn a_tenant_runs_so_many_jobs_at_a_time(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let (gate, (began, beginning)) = (gate(), unbounded_channel());
    let running: Arc<Mutex<HashMap<TenantId, (u32, u32)>>> = Arc::default();
    for _ in 0..2 {
        let (gate, began, counts) = (Arc::clone(&gate), began.clone(), Arc::clone(&running));
        shop.work(Worker::new(KIND, 10), move |running: Running| {
            let (gate, began, counts) = (Arc::clone(&gate), began.clone(), Arc::clone(&counts));
            async move {
                let tenant = running.job().tenant;
                {
                    let mut counts = counts.lock().unwrap();
                    let (n, most) = counts.entry(tenant).or_default();
                    *n += 1;
                    *most = (*most).max(*n);
                }
                began.send(()).unwrap();
                let _ = gate.acquire().await;
                counts.lock().unwrap().get_mut(&tenant).unwrap().0 -= 1;
                running.finish(json!(null), effect("end")).await
            }
        });
    }
    let (busy, calm) = (TENANT, TenantId(Uuid::from_u128(9)));
    for tenant in [busy; 10].into_iter().chain([calm; 2]) {
        shop.enqueue(NewJob { tenant, ..job() }).await;
    }

    eventually(async || beginning.len() >= 6).await;
    let n_running = shop.count("SELECT COUNT(*) FROM job WHERE state = 2").await;
    gate.close();

    eventually(async || shop.count("SELECT COUNT(*) FROM job WHERE state = 3").await == 12).await;
    let counts = running.lock().unwrap();
    assert_eq!((n_running, counts[&busy].1, counts[&calm].1), (6, 4, 2));
}

async fn one_tenant_keeps_no_other_waiting(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    for _ in 0..20 {
        shop.enqueue(job()).await;
    }
    let calm = TenantId(Uuid::from_u128(9));
    shop.clock.advance(Duration::from_secs(1));
    shop.enqueue(NewJob { tenant: calm, ..job() }).await;

    let order = shop.work_in_order(Worker::new(KIND, 2), 21, move |running| running.job().tenant == calm).await;

    assert!(order[..2].contains(&true), "the second slot is for the second tenant: {order:?}");
}

async fn a_job_that_is_enqueued_here_does_not_wait_for_the_poll(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    shop.work(Worker::new(KIND, 1), |running| items(running, 0));

    let one_by_one = async {
        for _ in 0..60 {
            let id = shop.enqueue(job()).await;
            shop.until(id, |job| job.state == State::Succeeded).await;
        }
    };

    // With the poll alone it takes a minute.
    let all_done = tokio::time::timeout(Duration::from_secs(25), one_by_one).await;
    assert!(all_done.is_ok());
}

async fn the_jobs_of_a_tenant_come_in_their_order(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    for n in 0..5 {
        shop.enqueue(NewJob { args: json!(n), ..job() }).await;
        shop.clock.advance(Duration::from_millis(1));
    }

    let order = shop.work_in_order(Worker::new(KIND, 1), 5, |running| running.job().args.as_i64().unwrap()).await;

    assert_eq!(order, [0, 1, 2, 3, 4]);
}

impl Shop {
    /// What `look` sees of each job, in the order in which they begin, until `n` are done.
    async fn work_in_order<T: Send + 'static>(
        &mut self,
        worker: Worker,
        n: i64,
        look: impl Fn(&Running) -> T + Send + Sync + 'static,
    ) -> Vec<T> {
        let (began, mut beginning) = unbounded_channel();
        self.work(worker, move |running: Running| {
            assert!(began.send(look(&running)).is_ok());
            running.finish(json!(null), effect("end"))
        });
        eventually(async || self.count("SELECT COUNT(*) FROM job WHERE state = 3").await == n).await;
        std::iter::from_fn(|| beginning.try_recv().ok()).collect()
    }
}

async fn how_far_a_job_is_can_be_seen(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    let gate = gate();
    let opened = Arc::clone(&gate);
    shop.work(Worker::new(KIND, 1), move |mut running: Running| {
        let gate = Arc::clone(&opened);
        async move {
            running.progress(progress(2, 5)).await?;
            let _ = gate.acquire().await;
            running.finish(json!("all of it"), effect("end")).await
        }
    });

    let id = shop.enqueue(job()).await;
    let meanwhile = shop.until(id, |job| job.done == 2).await;
    gate.close();
    let done = shop.until(id, |job| job.state == State::Succeeded).await;

    assert_eq!((meanwhile.state, meanwhile.total, meanwhile.cursor), (State::Running, Some(5), Some(json!(2))));
    assert_eq!((done.result, done.created_at), (Some(json!("all of it")), shop.clock.now()));
}

async fn a_tenant_sees_its_own_jobs_only(scratch: &Scratch) {
    let shop = Shop::open(scratch).await;
    let stranger = TenantId(Uuid::from_u128(9));
    let mut own = Vec::new();
    for n in 0..3 {
        own.push(shop.enqueue(NewJob { args: json!({"n": n, "text": "a\0b"}), ..job() }).await);
        shop.clock.advance(Duration::from_millis(1));
    }
    let foreign = shop.enqueue(NewJob { tenant: stranger, ..job() }).await;
    shop.jobs.cancel(TENANT, own[0]).await.unwrap();
    let all = PageRequest::new(None, None).unwrap();
    let of = async |filter: JobFilter, page: &PageRequest| shop.jobs.list(TENANT, &filter, page).await.unwrap();

    let first = of(JobFilter::default(), &PageRequest::new(Some(2), None).unwrap()).await;
    let second = of(JobFilter::default(), &PageRequest::new(Some(2), first.next).unwrap()).await;
    let queued = of(JobFilter { state: Some(State::Queued), kind: Some(KIND.to_owned()) }, &all).await;
    let of_another_kind = of(JobFilter { kind: Some("render".to_owned()), ..JobFilter::default() }, &all).await;
    let everything = all_jobs(&shop.db, &JobFilter::default(), &all).await.unwrap();

    let ids = |jobs: &[Job]| jobs.iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!((ids(&first.data), ids(&second.data)), (vec![own[2], own[1]], vec![own[0]]));
    assert_eq!((ids(&queued.data), of_another_kind.data.len()), (vec![own[2], own[1]], 0));
    assert_eq!(ids(&everything.data), [foreign, own[2], own[1], own[0]]);
    assert_eq!(first.data[0].args, json!({"n": 2, "text": "a\0b"}));
    let reasons: [Result<Job>; 2] = [shop.jobs.get(TENANT, foreign).await, shop.jobs.cancel(TENANT, foreign).await];
    assert!(reasons.into_iter().all(|refused| refused.unwrap_err().reason() == "JOB_NOT_FOUND"));
}

async fn jobs_are_forgotten_by_what_they_hold(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    shop.work(Worker { per_tenant: 1, ..Worker::new(KIND, 1) }, |running| async move {
        Err::<Done, _>(Failure::Dead {
            reason: "ON_PURPOSE",
            source: Error::invalid("ON_PURPOSE", running.job().id.to_string()),
        })
    });
    for text in ["of 10%_", "of 10 %_"] {
        let id = shop.enqueue(NewJob { args: json!({ "text": text }), ..job() }).await;
        shop.until(id, |job| job.state == State::Dead).await;
    }
    let jobs = shop.jobs.clone();

    let forgotten = shop.db.write("forget jobs", move |tx| {
        let jobs = jobs.clone();
        Box::pin(async move {
            jobs.forget(tx, "another kind", "of 10").await?;
            jobs.forget(tx, KIND, "of 10%_").await
        })
    });
    forgotten.await.unwrap();

    assert_eq!(shop.count("SELECT COUNT(*) FROM job WHERE args LIKE '%of 10 %'").await, 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM job").await, 1);
    assert_eq!(shop.count("SELECT COUNT(*) FROM dead_letter").await, 1);
}
