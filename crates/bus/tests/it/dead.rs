//! Dead letters: what cannot be read, and what is sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use manifold_bus::{Failure, Which, cursors, dead_letters, prune_dead_letters, redrive};
use manifold_core::Error;
use manifold_store::{SqlResultExt, Tx, on};

use crate::consumer::{Consuming, Scribe, eventually};
use crate::house::{House, TENANT, draft};
use crate::on_both_engines;
use crate::scratch::Scratch;

on_both_engines!(
    bytes_that_are_no_event_are_given_up_at_once,
    a_version_that_only_others_read_is_passed,
    a_dead_letter_goes_back_to_its_consumer,
);

async fn bytes_that_are_no_event_are_given_up_at_once(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let (mut service, scribe) = (Consuming::open(scratch).await, Scribe::default());
    house.append(["a", "broken", "newer", "b"].map(draft).to_vec(), None).await.unwrap();
    let events = house.events().await;
    let (broken, mut newer) = (events[1].2, events[2].clone());
    newer.0.type_version = 2;
    house.overwrite(broken, b"\xff\xff".to_vec()).await;
    house.overwrite(newer.2, prost::Message::encode_to_vec(&newer.0)).await;

    service.start(&house, &scribe, 10);

    service.until_effects(&["a", "b"]).await;
    eventually(async || service.count("SELECT COUNT(*) FROM dead_letter").await == 2).await;
    let mut letters = dead_letters(&service.db, &Which { limit: 10, ..Which::default() }).await.unwrap();
    letters.sort_by(|a, b| a.reason.cmp(&b.reason));
    let told: Vec<_> = letters.iter().map(|letter| (letter.kind.as_str(), letter.reason.as_str())).collect();
    assert_eq!(told, [("decode", "UNDECODABLE"), ("decode", "VERSION_UNKNOWN")]);
    assert_eq!((letters[0].tenant.as_str(), letters[1].tenant.as_str()), ("", TENANT.to_string().as_str()));
    assert_eq!(service.count("SELECT COUNT(*) FROM consumer_retry").await, 0);
}

async fn a_version_that_only_others_read_is_passed(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let (mut service, scribe) = (Consuming::open(scratch).await, Scribe::default());
    house.append(["foreign", "own"].map(draft).to_vec(), None).await.unwrap();
    let mut foreign = house.events().await.remove(0);
    (foreign.0.r#type, foreign.0.type_version) = ("search.index.changed".to_owned(), 2);
    house.overwrite(foreign.2, prost::Message::encode_to_vec(&foreign.0)).await;

    service.start(&house, &scribe, 10);

    service.until_effects(&["own"]).await;
    assert_eq!(service.count("SELECT COUNT(*) FROM dead_letter").await, 0);
}

async fn a_dead_letter_goes_back_to_its_consumer(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let scribe = Scribe::with("bad", move |_| match is_mended.load(Ordering::Relaxed) {
        true => Ok(()),
        false => Err(Failure::Dead { reason: "ON_PURPOSE", source: Error::internal("the test says no") }),
    });
    house.append(vec![draft("bad"), draft("good")], None).await.unwrap();
    service.start(&house, &scribe, 10);
    service.until_effects(&["good"]).await;
    let all = Which { limit: 10, ..Which::default() };
    let foreign = Which { consumer: Some("somebody__else".to_owned()), ..all.clone() };

    let letters = dead_letters(&service.db, &all).await.unwrap();
    let in_vain = redrive(&service.db, &all, &house.clock).await.unwrap();
    let again = "SELECT COUNT(*) FROM dead_letter WHERE redriven_at IS NULL AND count = 2";
    eventually(async || service.count(again).await == 1).await;
    mended.store(true, Ordering::Relaxed);
    let n_foreign = redrive(&service.db, &foreign, &house.clock).await.unwrap();
    let n_redriven = redrive(&service.db, &all, &house.clock).await.unwrap();

    service.until_effects(&["bad", "good"]).await;
    assert_eq!((letters.len(), letters[0].reason.as_str(), letters[0].count), (1, "ON_PURPOSE", 1));
    assert_eq!((in_vain, n_foreign, n_redriven), (1, 0, 1));
    assert!(dead_letters(&service.db, &all).await.unwrap().is_empty());
    assert_eq!(prune_dead_letters(&service.db, &house.clock).await.unwrap(), 0);
    house.clock.advance(Duration::from_secs(31 * 24 * 60 * 60));
    assert_eq!(prune_dead_letters(&service.db, &house.clock).await.unwrap(), 1);
    let cursors = cursors(&service.db).await.unwrap();
    assert_eq!((cursors[0].consumer.as_str(), cursors[0].behind(&house.db).await.unwrap()), ("test__scribe", 0));
}

impl House {
    /// Damages an event.
    pub async fn overwrite(&self, event: uuid::Uuid, payload: Vec<u8>) {
        let changed = self.db.write("damage an event", move |tx| {
            let payload = payload.clone();
            Box::pin(async move {
                let sql = "UPDATE outbox SET payload = $2 WHERE event_id = $1";
                on!(tx, |executor| sqlx::query(sql).bind(event).bind(payload).execute(executor).await.map(|_| ()))
                    .during("damage an event")
            })
        });
        changed.await.unwrap();
    }

    /// Takes the last event back. On Postgres numbers are never given again.
    pub async fn undo_last(&self) {
        let undone = self.db.write("undo an event", |tx| {
            Box::pin(async move {
                let sqlite = matches!(tx, Tx::Sqlite(_));
                let sql = "DELETE FROM outbox WHERE seq = (SELECT MAX(seq) FROM outbox)";
                on!(tx, |executor| sqlx::query(sql).execute(executor).await.map(|_| ())).during("undo an event")?;
                if sqlite {
                    let sql = "UPDATE sqlite_sequence SET seq = seq - 1 WHERE name = 'outbox'";
                    on!(tx, |executor| sqlx::query(sql).execute(executor).await.map(|_| ()))
                        .during("free its number")?;
                }
                Ok(())
            })
        });
        undone.await.unwrap();
    }

    /// Waits until a consumer has told that it has read something, which it does every 30 seconds.
    pub async fn told(&self) {
        let sql = "SELECT COUNT(*) FROM outbox_reader WHERE last_seq > 0";
        eventually(async || {
            self.clock.advance(Duration::from_secs(31));
            on!(&self.db, |pool| sqlx::query_scalar::<_, i64>(sql).fetch_one(pool).await).unwrap() > 0
        })
        .await;
    }
}
