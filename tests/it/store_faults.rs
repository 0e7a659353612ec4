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
