//! Events through JetStream: every one takes effect exactly once, whatever becomes of the server in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use manifold_bus::{Broker, BrokerConfig, Bus, Consumer, Filter, Source, consume, relay};
use manifold_contract::events::v1::Event;
use manifold_core::{Code, Error, Secret};
use manifold_store::on;
use prost::Message;
use tokio::task::JoinSet;

use crate::consumer::{Consuming, Scribe, change, eventually};
use crate::house::{House, draft};
use crate::nats::Nats;
use crate::scratch::Scratch;

/// A publisher and a consumer, which meet on a NATS server only.
struct Street {
    house: House,
    service: Consuming,
    broker: Broker,
    relays: JoinSet<()>,
    n: usize,
    _scratch: Scratch,
}

fn config(url: String) -> BrokerConfig {
    let (week, window) = (Duration::from_secs(7 * 24 * 3_600), Duration::from_secs(600));
    BrokerConfig { url: Secret::new(url), replicas: 1, max_age: week, max_bytes: 64 << 20, duplicate_window: window }
}

impl Street {
    async fn open(nats: &Nats) -> Self {
        Self::with(config(nats.url())).await
    }

    async fn with(config: BrokerConfig) -> Self {
        let scratch = Scratch::postgres().await;
        let house = House::open(&scratch).await;
        let service = Consuming::open(&scratch).await;
        let broker = Broker::connect(config).await.unwrap();
        eventually(async || broker.prepare().await.is_ok()).await;
        Self { house, service, broker, relays: JoinSet::new(), n: 0, _scratch: scratch }
    }

    fn relay(&mut self) {
        let source = Source { name: "test-bus", db: self.house.db.clone() };
        self.relays.spawn(relay(self.broker.clone(), source, self.house.clock.clone()));
    }

    fn consume(&mut self, scribe: &Scribe, max_deliver: i64) {
        let ack_wait = Duration::from_millis(500);
        let consumer = Consumer { max_deliver, ack_wait, ..Consumer::new("test__scribe", Filter::Domain("ai")) };
        let bus = Bus::JetStream(self.broker.clone());
        let (db, clock) = (self.service.db.clone(), self.house.clock.clone());
        self.service.running.spawn(consume(consumer, bus, db, clock, scribe.clone()));
    }

    fn run(&mut self) {
        self.relay();
        self.consume(&Scribe::default(), 10);
    }

    /// Publishes so many events, in commands of 20.
    async fn publish(&mut self, n: usize) {
        let names: Vec<_> = (self.n..self.n + n).map(name).collect();
        for part in names.chunks(20) {
            self.house.append(part.iter().map(|name| draft(name)).collect(), None).await.unwrap();
        }
        self.n += n;
    }

    /// Every event took effect, and none twice.
    async fn adds_up(&self) {
        let all: Vec<_> = (0..self.n).map(name).collect();
        eventually(async || {
            // An event that was being tried when its consumer was killed waits for a minute.
            self.house.clock.advance(Duration::from_secs(1));
            self.service.effects().await.len() >= all.len()
        })
        .await;
        assert_eq!(self.service.effects().await, all);
    }

    /// The stream has every event.
    async fn relayed(&self) {
        let count = "SELECT COUNT(*) FROM outbox WHERE published_at IS NULL";
        eventually(async || count_of(&self.house.db, count).await == 0).await;
    }
}

fn name(n: usize) -> String {
    format!("{n:05}")
}

async fn count_of(db: &manifold_store::Db, sql: &'static str) -> i64 {
    on!(db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
}

#[tokio::test]
async fn events_take_effect_once_through_the_stream() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.publish(50).await;

    street.run();
    street.publish(250).await;

    street.adds_up().await;
}

#[tokio::test]
async fn killed_relays_and_consumers_lose_and_repeat_nothing() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;

    for round in 0..20 {
        // Two of each kind: one of the relays stands by, the consumers share the work.
        for _ in 0..2 {
            street.run();
        }
        street.publish(60).await;
        tokio::time::sleep(Duration::from_millis(3 * round)).await;
        street.relays.shutdown().await;
        street.service.kill().await;
    }
    street.run();

    street.adds_up().await;
}

#[tokio::test]
async fn what_is_sent_again_after_the_stream_forgot_its_id_takes_no_effect() {
    let nats = Nats::start().await;
    let mut street =
        Street::with(BrokerConfig { duplicate_window: Duration::from_millis(100), ..config(nats.url()) }).await;
    street.publish(30).await;
    street.run();
    street.adds_up().await;
    street.relays.shutdown().await;

    // As if nobody had heard that the events arrived.
    tokio::time::sleep(Duration::from_millis(400)).await;
    change(&street.house.db, "UPDATE outbox SET published_at = NULL, stream_epoch = NULL, stream_seq = NULL").await;
    street.relay();
    street.relayed().await;
    street.publish(1).await;

    street.adds_up().await;
    let highest = count_of(&street.house.db, "SELECT MAX(stream_seq) FROM outbox").await;
    assert_eq!(highest, 61, "the stream has them twice");
}

#[tokio::test]
async fn a_server_that_is_killed_while_events_come_loses_none() {
    let mut nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.run();

    for _ in 0..5 {
        street.publish(100).await;
        nats.kill();
        street.publish(100).await;
        nats.resume().await;
    }

    street.adds_up().await;
}

#[tokio::test]
async fn events_wait_in_their_order_while_the_server_is_away() {
    let mut nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.run();
    street.publish(20).await;
    street.adds_up().await;
    nats.kill();

    street.publish(2_000).await;
    let meanwhile = street.service.effects().await.len();
    nats.resume().await;

    street.adds_up().await;
    street.relayed().await;
    let disorder = "SELECT COUNT(*) FROM (SELECT stream_seq, LAG(stream_seq) OVER (ORDER BY seq) AS before FROM outbox) AS o \
                    WHERE before > stream_seq";
    assert_eq!((meanwhile, count_of(&street.house.db, disorder).await), (20, 0));
}

#[tokio::test]
async fn a_server_that_comes_back_empty_is_filled_again() {
    let mut nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.run();
    street.publish(200).await;
    street.adds_up().await;
    street.service.kill().await;
    street.publish(100).await;
    street.relayed().await;

    // Of the last hundred nobody has heard.
    nats.kill();
    nats.forget();
    nats.resume().await;
    street.consume(&Scribe::default(), 10);
    street.publish(50).await;

    street.adds_up().await;
}

/// The server comes back with what it had at an earlier time: all of it, or with what consumers did since then.
async fn goes_back(part: &str, others_publish: bool) {
    let mut nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.run();
    street.publish(100).await;
    street.adds_up().await;
    street.relayed().await;
    nats.stop();
    let copy = nats.copy();
    nats.resume().await;
    street.publish(100).await;
    street.adds_up().await;
    street.service.kill().await;
    street.publish(60).await;
    street.relayed().await;
    street.relays.shutdown().await;

    nats.kill();
    nats.restore(&copy, part);
    nats.resume().await;
    if others_publish {
        // Numbers look well: the stream ends above the highest that our outbox knows.
        let client = async_nats::connect(nats.url()).await.unwrap();
        let context = async_nats::jetstream::new(client);
        for n in 0..300 {
            let sent = context.publish(format!("mf.evt.ten_x.other.thing.{n}"), "not ours".into()).await.unwrap();
            sent.await.unwrap();
        }
    }
    street.run();
    street.publish(40).await;

    street.adds_up().await;
}

#[tokio::test]
async fn a_stream_that_went_back_in_time_is_repaired() {
    goes_back("", false).await;
}

#[tokio::test]
async fn a_stream_that_went_back_behind_its_consumers_is_repaired() {
    goes_back("jetstream/$G/streams/MF_EVENTS/msgs", false).await;
}

#[tokio::test]
async fn a_stream_that_went_back_and_was_filled_by_others_is_repaired() {
    goes_back("", true).await;
}

#[tokio::test]
async fn the_way_of_events_can_be_changed_without_losing_or_repeating_any() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    let scribe = Scribe::default();

    for round in 0..6 {
        if round % 2 == 0 {
            street.service.start(&street.house, &scribe, 10);
        } else {
            street.run();
        }
        street.publish(70).await;
        // Once the old way goes on beside the new one, as while processes are exchanged one by one.
        if round != 3 {
            tokio::time::sleep(Duration::from_millis(30)).await;
            street.relays.shutdown().await;
            street.service.kill().await;
        }
    }
    street.run();

    street.adds_up().await;
}

fn refusal() -> manifold_bus::Failure {
    Error::new(Code::Internal, "ON_PURPOSE", "the test says no").into()
}

#[tokio::test]
async fn a_poisonous_event_becomes_a_dead_letter_and_can_be_sent_again() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    let mended = Arc::new(AtomicBool::new(false));
    let look = Arc::clone(&mended);
    let scribe = Scribe::with("00003", move |_| if look.load(Ordering::Relaxed) { Ok(()) } else { Err(refusal()) });
    street.relay();
    street.consume(&scribe, 3);
    street.publish(10).await;

    let buried = "SELECT COUNT(*) FROM dead_letter WHERE reason = 'MAX_DELIVERIES' AND consumer = 'test__scribe'";
    eventually(async || {
        street.house.clock.advance(Duration::from_secs(360));
        street.service.count(buried).await == 1
    })
    .await;
    let others = street.service.effects().await.len();
    mended.store(true, Ordering::Relaxed);
    let which = manifold_bus::Which { limit: 10, ..Default::default() };
    let n = manifold_bus::redrive(&street.service.db, &which, &street.house.clock).await.unwrap();
    eventually(async || {
        street.house.clock.advance(Duration::from_secs(360));
        street.service.effects().await.len() == 10
    })
    .await;

    assert_eq!((others, n), (9, 1));
    street.adds_up().await;
}

#[tokio::test]
async fn what_strangers_and_newer_versions_send_is_given_up_at_once_with_its_bytes() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.run();
    street.publish(1).await;
    street.adds_up().await;

    let client = async_nats::connect(nats.url()).await.unwrap();
    let context = async_nats::jetstream::new(client);
    context.publish("mf.evt.ten_x.ai.request.completed", "no event".into()).await.unwrap().await.unwrap();
    // Version 2, with a field that this version does not know (number 100, a text).
    let (id, kind) = (manifold_core::EventId(uuid::Uuid::from_u128(9)).to_string(), "ai.request.completed".to_owned());
    let event = Event { id: id.clone(), r#type: kind, type_version: 2, ..Event::default() };
    let newer = [event.encode_to_vec(), vec![0xa2, 0x06, 3, b'n', b'e', b'w']].concat();
    let message = async_nats::jetstream::message::PublishMessage::build().payload(newer.clone().into()).message_id(id);
    context.send_publish("mf.evt.ten_x.ai.request.completed", message).await.unwrap().await.unwrap();
    street.publish(1).await;

    street.adds_up().await;
    let buried = "SELECT COUNT(*) FROM dead_letter WHERE kind = 'decode'";
    eventually(async || street.service.count(buried).await == 2).await;
    let letters = "SELECT reason, payload FROM dead_letter ORDER BY reason";
    let letters: Vec<(String, Vec<u8>)> =
        on!(&street.service.db, |pool| sqlx::query_as(letters).fetch_all(pool).await).unwrap();
    assert_eq!(letters, [("UNDECODABLE".to_owned(), b"no event".to_vec()), ("VERSION_UNKNOWN".to_owned(), newer)]);
}

#[tokio::test]
async fn an_event_that_stops_its_consumer_again_and_again_is_given_up() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.relay();
    street.publish(9).await;
    street.relayed().await;
    // It never comes to an end, and whoever handles it is killed.
    let scribe = Scribe::stuck_at("00004");

    let buried = "SELECT COUNT(*) FROM dead_letter WHERE reason = 'MAX_DELIVERIES'";
    let mut tries = 0;
    while street.service.count(buried).await == 0 {
        let came = scribe.came("00004");
        street.consume(&scribe, 3);
        eventually(async || scribe.came("00004") > came || street.service.count(buried).await == 1).await;
        street.service.kill().await;
        street.house.clock.advance(Duration::from_secs(61));
        tries += 1;
        assert!(tries < 20, "it comes for ever");
    }
    street.consume(&scribe, 3);

    eventually(async || {
        street.house.clock.advance(Duration::from_secs(61));
        street.service.effects().await.len() == 8
    })
    .await;
}

#[tokio::test]
async fn a_full_server_keeps_events_waiting_until_there_is_room() {
    let nats = Nats::start().await;
    let mut street = Street::with(BrokerConfig { max_bytes: 100 << 10, ..config(nats.url()) }).await;
    street.relay();
    street.publish(1_000).await;
    eventually(async || count_of(&street.house.db, "SELECT COUNT(*) FROM outbox WHERE published_at > 0").await > 100)
        .await;

    street.consume(&Scribe::default(), 10);

    street.adds_up().await;
}

#[tokio::test]
async fn what_somebody_removes_from_the_stream_unread_is_published_again() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.run();
    street.publish(20).await;
    street.adds_up().await;
    street.service.kill().await;
    street.publish(80).await;
    street.relayed().await;

    let client = async_nats::connect(nats.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("MF_EVENTS").await.unwrap();
    stream.purge().sequence(81).await.unwrap();
    street.consume(&Scribe::default(), 10);

    eventually(async || {
        street.house.clock.advance(Duration::from_secs(31));
        street.service.effects().await.len() == 100
    })
    .await;
    street.adds_up().await;
}

#[tokio::test]
async fn a_stream_of_another_kind_is_refused_with_the_remedy() {
    let nats = Nats::start().await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let other = async_nats::jetstream::stream::Config {
        name: "MF_EVENTS".to_owned(),
        subjects: vec!["mf.>".to_owned()],
        ..Default::default()
    };
    async_nats::jetstream::new(client).create_stream(other).await.unwrap();
    let broker = Broker::connect(config(nats.url())).await.unwrap();
    eventually(async || broker.is_connected()).await;

    let error = broker.prepare().await.unwrap_err();

    assert_eq!((error.code(), error.reason()), (Code::Precondition, "BUS_STREAM_DIFFERS"));
    assert!(error.message().contains("nats stream rm MF_EVENTS"), "{}", error.message());
}

#[tokio::test]
async fn a_server_without_room_for_the_stream_is_refused_with_the_remedy() {
    let nats = Nats::start().await;
    let broker = Broker::connect(BrokerConfig { max_bytes: 10 << 30, ..config(nats.url()) }).await.unwrap();
    eventually(async || broker.is_connected()).await;

    let error = broker.prepare().await.unwrap_err();

    assert_eq!((error.code(), error.reason()), (Code::Precondition, "BUS_STREAM_TOO_LARGE"));
}

#[tokio::test]
async fn two_outboxes_with_long_backlogs_do_not_wait_for_each_other() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.publish(1_200).await;
    let other = Street::open(&nats).await;
    for _ in 0..60 {
        other.house.append((0..20).map(|n| draft(&name(n))).collect(), None).await.unwrap();
    }

    let source = Source { name: "other", db: other.house.db.clone() };
    street.relays.spawn(relay(street.broker.clone(), source, other.house.clock.clone()));
    street.relay();

    street.relayed().await;
    other.relayed().await;
}

#[tokio::test]
async fn a_full_stream_keeps_what_a_consumer_has_not_begun_to_read() {
    let nats = Nats::start().await;
    let mut street = Street::with(BrokerConfig { max_bytes: 100 << 10, ..config(nats.url()) }).await;
    // It is there, and has read nothing.
    street.consume(&Scribe::stuck_at("00000"), 10);
    street.relay();
    street.publish(600).await;
    eventually(async || count_of(&street.house.db, "SELECT COUNT(*) FROM outbox WHERE published_at > 0").await > 100)
        .await;
    for _ in 0..5 {
        street.house.clock.advance(Duration::from_secs(31));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let gaps = count_of(&street.house.db, "SELECT COUNT(*) FROM outbox WHERE tries > 0").await;
    street.service.kill().await;
    street.consume(&Scribe::default(), 10);

    street.adds_up().await;
    assert_eq!(gaps, 0, "nothing was removed unread");
}

#[tokio::test]
async fn what_a_relay_has_not_published_is_kept_from_the_first_start_on() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    manifold_bus::expect_relay(&street.house.db, &street.house.clock).await.unwrap();
    street.publish(20).await;

    street.house.clock.advance(Duration::from_secs(6 * 24 * 3_600));
    let n_pruned = street.house.outbox.prune(&street.house.db).await.unwrap();
    street.run();

    street.adds_up().await;
    assert_eq!(n_pruned, 0);
}

#[tokio::test]
async fn a_message_that_is_removed_by_hand_is_published_again() {
    let nats = Nats::start().await;
    let mut street = Street::open(&nats).await;
    street.relay();
    street.publish(10).await;
    street.relayed().await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    let stream = async_nats::jetstream::new(client).get_stream("MF_EVENTS").await.unwrap();
    stream.delete_message(10).await.unwrap();

    eventually(async || {
        street.house.clock.advance(Duration::from_secs(31));
        count_of(&street.house.db, "SELECT COUNT(*) FROM outbox WHERE tries = 1 AND stream_seq = 11").await == 1
    })
    .await;
    street.consume(&Scribe::default(), 10);

    street.adds_up().await;
}
