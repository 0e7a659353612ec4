//! `manifold secrets` and `manifold vault`, beside a server that runs.

use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::program::Program;

const CANARY: &str = "sk-canary-0123456789";

/// Whether a file below the folder holds the word.
fn holds(folder: &Path, word: &[u8]) -> Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let found = match path.is_dir() {
            true => holds(&path, word)?,
            false => std::fs::read(&path)?.windows(word.len()).any(|bytes| bytes == word),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_comes_from_standard_input_and_stands_nowhere() -> Result<()> {
    let program = Program::new()?;
    let mut server = program.serve().await?;
    let beside = program.beside(&server)?;

    let set = beside.feed(&["secrets", "set", "stripe"], &format!("{CANARY}\n")).await?;
    let list = beside.run(&["secrets", "list"]).await?;
    let argument = beside.run(&["secrets", "set", "stripe", CANARY]).await?;
    let deleted = beside.run(&["secrets", "delete", "stripe"]).await?;
    let again = beside.run(&["secrets", "delete", "stripe"]).await?;
    server.stop().await?;

    assert_eq!((set.code, list.code, deleted.code), (0, 0, 0), "{set:?} {list:?} {deleted:?}");
    assert!(list.out.contains("stripe") && list.out.contains("6789"), "{}", list.out);
    assert_eq!(argument.code, 2, "a value is no argument");
    assert!(again.code != 0 && again.err.contains("404"), "{again:?}");
    assert!(!set.out.contains("canary") && !list.out.contains("canary"));
    assert!(!holds(program.folder(), b"sk-canary")?, "in a database, a log or an output");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_master_key_changes_while_the_server_runs() -> Result<()> {
    let program = Program::new()?;
    let new = program.folder().join("k2.key");
    std::fs::write(&new, "0f".repeat(32))?;
    let new = new.display().to_string();
    let both = format!(r#"[{{id="k1",file="master.key"}},{{id="k2",file="{new}"}}]"#);
    let both = program.clone().set("identity.master_keys", both);
    let mut server = both.serve().await?;
    let beside = both.beside(&server)?;
    beside.feed(&["secrets", "set", "before"], CANARY).await?;

    let unknown = program.run(&["vault", "rotate-master", "--new", &new]).await?;
    let rotated = beside.run(&["vault", "rotate-master", "--new", &new]).await?;
    let status = beside.run(&["vault", "status"]).await?;
    let after = beside.feed(&["secrets", "set", "after"], CANARY).await?;
    let made = server.admin()?.post("/v1/keys", &json!({"name": "app"})).await?;
    server.stop().await?;
    let without = program.run(&["serve"]).await?;
    std::fs::remove_file(program.data().join("master.key"))?;
    let alone = program.clone().set("identity.master_keys", format!(r#"[{{id="k2",file="{new}"}}]"#));
    let mut server = alone.serve().await?;
    let list = alone.beside(&server)?.run(&["secrets", "list"]).await?;
    server.stop().await?;

    assert_eq!((unknown.code, rotated.code, after.code), (2, 0, 0), "{unknown:?} {rotated:?} {after:?}");
    assert!(unknown.err.contains("identity.master_keys"), "{}", unknown.err);
    assert!(rotated.out.contains("k1 is retired"), "{}", rotated.out);
    assert!(status.out.contains("retired") && status.out.contains("active"), "{}", status.out);
    assert_eq!(made.status, 201, "{}", made.text);
    assert!(without.code == 70 && without.err.contains("k2") && without.err.contains("backup"), "{without:?}");
    assert!(list.out.contains("before") && list.out.contains("after"), "{list:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_master_keys_that_contradicts_itself_is_refused() -> Result<()> {
    let program = Program::new()?;

    for (keys, word) in [
        (r#"[{id="k1"}]"#, "either a file"),
        (r#"[{id="k1",file="a",env="B"}]"#, "either a file"),
        (r#"[{id="k1",file="a"},{id="k1",file="b"}]"#, "same id"),
        (r#"[{id="K|1",file="a"}]"#, "a-z"),
        (r#"[{id="k1",env="MANIFOLD_KEY"}]"#, "MANIFOLD_"),
    ] {
        let refused = program.clone().set("identity.master_keys", keys).run(&["config", "check"]).await?;
        assert!(refused.code == 2 && refused.err.contains(word), "{keys} {refused:?}");
    }
    let variable = program.clone().set("identity.master_keys", r#"[{id="k1",env="VAULT_K1"}]"#);
    let absent = variable.run(&["serve"]).await?;
    assert!(absent.code == 70 && absent.err.contains("VAULT_K1"), "{absent:?}");
    let mut server = variable.variable("VAULT_K1", "0f".repeat(32)).serve().await?;
    server.stop().await?;
    assert!(!program.data().join("master.key").exists());
    assert!(!holds(program.folder(), "0f0f0f0f".as_bytes())?);
    Ok(())
}
