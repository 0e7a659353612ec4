//! The first start: which secrets it makes, who may read them, and what a second start does with them.

use std::os::unix::fs::PermissionsExt;

use anyhow::Result;

use crate::program::{Program, Server, admin_key, until};

const CONFIGURED: &str = "mfk_live_";

fn mode(program: &Program, name: &str) -> Result<u32> {
    Ok(std::fs::metadata(program.data().join(name))?.permissions().mode() & 0o777)
}

async fn accepted(server: &Server, key: &str) -> Result<u16> {
    Ok(server.client(Some(key))?.get("/v1/keys").await?.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_start_makes_secrets_that_only_the_owner_reads() -> Result<()> {
    let program = Program::new()?;
    let mut server = program.serve().await?;

    let key = admin_key(&program.data())?;

    assert_eq!(accepted(&server, &key).await?, 200);
    for name in ["admin.key", "master.key", "identity.db", "ai-router.db"] {
        assert_eq!(mode(&program, name)?, 0o600, "{name}");
    }
    assert_eq!(mode(&program, "")?, 0o700);
    until("the key is shown", async || Ok(server.output().contains(&key))).await?;
    assert!(!server.log().contains(&key), "but never logged");
    server.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_start_prints_no_key_and_takes_the_first() -> Result<()> {
    let program = Program::new()?;
    program.serve().await?.stop().await?;
    let key = admin_key(&program.data())?;

    let mut second = program.clone().set("bootstrap.admin_key", "mfk_live_is_not_read_any_more").serve().await?;

    assert!(!second.output().contains(CONFIGURED), "{}", second.output());
    assert_eq!((accepted(&second, &key).await?, admin_key(&program.data())?), (200, key));
    second.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configured_key_is_the_admin_key() -> Result<()> {
    let program = Program::new()?;
    let key = program.run(&["keys", "generate"]).await?.out.trim().to_owned();

    let mut server = program.clone().set("bootstrap.admin_key", key.clone()).serve().await?;

    assert_eq!((accepted(&server, &key).await?, admin_key(&program.data())?), (200, key));
    assert_eq!(mode(&program, "admin.key")?, 0o600);
    server.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_configured_key_stops_the_start_with_the_remedy() -> Result<()> {
    let program = Program::new()?.set("bootstrap.admin_key", "canary-no-key");

    let done = program.run(&["serve"]).await?;

    assert_eq!(done.code, 2, "{}", done.err);
    assert!(
        done.err.contains("MANIFOLD_BOOTSTRAP__ADMIN_KEY") && done.err.contains("manifold keys generate"),
        "{}",
        done.err
    );
    assert!(!done.err.contains("canary") && !program.data().join("admin.key").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_or_missing_master_key_stops_the_start_with_the_remedy() -> Result<()> {
    let program = Program::new()?;
    program.serve().await?.stop().await?;
    let file = program.data().join("master.key");
    let right = std::fs::read_to_string(&file)?;

    for wrong in [Some("ab".repeat(32)), Some("no hexadecimal".to_owned()), None] {
        match &wrong {
            Some(text) => std::fs::write(&file, text)?,
            None => std::fs::remove_file(&file)?,
        }
        let done = program.run(&["serve"]).await?;

        assert!(done.code != 0, "{wrong:?}");
        assert!(done.err.contains("master.key") && done.err.contains("backup"), "{wrong:?}: {}", done.err);
        assert!(!file.exists() || std::fs::read_to_string(&file).ok() == wrong, "it is left as it was");
    }

    std::fs::write(&file, right)?;
    let mut server = program.serve().await?;
    assert_eq!(accepted(&server, &admin_key(&program.data())?).await?, 200);
    server.stop().await
}
