//! Readers after the move of their databases from SQLite to Postgres: they go on where they were.

use std::time::Duration;

use manifold_bus::{follow_move, migrations};
use manifold_store::{Location, Transfer};
use uuid::Uuid;

use crate::consumer::{Consuming, Scribe};
use crate::house::{House, draft};
use crate::scratch::Scratch;

async fn move_all(files: &Scratch, server: &Scratch) {
    let Location::Sqlite { folder } = files.location() else { unreachable!() };
    let mut transfer = Transfer::begin(folder, server.location(), Uuid::new_v4()).await.unwrap().unwrap();
    let own = Consuming::migrations();
    let mut tables = transfer.plan("test-bus", &[&migrations()]).await.unwrap();
    tables.extend(transfer.plan("test-consumer", &[&migrations(), &own]).await.unwrap());
    for table in &tables {
        transfer.copy(table).await.unwrap();
    }
    for service in ["test-bus", "test-consumer"] {
        follow_move(&mut transfer.within(service).await.unwrap()).await.unwrap();
    }
    transfer.commit().await.unwrap();
}

#[tokio::test]
async fn after_a_move_the_unread_events_take_effect_once_and_the_others_not_again() {
    let (files, server) = (Scratch::sqlite(), Scratch::postgres().await);
    {
        let house = House::open(&files).await;
        let mut service = Consuming::open(&files).await;
        house.append(["a", "b", "c"].map(draft).to_vec(), None).await.unwrap();
        service.start(&house, &Scribe::default(), 10);
        service.until_effects(&["a", "b", "c"]).await;
        house.told().await;
        service.kill().await;
        house.append(["d", "e"].map(draft).to_vec(), None).await.unwrap();
    }

    move_all(&files, &server).await;

    let house = House::open(&server).await;
    let (mut service, scribe) = (Consuming::open(&server).await, Scribe::default());
    let cursor = manifold_bus::cursors(&service.db).await.unwrap().remove(0);
    assert_eq!((cursor.last_seq, cursor.behind(&house.db).await.unwrap()), (3, 2));
    house.clock.advance(Duration::from_secs(25 * 60 * 60));
    assert_eq!(house.outbox.prune(&house.db).await.unwrap(), 3, "what was read is forgotten, and nothing else");
    house.append(vec![draft("f")], None).await.unwrap();
    service.start(&house, &scribe, 10);
    service.until_effects(&["a", "b", "c", "d", "e", "f"]).await;
    assert_eq!(["a", "b", "c", "d", "e", "f"].map(|subject| scribe.came(subject)), [0, 0, 0, 1, 1, 1]);
}

#[tokio::test]
async fn a_reader_that_has_read_nothing_reads_everything_after_a_move() {
    let (files, server) = (Scratch::sqlite(), Scratch::postgres().await);
    {
        let house = House::open(&files).await;
        let _service = Consuming::open(&files).await;
        house.append(["a", "b"].map(draft).to_vec(), None).await.unwrap();
    }

    move_all(&files, &server).await;

    let house = House::open(&server).await;
    let mut service = Consuming::open(&server).await;
    service.start(&house, &Scribe::default(), 10);
    service.until_effects(&["a", "b"]).await;
}
