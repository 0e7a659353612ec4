//! A full disk, played by a limit on the size of files: chats go on, and what was written stays whole.

use std::time::{Duration, Instant};

use anyhow::Result;
use manifold_testkit::{Client, Upstream};
use tokio::process::Command;

use crate::database::{integrity, sqlite_account};
use crate::program::{MODEL, Program, Server, until};

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
