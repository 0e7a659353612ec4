//! Events between the services of the program, and what an operator sees of them.

use anyhow::Result;
use manifold_testkit::Upstream;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use crate::program::{MODEL, Program, until};

/// Puts an event into the outbox of ai-router that nobody can read.
async fn break_the_next_event(program: &Program) -> Result<()> {
    let options = SqliteConnectOptions::new().filename(program.data().join("ai-router.db"));
    let mut connection = SqliteConnection::connect_with(&options).await?;
    let sql = "INSERT INTO outbox (event_id, tenant_id, type, subject, payload, created_at) \
               VALUES (randomblob(16), randomblob(16), 'ai.request.completed', 'x', x'ffff', unixepoch() * 1000000)";
    sqlx::query(sql).execute(&mut connection).await?;
    Ok(connection.close().await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_how_far_events_were_read_and_sends_dead_letters_again() -> Result<()> {
    let groq = Upstream::start().await?;
    let program = Program::new()?.groq(&groq);
    let mut server = program.serve().await?;
    server.admin()?.chat(MODEL, "hi").await?;
    until("the event is read", async || Ok(program.run(&["bus", "consumers"]).await?.out.contains("identity__usage")))
        .await?;
    server.stop().await?;
    break_the_next_event(&program).await?;

    let stopped = program.run(&["bus", "consumers"]).await?;
    server = program.serve().await?;
    until("the event is given up", async || {
        Ok(program.run(&["bus", "dead-letters"]).await?.out.contains("UNDECODABLE"))
    })
    .await?;
    let considered = program.run(&["bus", "redrive", "--dry-run"]).await?;
    let redriven = program.run(&["bus", "redrive", "--consumer", "identity__usage"]).await?;
    until("it is given up again", async || {
        let letters = program.run(&["bus", "dead-letters"]).await?.out;
        Ok(letters.lines().any(|line| line.contains("UNDECODABLE") && line.contains("  2  ")))
    })
    .await?;
    let wrong = program.run(&["bus", "redrive", "--id", "dl_1"]).await?;
    server.stop().await?;

    let cursor: Vec<_> = stopped.out.lines().last().unwrap_or_default().split_whitespace().collect();
    assert_eq!(cursor, ["identity__usage", "ai-router", "1", "1", "0"], "{}", stopped.out);
    assert!(considered.err.is_empty() && considered.out.contains("UNDECODABLE"), "{}", considered.err);
    assert!(redriven.err.contains("identity: 1 sent again"), "{}", redriven.err);
    assert_eq!(wrong.code, 2, "{}", wrong.err);
    Ok(())
}
