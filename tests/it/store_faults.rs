//! The database locked, gone and back: chats go on, nothing is lost, nothing doubled.

use std::time::Duration;

use anyhow::Result;
use manifold_testkit::{Sandbox, Shape, Upstream};
use sqlx::{Connection, SqliteConnection};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_stops_no_chat_and_loses_no_row() -> Result<()> {
    let groq = Upstream::start().await?;
    let mut sandbox = Sandbox::builder(Shape::One).provider("groq", &groq).start().await?;
    sandbox.admin.chat("groq/llama-3.1-8b-instant", "warm").await?;
    let url = format!("sqlite://{}", sandbox.folder.path().join("ai-router.db").display());
    let mut other = SqliteConnection::connect(&url).await?;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await?;

    for _ in 0..20 {
        assert_eq!(sandbox.admin.chat("groq/llama-3.1-8b-instant", "hi").await?.status, 200);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let held = sandbox.count("SELECT COUNT(*) FROM ai_request").await?;
    sqlx::query("ROLLBACK").execute(&mut other).await?;
    other.close().await?;
    sandbox.halt().await;

    assert!(held <= 1, "nothing could be written while the lock was held");
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM ai_request").await?, 21);
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM outbox").await?, 21);
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM ai_attempt").await?, i64::try_from(groq.hits())?);
    sandbox.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_database_gone_known_keys_go_on_chatting_and_every_row_arrives_later() -> Result<()> {
    let groq = Upstream::start().await?;
    let mut sandbox = Sandbox::builder(Shape::Two).cuttable().provider("groq", &groq).start().await?;
    sandbox.admin.chat("groq/llama-3.1-8b-instant", "warm").await?;
    let wire = sandbox.wire.take().expect("a wire to cut");
    wire.cut();

    for _ in 0..50 {
        let reply = sandbox.admin.chat("groq/llama-3.1-8b-instant", "hi").await?;
        assert_eq!(reply.status, 200, "{}", reply.text);
    }
    sandbox.clock.advance(Duration::from_secs(120));
    assert_eq!(sandbox.admin.chat("groq/llama-3.1-8b-instant", "two minutes later").await?.status, 200);
    let made = sandbox.admin.post("/v1/keys", &serde_json::json!({"name": "app"})).await?;
    assert_eq!((made.status, made.header("retry-after").is_empty()), (503, false), "{}", made.text);
    wire.mend();
    let made = until_answered(&sandbox).await?;
    sandbox.halt().await;

    assert_eq!(made, 201);
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM ai_request").await?, 52);
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM outbox").await?, 52);
    assert_eq!(sandbox.count("SELECT COUNT(*) FROM ai_attempt").await?, i64::try_from(groq.hits())?);
    sandbox.stop().await?;
    Ok(())
}

/// Makes a key as soon as the database is back; the status of the answer.
async fn until_answered(sandbox: &Sandbox) -> Result<u16> {
    let mut status = 0;
    for _ in 0..100 {
        status = sandbox.admin.post("/v1/keys", &serde_json::json!({"name": "app"})).await?.status;
        if status != 503 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(status)
}
