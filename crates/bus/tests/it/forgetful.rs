//! A NATS server that is killed, comes back with less than it had, or loses messages to somebody's hand: every event takes
//! effect exactly once nevertheless.

use std::time::Duration;

use manifold_bus::BrokerConfig;

use crate::consumer::{Scribe, change, eventually};
use crate::nats::Nats;
use crate::street::{Street, config, count_of};

#[tokio::test]
async fn what_is_sent_again_after_the_stream_forgot_its_id_takes_no_effect() {
    let nats = Nats::start().await;
    let mut street =
        Street::with(BrokerConfig { duplicate_window: Duration::from_millis(100), ..config(nats.url()) }).await;
    street.publish(30).await;
    street.run();
    street.adds_up().await;
    street.relays.shutdown().await;

    // As if nobody had heard that the events arrived; again and again, until the stream has forgotten their ids.
    street.relay();
    eventually(async || {
        change(&street.house.db, "UPDATE outbox SET published_at = NULL, stream_epoch = NULL, stream_seq = NULL").await;
        street.relayed().await;
        count_of(&street.house.db, "SELECT MAX(stream_seq) FROM outbox").await > 30
    })
    .await;
    street.publish(1).await;

    street.adds_up().await;
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
