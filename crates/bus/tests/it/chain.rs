//! Events that are caused by events: they tell by which, and a loop of them ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use manifold_bus::{
    Bus, Cause, Consumer, Draft, Failure, Filter, Handler, Jobs, NewJob, Outbox, Running, Source, Which, Worker,
    consume, dead_letters, redrive,
};
use manifold_contract::events::v1::Event;
use manifold_core::Ids;
use manifold_store::{Db, Tx, on};
use prost::Message;
use tokio::task::JoinSet;

use crate::consumer::{Consuming, eventually};
use crate::house::{House, REQUEST, TENANT, draft};
use crate::nats::Nats;
use crate::on_both_engines;
use crate::scratch::Scratch;
use crate::street::Street;

on_both_engines!(
    a_loop_ends_in_a_dead_letter_that_can_take_one_more_step,
    events_of_a_job_stand_in_the_chain_of_what_it_was_enqueued_for,
);

/// Answers each event with another one.
struct Answers {
    outbox: Outbox,
    with: &'static str,
}

impl Handler for Answers {
    fn handle<'t>(&'t self, tx: &'t mut Tx<'_>, events: &'t [Event]) -> BoxFuture<'t, Result<(), Failure>> {
        async move {
            for event in events {
                let (subject, data) = (event.subject.clone(), Bytes::from_static(b"{}"));
                let draft = Draft { type_: self.with, subject, tenant: TENANT, data };
                self.outbox.append(tx, &[draft], &Cause::Event(event)).await?;
            }
            Ok(())
        }
        .boxed()
    }
}

/// Two services, each of which answers the events of the other one.
fn answer_each_other(house: &House, service: &Consuming, ways: [Bus; 2], tasks: &mut JoinSet<()>) {
    let clock = house.clock.clone();
    let other = Outbox::new("search", clock.clone(), Ids::new(clock.clone()));
    let [to_house, to_service] = ways;
    let (first, second) = (Consumer::new("test-bus__answer", Filter::Domain("search")), house.outbox.clone());
    let first = Consumer { ack_wait: Duration::from_millis(500), ..first };
    let answers = Answers { outbox: second, with: "ai.request.completed" };
    tasks.spawn(consume(first, to_house, house.db.clone(), clock.clone(), answers));
    let second = Consumer::new("test-consumer__answer", Filter::Domain("ai"));
    let second = Consumer { ack_wait: Duration::from_millis(500), ..second };
    let answers = Answers { outbox: other, with: "search.query.completed" };
    tasks.spawn(consume(second, to_service, service.db.clone(), clock, answers));
}

/// All events of both, in the order of their chain.
async fn chain(dbs: [&Db; 2]) -> Vec<Event> {
    let mut events = Vec::new();
    for db in dbs {
        let sql = "SELECT payload FROM outbox";
        let rows: Vec<Vec<u8>> = on!(db, |pool| sqlx::query_scalar(sql).fetch_all(pool).await).unwrap();
        events.extend(rows.iter().map(|row| Event::decode(&**row).unwrap()));
    }
    events.sort_by_key(|event| event.hop);
    events
}

async fn given_up(db: &Db) -> Vec<(String, String)> {
    let letters = dead_letters(db, &Which { limit: 10, ..Which::default() }).await.unwrap();
    letters.into_iter().map(|letter| (letter.kind, letter.reason)).collect()
}

/// The loop went round as often as it may, and everything tells of its cause.
async fn ends(house: &House, service: &Consuming) {
    eventually(async || !given_up(&service.db).await.is_empty()).await;

    let events = chain([&house.db, &service.db]).await;
    let hops: Vec<_> = events.iter().map(|event| event.hop).collect();
    assert_eq!(hops, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    for pair in events.windows(2) {
        assert_eq!(pair[1].causation_id, pair[0].id);
    }
    for event in &events {
        let (trace, request) = (house.trace.to_string(), REQUEST.to_string());
        assert_eq!((&event.traceparent, &event.correlation_id), (&trace, &request));
    }
    assert_eq!(given_up(&service.db).await, [("bus".to_owned(), "HOP_LIMIT".to_owned())]);
    assert!(given_up(&house.db).await.is_empty());
}

async fn a_loop_ends_in_a_dead_letter_that_can_take_one_more_step(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let (service, mut tasks) = (Consuming::open(scratch).await, JoinSet::new());
    let reads = |name, db: &Db| Bus::Embedded(vec![Source { name, db: db.clone() }]);
    let ways = [reads("test-consumer", &service.db), reads("test-bus", &house.db)];
    house.append(vec![draft("a")], None).await.unwrap();

    answer_each_other(&house, &service, ways, &mut tasks);

    ends(&house, &service).await;
    let all = Which { limit: 10, ..Which::default() };
    assert_eq!(redrive(&service.db, &all, &house.clock).await.unwrap(), 1);
    eventually(async || !given_up(&house.db).await.is_empty()).await;
    let events = chain([&house.db, &service.db]).await;
    assert_eq!((events.len(), events[9].hop), (10, 9));
    assert!(given_up(&service.db).await.is_empty());
}

async fn events_of_a_job_stand_in_the_chain_of_what_it_was_enqueued_for(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let jobs = Jobs::new(house.db.clone(), house.clock.clone());
    let correlation_id = REQUEST.to_string();
    let event = |hop| Event { hop, correlation_id: correlation_id.clone(), ..Event::default() };
    let chains = [Cause::Event(&event(3)).chain(), Cause::Event(&event(8)).chain()];

    let enqueued = jobs.clone();
    let ids = house.db.write("enqueue", move |tx| {
        let (jobs, chains) = (enqueued.clone(), chains.clone());
        Box::pin(async move {
            let mut ids = Vec::new();
            for chain in chains {
                let job = NewJob { chain, ..NewJob::new(TENANT, "export", serde_json::Value::Null) };
                ids.push(jobs.enqueue(tx, &job).await?);
            }
            Ok(ids)
        })
    });
    let ids = ids.await.unwrap();
    let (outbox, mut tasks) = (house.outbox.clone(), JoinSet::new());
    tasks.spawn(jobs.work(Worker::new("export", 2), move |running: Running| {
        let work = Arc::new((outbox.clone(), running.job().clone()));
        running.finish(serde_json::Value::Null, move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move { work.0.append(tx, &[draft("done")], &Cause::Job(&work.1)).await })
        })
    }));

    eventually(async || !given_up(&house.db).await.is_empty() && !house.events().await.is_empty()).await;
    let events = house.events().await;
    assert_eq!(events.len(), 1);
    let event = &events[0].0;
    assert_eq!((event.hop, &event.correlation_id, &event.causation_id), (4, &correlation_id, &ids[0].to_string()));
    assert_eq!(given_up(&house.db).await, [("bus".to_owned(), "HOP_LIMIT".to_owned())]);
}

#[tokio::test]
async fn a_loop_through_the_stream_ends_in_a_dead_letter() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    let source = Source { name: "test-consumer", db: street.service.db.clone() };
    street.relays.spawn(manifold_bus::relay(street.broker.clone(), source, street.house.clock.clone()));
    street.relay();
    street.publish(1).await;
    let (way, mut tasks) = (Bus::JetStream(street.broker.clone()), JoinSet::new());

    answer_each_other(&street.house, &street.service, [way.clone(), way], &mut tasks);

    ends(&street.house, &street.service).await;
}

#[tokio::test]
async fn a_row_behind_a_long_chain_is_refused() {
    let house = House::open(&Scratch::sqlite()).await;
    let event = |hop| Event { hop, ..Event::default() };

    let last = house.outbox.row(draft("a"), &Cause::Event(&event(7)));
    let refused = house.outbox.row(draft("a"), &Cause::Event(&event(8)));

    assert!(last.is_ok());
    assert_eq!(refused.unwrap_err().reason(), "HOP_LIMIT");
}
