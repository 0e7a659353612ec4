//! What does not add up is found, and a sound ledger has no findings.

use std::time::Duration;

use manifold_bus::{Failure, Finding, Jobs, NewJob, Source, verify};
use manifold_core::{Error, Result};
use manifold_store::Db;

use crate::consumer::{Consuming, Scribe, change, eventually};
use crate::house::{House, TENANT, draft};
use crate::nats::Nats;
use crate::on_both_engines;
use crate::scratch::Scratch;
use crate::street::Street;

on_both_engines!(
    a_sound_ledger_has_no_findings,
    rows_that_were_changed_are_found,
    a_consumer_where_no_event_has_been_is_found,
    unread_events_that_were_pruned_are_found,
    what_nobody_takes_up_is_found,
);

fn ledgers(house: &House, service: &Consuming) -> [Source; 2] {
    [Source { name: "test-bus", db: house.db.clone() }, Source { name: "test-consumer", db: service.db.clone() }]
}

async fn findings(house: &House, service: &Consuming) -> Vec<Finding> {
    verify(&ledgers(house, service), None, &house.clock).await.unwrap()
}

/// What was found where.
fn names(findings: &[Finding]) -> Vec<(&str, &str)> {
    findings.iter().map(|finding| (finding.check, finding.place)).collect()
}

async fn a_sound_ledger_has_no_findings(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    let other = manifold_bus::Draft { type_: "identity.key.created", ..draft("of no interest") };
    house.append(vec![draft("a"), draft("b"), other], None).await.unwrap();
    service.start(&house, &Scribe::default(), 10);
    service.until_effects(&["a", "b"]).await;
    house.told().await;

    let before = findings(&house, &service).await;
    house.clock.advance(Duration::from_secs(25 * 60 * 60));
    house.outbox.prune(&house.db).await.unwrap();
    let after = findings(&house, &service).await;

    assert_eq!((names(&before), names(&after)), (vec![], vec![]));
}

async fn rows_that_were_changed_are_found(scratch: &Scratch) {
    let (house, service) = (House::open(scratch).await, Consuming::open(scratch).await);
    house.append(["broken", "moved", "renamed", "fine"].map(draft).to_vec(), None).await.unwrap();
    let broken = house.events().await[0].2;
    house.overwrite(broken, b"\xff\xff".to_vec()).await;
    change(&house.db, "UPDATE outbox SET subject = 'mf.evt.ten_x.ai.request.completed' WHERE seq = 2").await;
    change(&house.db, "UPDATE outbox SET type = 'ai.request.failed' WHERE seq = 3").await;

    let found = findings(&house, &service).await;

    assert_eq!(names(&found), [("outbox.unreadable", "test-bus"), ("outbox.differs", "test-bus")]);
    assert!(found[0].found.contains("1 events") && found[0].found.contains("number 1, evt_"), "{}", found[0].found);
    assert!(found[1].found.contains("2 rows") && found[1].found.contains("subject of number 2"), "{}", found[1].found);
}

async fn a_consumer_where_no_event_has_been_is_found(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    house.append(vec![draft("a")], None).await.unwrap();
    service.start(&house, &Scribe::default(), 10);
    service.until_effects(&["a"]).await;
    service.kill().await;

    // As after the return of an older file, or into another Postgres server.
    change(&service.db, "UPDATE consumer_cursor SET last_xid = 9000000000000000, last_seq = 900").await;

    let found = findings(&house, &service).await;
    assert_eq!(names(&found), [("cursor.ahead", "test-consumer")]);
    assert!(found[0].found.contains("test__scribe"), "{}", found[0].found);
    assert!(found[0].remedy.contains("UPDATE consumer_cursor SET last_"), "{}", found[0].remedy);
}

async fn unread_events_that_were_pruned_are_found(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    house.append(vec![draft("read")], None).await.unwrap();
    service.start(&house, &Scribe::default(), 10);
    service.until_effects(&["read"]).await;
    house.told().await;
    service.kill().await;
    house.append(vec![draft("unread")], None).await.unwrap();
    house.clock.advance(Duration::from_secs(8 * 24 * 60 * 60));

    let before = findings(&house, &service).await;
    house.outbox.prune(&house.db).await.unwrap();
    let after = findings(&house, &service).await;

    assert_eq!((names(&before), names(&after)), (vec![], vec![("cursor.behind", "test-consumer")]));
}

async fn what_nobody_takes_up_is_found(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    let no = || Error::internal("the test says no");
    let scribe = Scribe::with("late", move |_| Err(no().into()))
        .and("dead", move |_| Err(Failure::Dead { reason: "ON_PURPOSE", source: no() }));
    house.append(["late", "dead", "fine"].map(draft).to_vec(), None).await.unwrap();
    service.start(&house, &scribe, 10);
    service.until_effects(&["fine"]).await;
    eventually(async || service.count("SELECT COUNT(*) FROM dead_letter").await == 1).await;
    service.kill().await;
    enqueue(&service.db, &house).await.unwrap();
    // As a worker leaves it that is killed after it has claimed the job.
    change(&service.db, "UPDATE job SET state = 2, fence = 1, lease_until = created_at").await;

    let at_once = findings(&house, &service).await;
    house.clock.advance(Duration::from_secs(600));
    let later = findings(&house, &service).await;

    let place = "test-consumer";
    assert_eq!(names(&at_once), [("dead_letter", place)]);
    assert_eq!(names(&later), [("retry.late", place), ("job.abandoned", place), ("dead_letter", place)]);
}

async fn enqueue(db: &Db, house: &House) -> Result<manifold_core::JobId> {
    let jobs = Jobs::new(db.clone(), house.clock.clone());
    let enqueued = db.write("enqueue", move |tx| {
        let jobs = jobs.clone();
        Box::pin(async move { jobs.enqueue(tx, &NewJob::new(TENANT, "export", serde_json::Value::Null)).await })
    });
    enqueued.await
}

async fn findings_with(street: &Street) -> Vec<Finding> {
    let ledgers = ledgers(&street.house, &street.service);
    verify(&ledgers, Some(&street.broker), &street.house.clock).await.unwrap()
}

#[tokio::test]
async fn what_the_stream_lacks_is_found() {
    let mut nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.run();
    street.publish(20).await;
    street.adds_up().await;
    street.inspected().await;
    eventually(async || {
        let consumer = street.broker.status().await.unwrap().consumers.remove(0);
        (consumer.n_pending, consumer.n_unfinished) == (0, 0)
    })
    .await;
    let sound = findings_with(&street).await;
    street.service.kill().await;
    street.publish(10).await;
    street.relayed().await;
    street.relays.shutdown().await;
    let unread = findings_with(&street).await;

    let client = async_nats::connect(nats.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    let stream = context.get_stream("MF_EVENTS").await.unwrap();
    stream.purge().sequence(23).await.unwrap();
    let purged = findings_with(&street).await;
    stream.delete_message(30).await.unwrap();
    let holed = findings_with(&street).await;
    stream.delete_consumer("test__scribe").await.unwrap();
    let forgotten = findings_with(&street).await;
    context.delete_stream("MF_EVENTS").await.unwrap();
    let gone = findings_with(&street).await;
    nats.kill();
    eventually(async || !street.broker.is_connected()).await;
    street.publish(1).await;
    street.house.clock.advance(Duration::from_secs(61));
    let away = findings_with(&street).await;

    assert_eq!((names(&sound), names(&unread)), (vec![], vec![]));
    assert_eq!(names(&purged), [("stream.gap", "test-bus")]);
    assert!(purged[0].found.starts_with("2 events"), "{}", purged[0].found);
    assert_eq!(names(&holed), [("stream.lost", "test-bus")]);
    assert!(names(&forgotten).contains(&("consumer.missing", "test-consumer")), "{forgotten:?}");
    assert_eq!(names(&gone), [("stream.lost", "test-bus")]);
    assert_eq!(names(&away), [("bus.away", "nats"), ("outbox.waiting", "test-bus")]);
}

#[tokio::test]
async fn a_message_that_is_gone_from_between_unread_ones_is_found() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.run();
    street.publish(2).await;
    street.adds_up().await;
    street.service.kill().await;
    // So many that a few random looks miss it.
    street.publish(3_000).await;
    street.relayed().await;
    street.relays.shutdown().await;

    let client = async_nats::connect(nats.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("MF_EVENTS").await.unwrap();
    stream.delete_message(1_500).await.unwrap();
    let found = findings_with(&street).await;

    assert!(matches!(found.as_slice(), [one] if ["stream.gap", "stream.lost"].contains(&one.check)), "{found:?}");
}
