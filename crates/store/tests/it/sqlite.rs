//! What is true of SQLite only.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use manifold_core::{Code, Result};
use manifold_store::{Db, Location, SqlResultExt, Tx, on};
use sqlx::Connection;

use crate::scratch::Scratch;
use crate::thing::{Running, contents, group, migrations};

#[tokio::test]
async fn readers_cannot_write_and_only_the_owner_reads_the_files() {
    let scratch = Scratch::sqlite();
    let running = Running::open(scratch.location()).await;
    running.db.rows().push(group(1, 1));
    running.settled().await;

    let refused = on!(&running.db, |pool| sqlx::query("DELETE FROM thing").execute(pool).await.map(|_| ()));

    assert!(refused.unwrap_err().to_string().contains("readonly"));
    let Location::Sqlite { folder } = scratch.location() else { unreachable!() };
    for name in ["test-things.db", "test-things.db-wal", "test-things.db-shm"] {
        let mode = std::fs::metadata(folder.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test]
async fn asking_for_pending_migrations_creates_nothing() {
    let scratch = Scratch::sqlite();

    Db::pending(scratch.location(), "test-things", &[&migrations()]).await.unwrap();

    let Location::Sqlite { folder } = scratch.location() else { unreachable!() };
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

async fn touch(tx: &mut Tx<'_>) -> Result<()> {
    let touched =
        on!(tx, |executor| sqlx::query("UPDATE thing SET used = used + 1").execute(executor).await.map(|_| ()));
    touched.during("touch")
}

#[tokio::test]
async fn a_command_fails_while_the_log_cannot_be_brought_to_the_disk_unless_it_can_be_repeated() {
    let scratch = Scratch::sqlite();
    let running = Running::open(scratch.location()).await;
    let Location::Sqlite { folder } = scratch.location() else { unreachable!() };
    let (log, hidden) = (folder.join("test-things.db-wal"), folder.join("hidden"));
    let touch = || running.db.write("touch", |tx| Box::pin(touch(tx)));
    let touch_repeatably = running.db.write_repeatable("touch", |tx| Box::pin(self::touch(tx)));

    let before = touch().await;
    std::fs::rename(&log, &hidden).unwrap();
    let without = touch().await;
    let repeatable = touch_repeatably.await;
    std::fs::rename(&hidden, &log).unwrap();
    let after = touch().await;

    assert_eq!(without.unwrap_err().reason(), "STORE_UNAVAILABLE");
    assert!(before.is_ok() && repeatable.is_ok() && after.is_ok(), "{before:?} {repeatable:?} {after:?}");
}

#[tokio::test]
async fn the_log_is_copied_into_the_file_while_rows_come() {
    let scratch = Scratch::sqlite();
    let running = Running::open(scratch.location()).await;
    let Location::Sqlite { folder } = scratch.location() else { unreachable!() };
    let size = || std::fs::metadata(folder.join("test-things.db")).unwrap().len();
    let before = size();

    let mut id = 0;
    while size() == before {
        id += 1;
        assert!(id < 500, "the file does not grow");
        running.db.rows().push(group(id, 10));
        running.settled().await;
    }
}

#[tokio::test]
async fn a_panicking_command_fails_alone() {
    let scratch = Scratch::sqlite();
    let running = Running::open(scratch.location()).await;
    running.db.rows().push(group(1, 1));

    let panicked: Result<()> = running.db.write("panic", |_| Box::pin(async { panic!("on purpose") })).await;

    assert_eq!(panicked.unwrap_err().code(), Code::Internal);
    running.db.rows().push(group(2, 1));
    running.settled().await;
    assert_eq!(contents(&running.db).await.0, [1, 2]);
}

/// A command that fails because the database may not grow, the first time it runs.
async fn fill(db: &Db, runs: Arc<AtomicU32>) -> Result<()> {
    db.write("fill", move |tx| {
        let first = runs.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move {
            if let (Tx::Sqlite(connection), true) = (&mut *tx, first) {
                sqlx::query("PRAGMA max_page_count = 1").execute(&mut **connection).await.during("limit")?;
            }
            let filled = on!(tx, |executor| sqlx::query("CREATE TABLE filler (x)").execute(executor).await.map(|_| ()));
            filled.during("fill")
        })
    })
    .await
}

#[tokio::test]
async fn a_full_disk_fails_commands_and_keeps_rows() {
    let scratch = Scratch::sqlite();
    let running = Running::open(scratch.location()).await;
    let runs = Arc::new(AtomicU32::new(0));

    let filling = fill(&running.db, runs.clone());
    for id in 1..=20 {
        running.db.rows().push(group(id, 1));
    }
    let full = filling.await.unwrap_err();

    assert_eq!((full.code(), full.reason()), (Code::Unavailable, "STORE_FULL"));
    running.settled().await;
    assert_eq!(contents(&running.db).await.0.len(), 20);
    fill(&running.db, runs).await.unwrap();
}

#[tokio::test]
async fn a_locked_database_loses_nothing() {
    let scratch = Scratch::sqlite();
    let running = Running::open(scratch.location()).await;
    let Location::Sqlite { folder } = scratch.location() else { unreachable!() };
    let url = format!("sqlite://{}", folder.join("test-things.db").display());
    let mut intruder = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut intruder).await.unwrap();

    for id in 1..=300 {
        running.db.rows().push(group(id, 1));
    }
    let command: Result<()> = running.db.write("nothing", |_| Box::pin(async { Ok(()) })).await;
    let read = contents(&running.db).await.0.len();
    sqlx::query("ROLLBACK").execute(&mut intruder).await.unwrap();
    running.settled().await;

    assert_eq!(command.unwrap_err().reason(), "STORE_UNAVAILABLE");
    assert_eq!(read, 0);
    assert_eq!(contents(&running.db).await.1, (1..=300).map(|id| (id, 1)).collect::<Vec<_>>());
}
