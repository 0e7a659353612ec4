//! Events through JetStream: every one takes effect exactly once, and what is wrong with one keeps no other waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use manifold_bus::{Broker, BrokerConfig, Source, relay};
use manifold_contract::events::v1::Event;
use manifold_core::{Code, Error};
use manifold_store::on;
use prost::Message;

use crate::consumer::{Scribe, eventually};
use crate::house::draft;
use crate::nats::Nats;
use crate::street::{Street, config, count_of, name};

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
        // In another place each time.
        street.published(60 * round + 3 * round).await;
        street.relays.shutdown().await;
        street.service.kill().await;
    }
    street.run();

    street.adds_up().await;
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
            eventually(async || street.service.effects().await.len() > 70 * round + 20).await;
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
        street.inspected().await;
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
