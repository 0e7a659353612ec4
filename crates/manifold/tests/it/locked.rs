//! Database files that another process keeps locked: chats go on, what must be written at once is refused and leaves nothing
//! behind, and everything else is written later.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use manifold_testkit::Upstream;
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Executor, SqliteConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::database::{sqlite_account, sqlite_usage};
use crate::load::load;
use crate::program::{Program, until};

/// Before and after the lock.
const CALM: Duration = Duration::from_millis(500);

/// Nobody else writes to the file until this connection ends.
async fn lock(data: &Path, service: &str) -> Result<SqliteConnection> {
    let mut connection = open(data, service).await?;
    connection.execute("BEGIN EXCLUSIVE").await?;
    Ok(connection)
}

async fn open(data: &Path, service: &str) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(data.join(format!("{service}.db")));
    Ok(SqliteConnection::connect_with(&options).await?)
}

async fn keys(data: &Path) -> Result<i64> {
    let mut connection = open(data, "identity").await?;
    let n = sqlx::query_scalar("SELECT COUNT(*) FROM api_key").fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_another_process_locks_the_files_nothing_is_promised_that_is_not_written() -> Result<()> {
    let groq = Upstream::start().await?;
    let program = Program::new()?.groq(&groq);
    let mut server = program.serve().await?;
    let (door, data) = (server.admin()?, program.data());
    let revoked = door.post("/v1/keys", &json!({"name": "revoked"})).await?.json();
    door.delete(&format!("/v1/keys/{}", revoked["id"].as_str().unwrap_or_default())).await?;
    let (before, stop, doors) = (keys(&data).await?, CancellationToken::new(), [door.clone()]);

    let callers = load(&doors, revoked["secret"].as_str().unwrap_or_default(), &stop);
    let fate = async {
        sleep(CALM).await;
        let locks = [lock(&data, "identity").await?, lock(&data, "ai-router").await?];
        let made = door.post("/v1/keys", &json!({"name": "made meanwhile"})).await?;
        ensure!((made.status, made.header("retry-after")) == (503, "1"), "{} {}", made.status, made.text);
        for lock in locks {
            lock.close().await?;
        }
        until("the database is back", async || Ok(server.log().contains("database is back"))).await?;
        sleep(CALM).await;
        Ok(())
    };
    let fate = async {
        let outcome: Result<()> = fate.await;
        stop.cancel();
        outcome
    };
    let (seen, outcome) = tokio::join!(callers, fate);
    outcome?;

    assert!(seen.wrong.is_empty(), "{} wrong answers: {:?}", seen.wrong.len(), seen.wrong.first());
    assert_eq!(seen.refused.keys().collect::<Vec<_>>(), ["create key: 503 store_unavailable"], "{seen}");
    assert_eq!(keys(&data).await? - before, seen.keys.len() as i64, "a key for each 201, and none beside them");
    until("every call is counted", async || Ok(sqlite_usage(&data).await? == (seen.chats as i64, 0))).await?;
    server.stop().await?;
    let account = sqlite_account(&data).await?;
    assert_eq!((account.requests, account.attempts), (seen.chats, groq.hits()));
    Ok(())
}
