//! A clock that jumps: nothing comes too often, nothing stops, and every effect takes place once.

use std::sync::Arc;

use manifold_bus::{NewJob, Running, State, Worker};
use manifold_core::{Clock, Code, Error, Timestamp};
use serde_json::json;

use crate::consumer::{Consuming, Scribe, eventually};
use crate::house::{House, draft};
use crate::job::shop::{KIND, Shop, effect, first, gate, items, job, progress};
use crate::nats::Nats;
use crate::on_both_engines;
use crate::scratch::Scratch;
use crate::street::Street;

on_both_engines!(
    events_go_on_when_the_clock_jumps,
    a_failed_event_comes_once_more_when_the_clock_jumps_ahead,
    jobs_go_on_when_the_clock_jumps,
    a_job_that_runs_while_the_clock_jumps_takes_effect_once,
);

/// An hour back, an hour ahead, ten minutes ahead.
const JUMPS: [i64; 3] = [-3_600_000_000, 3_600_000_000, 600_000_000];

fn jump(clock: &Clock, micros: i64) {
    clock.set(Timestamp::from_micros(clock.now().micros() + micros));
}

async fn events_go_on_when_the_clock_jumps(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let (mut service, scribe) = (Consuming::open(scratch).await, Scribe::default());
    service.start(&house, &scribe, 10);

    for (n, micros) in JUMPS.into_iter().enumerate() {
        house.append((0..20).map(|i| draft(&format!("{n}-before-{i:02}"))).collect(), None).await.unwrap();
        jump(&house.clock, micros);
        house.append((0..20).map(|i| draft(&format!("{n}-later-{i:02}"))).collect(), None).await.unwrap();

        eventually(async || service.effects().await.len() == 40 * (n + 1)).await;
    }

    let effects = service.effects().await;
    assert!(effects.windows(2).all(|pair| pair[0] < pair[1]), "each of them once");
}

async fn a_failed_event_comes_once_more_when_the_clock_jumps_ahead(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    let scribe = Scribe::with("bad", |_| Err(Error::new(Code::Internal, "ON_PURPOSE", "the test says no").into()));
    house.append(vec![draft("bad")], None).await.unwrap();
    service.start(&house, &scribe, 10);
    eventually(async || service.count("SELECT COUNT(*) FROM consumer_retry WHERE n_deliveries = 1").await == 1).await;
    let came = scribe.came("bad");

    jump(&house.clock, JUMPS[1]);
    eventually(async || service.count("SELECT COUNT(*) FROM consumer_retry WHERE n_deliveries = 2").await == 1).await;
    // Whoever waits for the next event sees two rounds pass.
    for name in ["next", "last"] {
        house.append(vec![draft(name)], None).await.unwrap();
        eventually(async || service.effects().await.contains(&name.to_owned())).await;
    }

    assert_eq!(scribe.came("bad"), came + 1);
}

async fn jobs_go_on_when_the_clock_jumps(scratch: &Scratch) {
    let mut shop = Shop::open(scratch).await;
    shop.work(Worker::new(KIND, 2), |running| items(running, 0));

    for micros in JUMPS {
        jump(&shop.clock, micros);
        let id = shop.enqueue(job()).await;

        let done = shop.until(id, |job| job.state == State::Succeeded).await;

        assert_eq!((done.fence, done.n_attempts), (1, 1));
    }
    assert_eq!(shop.effects().await, ["end"; 3]);
}

/// Ahead of its lease, another worker takes the job over; the first one's writes are refused.
async fn a_job_that_runs_while_the_clock_jumps_takes_effect_once(scratch: &Scratch) {
    for micros in JUMPS {
        let mut shop = Shop::open(scratch).await;
        let (late, done_before) = (gate(), shop.effects().await.len());
        let held = Arc::clone(&late);
        let handler = move |mut running: Running| {
            let late = Arc::clone(&held);
            async move {
                if first(&running) == 0 {
                    running.step(progress(1, 2), effect(format!("{micros}: first"))).await?;
                }
                if running.job().fence == 1 {
                    let _ = late.acquire().await;
                }
                running.finish(json!(null), effect(format!("{micros}: second"))).await
            }
        };
        shop.work(Worker::new(KIND, 1), handler.clone());
        let id = shop.enqueue(NewJob { args: json!(micros), ..job() }).await;
        shop.until(id, |job| job.done == 1).await;

        jump(&shop.clock, micros);
        // This one looks at once for workers that vanished.
        shop.work(Worker::new(KIND, 1), handler);
        if micros > 0 {
            shop.until(id, |job| job.state == State::Succeeded).await;
        }
        late.close();
        let done = shop.until(id, |job| job.state == State::Succeeded).await;

        assert_eq!((done.fence, shop.effects().await.len()), (if micros > 0 { 2 } else { 1 }, done_before + 2));
    }
}

#[tokio::test]
async fn events_are_relayed_when_the_clock_jumps() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.run();

    for micros in JUMPS {
        street.publish(50).await;
        jump(&street.house.clock, micros);
        street.publish(50).await;

        street.relayed().await;
    }

    street.adds_up().await;
    let again = "SELECT COUNT(*) FROM outbox WHERE tries > 0";
    assert_eq!(crate::street::count_of(&street.house.db, again).await, 0, "none was sent again");
}
