//! What the writer promises about batches, failures of single pieces, and shutdown.

use futures::future::join_all;
use manifold_core::{Code, Error, Result};
use manifold_store::{Db, SqlResultExt, WriterConfig, on};
use uuid::Uuid;

use crate::on_both_engines;
use crate::scratch::Scratch;
use crate::thing::{Part, Running, contents, group, migrations, open};

on_both_engines!(
    what_waits_is_written_in_few_commits,
    only_the_failing_command_fails,
    a_refused_row_takes_its_group_along_and_nobody_else,
    rows_pushed_twice_are_stored_once,
    shutdown_writes_everything_that_waits,
    a_full_queue_says_so_and_drops_what_does_not_fit,
    an_abandoned_writer_fails_commands_instead_of_keeping_them_waiting,
);

/// Counts the commits: on Postgres by the transaction that wrote a row, on SQLite by commit marks in the log.
async fn commits(scratch: &Scratch, db: &Db) -> usize {
    let manifold_store::Location::Sqlite { folder } = scratch.location() else {
        let manifold_store::Engine::Postgres(pool) = db.engine() else { unreachable!() };
        let count: i64 =
            sqlx::query_scalar("SELECT COUNT(DISTINCT xmin::text) FROM thing").fetch_one(pool).await.unwrap();
        return count as usize;
    };
    let log = std::fs::read(folder.join("test-things.db-wal")).unwrap();
    // A header of 32 bytes, then frames of 24 + 8192 bytes; bytes 4 to 8 of a frame are not zero at a commit.
    log[32..].chunks(24 + 8192).filter(|frame| frame[4..8] != [0; 4]).count()
}

async fn what_waits_is_written_in_few_commits(scratch: &Scratch) {
    let (db, writer) = open(scratch.location()).await;
    let before = commits(scratch, &db).await;
    for id in 1..=300 {
        db.rows().push(group(id, 1));
    }

    let running = Running::start(db, writer);
    running.settled().await;

    assert_eq!(commits(scratch, &running.db).await - before, 3);
    assert_eq!(contents(&running.db).await.0.len(), 300);
}

async fn add_part(db: &Db, thing: u128, n: i64) -> Result<i64> {
    db.write("add part", move |tx| {
        Box::pin(async move {
            let added = on!(tx, |executor| sqlx::query("INSERT INTO thing_part (thing_id, n) VALUES ($1, $2)")
                .bind(Uuid::from_u128(thing))
                .bind(n)
                .execute(executor)
                .await
                .map(|_| n));
            let added = added.during("add part")?;
            if n % 7 == 0 { Err(Error::invalid("SEVENTH", "not this one")) } else { Ok(added) }
        })
    })
    .await
}

async fn only_the_failing_command_fails(scratch: &Scratch) {
    let running = Running::open(scratch.location()).await;
    running.db.rows().push(group(1, 0));
    running.settled().await;

    // Every seventh refuses by itself, those from 100 on break a constraint.
    let outcomes = join_all((1..=110).map(|n| add_part(&running.db, 1, n))).await;

    for (outcome, n) in outcomes.into_iter().zip(1..) {
        match outcome {
            Ok(added) => assert!(added == n && n % 7 != 0 && n < 100, "{n}"),
            Err(error) if n < 100 => assert_eq!((error.reason(), n % 7), ("SEVENTH", 0)),
            Err(error) => assert_eq!(error.code(), Code::Internal, "{n}"),
        }
    }
    let expected: Vec<_> = (0..100).filter(|n| *n == 0 || n % 7 != 0).map(|n| (1, n)).collect();
    assert_eq!(contents(&running.db).await.1, expected);
}

async fn a_refused_row_takes_its_group_along_and_nobody_else(scratch: &Scratch) {
    let (db, writer) = open(scratch.location()).await;
    for id in 1..=100 {
        db.rows().push(group(id, if id % 40 == 0 { 100 } else { 1 }));
    }
    // A part of a thing that does not exist.
    db.rows().push(manifold_store::Group::new().with(Part { thing_id: Uuid::from_u128(999), n: 1 }));

    let running = Running::start(db, writer);
    running.settled().await;

    let good: Vec<u128> = (1..=100).filter(|id| id % 40 != 0).collect();
    let (things, parts) = contents(&running.db).await;
    assert_eq!(things, good);
    assert_eq!(parts, good.iter().map(|id| (*id, 1)).collect::<Vec<_>>());
}

async fn rows_pushed_twice_are_stored_once(scratch: &Scratch) {
    let running = Running::open(scratch.location()).await;

    for _ in 0..2 {
        for id in 1..=10 {
            running.db.rows().push(group(id, 1));
        }
        running.settled().await;
    }

    assert_eq!(contents(&running.db).await.1, (1..=10).map(|id| (id, 1)).collect::<Vec<_>>());
}

async fn shutdown_writes_everything_that_waits(scratch: &Scratch) {
    let mut running = Running::open(scratch.location()).await;
    let last = running.db.clone();
    for id in 1..=1_000 {
        running.db.rows().push(group(id, 1));
    }

    running.stop().await;

    assert_eq!(contents(&last).await.0.len(), 1_000);
    last.rows().push(group(1_001, 1));
    assert_eq!(last.rows().depth(), 0);
    assert_eq!(contents(&last).await.0.len(), 1_000);
}

async fn a_full_queue_says_so_and_drops_what_does_not_fit(scratch: &Scratch) {
    let config = WriterConfig { max_queue: 10, ..WriterConfig::default() };
    let (db, writer) = Db::open(scratch.location(), "test-things", &[&migrations()], &config).await.unwrap();

    let full: Vec<bool> = (1..=12)
        .map(|id| {
            db.rows().push(group(id, 1));
            db.rows().is_full()
        })
        .collect();

    assert_eq!(full.iter().position(|full| *full), Some(8));
    assert_eq!(db.rows().depth(), 10);
    let running = Running::start(db, writer);
    running.settled().await;
    assert_eq!(contents(&running.db).await.0, (1..=10).collect::<Vec<_>>());
    assert!(!running.db.rows().is_full());
}

async fn an_abandoned_writer_fails_commands_instead_of_keeping_them_waiting(scratch: &Scratch) {
    let (db, writer) = open(scratch.location()).await;
    let waiting = add_part(&db, 1, 1);

    let (outcome, ()) = tokio::join!(waiting, async { drop(writer) });

    let code = outcome.unwrap_err().code();
    // Postgres runs commands without the writer: there the missing thing is what is wrong.
    let expected = if matches!(db, Db::Sqlite(_)) { Code::Unavailable } else { Code::Internal };
    assert_eq!(code, expected);
}
