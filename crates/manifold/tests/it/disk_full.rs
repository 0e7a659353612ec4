//! A full disk: chats go on, what must be written at once is refused, and what was written stays whole. For SQLite it is
//! played by a limit on the size of files.

use std::time::{Duration, Instant};

use anyhow::Result;
use manifold_testkit::{Client, Upstream};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::database::{integrity, postgres_account, postgres_usage, sqlite_account};
use crate::load::load;
use crate::program::{MODEL, Program, Server, until};
use crate::servers::SmallPostgres;

/// Room for the databases of a first start, and for the log of some hundred requests.
const ROOM_KIB: u32 = 900;

async fn chats(admin: &Client, n: usize) -> Result<()> {
    for _ in 0..n {
        let reply = admin.chat(MODEL, "hi").await?;
        anyhow::ensure!(reply.status == 200, "{}: {}", reply.status, reply.text);
    }
    Ok(())
}

/// Chats until rows are left waiting; how many chats that were.
async fn fill(server: &Server) -> Result<usize> {
    let (admin, mut n, begun) = (server.admin()?, 0, Instant::now());
    while !server.log().contains("database failed, rows are kept") {
        chats(&admin, 10).await?;
        n += 10;
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(20), "the disk is never full:\n{}", server.log());
    }
    Ok(n)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chats_go_on_and_a_killed_process_finds_its_data_whole() -> Result<()> {
    let groq = Upstream::start().await?;
    let program = Program::new()?.groq(&groq);
    let mut server = program.clone().limit_files(ROOM_KIB).serve().await?;
    let filled = fill(&server).await?;
    let admin = server.admin()?;

    chats(&admin, 50).await?;
    let alive = admin.get("/healthz").await?.status;
    server.kill().await?;
    server = program.serve().await?;

    assert_eq!((alive, integrity(&program.data()).await?), (200, vec!["ok".to_owned(); 2]));
    let kept = sqlite_account(&program.data()).await?.attempts;
    // The log may have found room once more after it was full, because it began anew.
    assert!(0 < kept && kept <= filled + 50, "{kept} of {filled} rows were written while there was room");
    chats(&server.admin()?, 30).await?;
    server.stop().await?;
    assert_eq!(sqlite_account(&program.data()).await?.attempts, kept + 30);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_is_written_as_soon_as_there_is_room_again() -> Result<()> {
    let groq = Upstream::start().await?;
    let program = Program::new()?.groq(&groq);
    let mut server = program.clone().limit_files(ROOM_KIB).serve().await?;
    fill(&server).await?;
    chats(&server.admin()?, 50).await?;

    let pid = server.pid()?.to_string();
    let raised = Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited"]).status().await?;
    until("the database is back", async || Ok(server.log().contains("database is back"))).await?;
    server.stop().await?;

    assert!(raised.success());
    let account = sqlite_account(&program.data()).await?;
    assert_eq!((account.attempts, account.requests), (groq.hits(), groq.hits()));
    Ok(())
}

/// Keys of a Postgres database, and their secrets.
async fn keys(url: &str) -> Result<(i64, i64)> {
    let mut connection = PgConnection::connect(url).await?;
    let sql = "SELECT (SELECT COUNT(*) FROM identity.api_key), (SELECT COUNT(*) FROM identity.api_key_secret)";
    let n = sqlx::query_as(sql).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(n)
}

/// Makes keys until the answer has this status; how many were made.
async fn make_keys_until(door: &Client, status: u16) -> Result<usize> {
    let mut made = 0;
    until("the disk is as expected", async || {
        let reply = door.post("/v1/keys", &json!({"name": "made while the disk changes"})).await?;
        made += usize::from(reply.status == 201);
        let refusal = (reply.json()["code"].as_str() == Some("store_full"), reply.header("retry-after"));
        anyhow::ensure!(reply.status == 201 || refusal == (true, "1"), "{} {}", reply.status, reply.text);
        Ok(reply.status == status)
    })
    .await?;
    Ok(made)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_without_room_leaves_nothing_half_written_and_goes_on_when_there_is_room() -> Result<()> {
    let Some(postgres) = SmallPostgres::start().await? else {
        return skip("no small disk can be mounted here: run it as root, in a container with --cap-add=SYS_ADMIN");
    };
    let (groq, url) = (Upstream::start().await?, &postgres.url);
    let program = Program::new()?.groq(&groq).set("store.url", url);
    let mut server = program.serve().await?;
    let (door, stop) = (server.admin()?, CancellationToken::new());
    let revoked = door.post("/v1/keys", &json!({"name": "revoked"})).await?.json();
    door.delete(&format!("/v1/keys/{}", revoked["id"].as_str().unwrap_or_default())).await?;
    let (before, doors) = (keys(url).await?.0, [door.clone()]);

    let callers = load(&doors, revoked["secret"].as_str().unwrap_or_default(), &stop);
    let fate = async {
        postgres.fill()?;
        let early = make_keys_until(&door, 503).await?;
        until("rows are kept", async || Ok(server.log().contains("database failed, rows are kept"))).await?;
        let hits = groq.hits();
        until("chats go on", async || Ok(groq.hits() > hits + 50)).await?;
        postgres.clear()?;
        let late = make_keys_until(&door, 201).await?;
        until("the database is back", async || Ok(server.log().contains("database is back"))).await?;
        Ok(early + late)
    };
    let fate = async {
        let made: Result<usize> = fate.await;
        stop.cancel();
        made
    };
    let (seen, made) = tokio::join!(callers, fate);
    let made = (seen.keys.len() + made?) as i64;

    assert!(seen.wrong.is_empty(), "{} wrong answers: {:?}", seen.wrong.len(), seen.wrong.first());
    assert_eq!(seen.refused.keys().collect::<Vec<_>>(), ["create key: 503 store_full"], "{seen}");
    assert_eq!(keys(url).await?, (before + made, before + made), "a key for each 201, and none beside them");
    until("every call is counted", async || Ok(postgres_usage(url).await? == (seen.chats as i64, 0))).await?;
    let account = postgres_account(url).await?;
    assert_eq!((account.requests, account.attempts), (seen.chats, groq.hits()));
    server.stop().await
}

#[expect(clippy::print_stdout, reason = "whoever reads the output learns what was not tried")]
fn skip(why: &str) -> Result<()> {
    println!("skipped: {why}");
    Ok(())
}
