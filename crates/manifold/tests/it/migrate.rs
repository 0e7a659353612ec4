//! From SQLite to Postgres with `manifold migrate`: under traffic, against the operator's mistakes, and killed on the way.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use manifold_core::RequestId;
use manifold_testkit::{Client, Upstream};
use serde_json::json;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::database::{Database, postgres_account, postgres_usage, sqlite_account, sqlite_usage};
use crate::program::{MODEL, Program, admin_key, fixed_port, until};

/// A program of somebody with a key of its own.
struct Caller {
    door: Client,
    key_id: String,
}

impl Caller {
    async fn new(admin: &Client, name: &str) -> Result<Self> {
        let made = admin.post("/v1/keys", &json!({"name": name})).await?.json();
        let key_id = made["id"].as_str().context("an id")?.to_owned();
        Ok(Self { door: admin.with_key(made["secret"].as_str()), key_id })
    }

    /// Chats until told to stop, and again whatever was not answered; the requests that were.
    async fn chat(&self, stop: &CancellationToken) -> Result<Vec<Uuid>> {
        let mut answered = Vec::new();
        while !stop.is_cancelled() {
            match self.door.chat(MODEL, "hi").await {
                Ok(reply) if reply.status == 200 => {
                    let id = RequestId::parse(reply.header("x-manifold-request-id")).context("an id")?;
                    answered.push(id.0);
                }
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
        Ok(answered)
    }

    /// Requests that were added up as the usage of its key.
    async fn usage(&self, admin: &Client) -> Result<i64> {
        let usage = admin.get(&format!("/v1/keys/{}/usage?window=24h", self.key_id)).await?.json();
        let hours = usage["data"].as_array().context("hours")?;
        Ok(hours.iter().filter_map(|hour| hour["n_requests"].as_i64()).sum())
    }
}

async fn rows<T>(url: &str, sql: &'static str) -> Result<Vec<T>>
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let mut connection = PgConnection::connect(url).await?;
    let rows = sqlx::query_scalar(sql).fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok(rows)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_in_the_middle_of_traffic_loses_nothing_and_repeats_nothing() -> Result<()> {
    let groq = Upstream::start().await?;
    let database = Database::create().await?;
    let before = Program::new()?.groq(&groq).set("edge.listen", format!("127.0.0.1:{}", fixed_port()?));
    let after = before.clone().set("store.url", database.url.clone());
    let mut server = before.serve().await?;
    let admin = server.admin()?;
    let callers = [Caller::new(&admin, "a").await?, Caller::new(&admin, "b").await?, Caller::new(&admin, "c").await?];
    let revoked = Caller::new(&admin, "revoked").await?;
    admin.delete(&format!("/v1/keys/{}", revoked.key_id)).await?;

    let stop = CancellationToken::new();
    let traffic = join_all(callers.iter().map(|caller| caller.chat(&stop)));
    let moved = async {
        let _stop = stop.clone().drop_guard();
        until("there is traffic", async || Ok(groq.hits() > 300)).await?;
        server.stop().await?;
        let moved = before.run(&["migrate", "--to", &database.url]).await?;
        let refused = before.run(&["serve"]).await?;
        let hits = groq.hits();
        let server = after.serve().await?;
        until("traffic goes on", async || Ok(groq.hits() > hits + 300)).await?;
        anyhow::Ok((moved, refused, server))
    };
    let (answered, moved) = tokio::join!(traffic, moved);
    let (moved, refused, mut server) = moved?;
    let answered = answered.into_iter().collect::<Result<Vec<_>>>()?;

    assert_eq!(moved.code, 0, "{}", moved.err);
    for words in ["ai_request", "moved to postgres://", "master.key"] {
        assert!(moved.out.contains(words), "{words:?} is missing in {}", moved.out);
    }
    assert_eq!(refused.code, 70, "the files are not opened again");
    assert!(refused.err.contains("store.url") && refused.err.contains("moved-to-postgres"), "{}", refused.err);
    let ids: BTreeSet<Uuid> = answered.iter().flatten().copied().collect();
    let n_answered: usize = answered.iter().map(Vec::len).sum();
    until("every event took effect once", async || Ok(postgres_usage(&database.url).await? == (n_answered as i64, 0)))
        .await?;
    let account = postgres_account(&database.url).await?;
    assert_eq!((account.attempts, account.requests), (groq.hits(), n_answered), "nothing is lost, and nothing doubled");
    let logged: BTreeSet<Uuid> =
        rows(&database.url, "SELECT id FROM ai_router.ai_request").await?.into_iter().collect();
    assert_eq!(ids, logged);
    for (caller, answered) in callers.iter().zip(&answered) {
        assert_eq!(caller.usage(&admin).await?, answered.len() as i64, "{}", caller.key_id);
        assert_eq!(caller.door.chat("manifold/echo", "still there").await?.status, 200);
    }
    assert_eq!(revoked.door.chat("manifold/echo", "hi").await?.status, 401, "what was revoked stays revoked");
    assert_eq!(Caller::new(&admin, "new").await?.door.chat("manifold/echo", "hi").await?.status, 200);
    assert_eq!(admin_key(&after.data())?, admin_key(&before.data())?, "no second first key was made");
    server.stop().await?;
    database.drop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_is_refused_while_a_server_runs_and_with_wrong_addresses() -> Result<()> {
    let database = Database::create().await?;
    let program = Program::new()?;
    let early = program.run(&["migrate", "--to", &database.url]).await?;
    let mut server = program.serve().await?;

    let busy = program.run(&["migrate", "--to", &database.url]).await?;
    let nowhere = program.run(&["migrate", "--to", "mysql://db/x"]).await?;
    let typo = program.run(&["migrate", "--to", &database.url, "--data-dir", "absent"]).await?;

    assert_eq!((early.code, busy.code, nowhere.code, typo.code), (70, 2, 2, 70));
    assert!(busy.err.contains(&format!("process {}", server.pid()?)) && busy.err.contains("SIGTERM"), "{}", busy.err);
    assert!(nowhere.err.contains("--to"), "{}", nowhere.err);
    for refused in [early, typo] {
        assert!(
            refused.err.contains("identity.db is missing") && refused.err.contains("--data-dir"),
            "{}",
            refused.err
        );
    }
    assert!(!program.folder().join("absent").exists());
    assert_eq!(server.admin()?.chat("manifold/echo", "hi").await?.status, 200, "the server goes on");
    server.stop().await?;
    database.drop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_counts_and_changes_nothing() -> Result<()> {
    let database = Database::create().await?;
    let program = Program::new()?;
    let mut server = program.serve().await?;
    server.admin()?.chat("manifold/echo", "hi").await?;
    server.stop().await?;

    let dry = program.run(&["migrate", "--to", &database.url, "--dry-run"]).await?;

    assert_eq!(dry.code, 0, "{}", dry.err);
    let cells: Vec<Vec<&str>> = dry.out.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in [["identity", "tenant", "1"], ["identity", "api_key", "1"], ["ai-router", "ai_request", "1"]] {
        assert!(cells.contains(&row.to_vec()), "{row:?} is missing in {}", dry.out);
    }
    let schemas = "SELECT nspname::text FROM pg_namespace WHERE nspname IN ('identity', 'ai_router')";
    assert_eq!(rows::<String>(&database.url, schemas).await?, [""; 0]);
    program.serve().await?.stop().await?;
    database.drop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_installation_is_not_moved_into_another_one() -> Result<()> {
    let database = Database::create().await?;
    let program = Program::new()?;
    program.serve().await?.stop().await?;
    Program::new()?.set("store.url", database.url.clone()).serve().await?.stop().await?;

    let refused = program.run(&["migrate", "--to", &database.url]).await?;

    assert_eq!(refused.code, 70);
    assert!(refused.err.contains("\"identity\".") && refused.err.contains("holds rows already"), "{}", refused.err);
    assert_eq!(rows::<i64>(&database.url, "SELECT COUNT(*) FROM identity.tenant").await?, [1]);
    program.serve().await?.stop().await?;
    database.drop().await
}

/// How the database ends what a killed move has begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    GoesOn,
    BreaksOff,
}

/// Kills a move at the event for which `trigger` makes it wait, then does it again. Whether the first one had ended.
async fn killed_and_done_again(trigger: &'static str, end: End) -> Result<bool> {
    let groq = Upstream::start().await?;
    let database = Database::create().await?;
    let before = Program::new()?.groq(&groq);
    let after = before.clone().set("store.url", database.url.clone());
    let mut server = before.serve().await?;
    for _ in 0..20 {
        server.admin()?.chat(MODEL, "hi").await?;
    }
    server.stop().await?;
    // The tables are there before, so that the trigger can be.
    after.run(&["db", "migrate"]).await?;
    let mut holder = PgConnection::connect(&database.url).await?;
    holder.execute("SELECT pg_advisory_lock(7)").await?;
    let wait = "CREATE FUNCTION ai_router.wait() RETURNS trigger LANGUAGE plpgsql AS \
                'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END'";
    holder.execute(wait).await?;
    holder.execute(trigger).await?;

    let mut child = before.begin(&["migrate", "--to", &database.url])?;
    let waits = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    until("the move waits", async || Ok(!rows::<i32>(&database.url, waits).await?.is_empty())).await?;
    child.kill().await?;
    if end == End::BreaksOff {
        let terminate = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 \
                         AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        holder.execute(terminate).await?;
    }
    holder.close().await?;
    until("it waits no more", async || Ok(rows::<i32>(&database.url, waits).await?.is_empty())).await?;
    let again = before.run(&["migrate", "--to", &database.url]).await?;

    ensure!(again.code == 0, "{}", again.err);
    let account = postgres_account(&database.url).await?;
    assert_eq!((account.attempts, account.requests), (20, 20));
    let mut server = after.serve().await?;
    assert_eq!(server.admin()?.chat(MODEL, "hi").await?.status, 200);
    until("every event took effect once", async || Ok(postgres_usage(&database.url).await? == (21, 0))).await?;
    assert_eq!(rows::<i64>(&database.url, "SELECT COUNT(*) FROM identity.tenant").await?, [1]);
    assert_eq!(sqlite_account(&before.data()).await?.requests, 20, "the files are as they were");
    server.stop().await?;
    database.drop().await?;
    Ok(again.out.contains("moved before"))
}

const AT_AN_EVENT: &str =
    "CREATE TRIGGER wait BEFORE INSERT ON ai_router.outbox FOR EACH ROW EXECUTE FUNCTION ai_router.wait()";
const AT_THE_END: &str = "CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON ai_router.outbox \
                          DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ai_router.wait()";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_killed_while_it_copies_is_done_again_from_the_start() -> Result<()> {
    assert!(!killed_and_done_again(AT_AN_EVENT, End::GoesOn).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_is_killed_at_its_very_end_but_was_committed_is_not_done_again() -> Result<()> {
    assert!(killed_and_done_again(AT_THE_END, End::GoesOn).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_that_broke_off_at_its_very_end_is_done_again() -> Result<()> {
    assert!(!killed_and_done_again(AT_THE_END, End::BreaksOff).await?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_deletes_the_marker_goes_back_to_the_files() -> Result<()> {
    let groq = Upstream::start().await?;
    let database = Database::create().await?;
    let program = Program::new()?.groq(&groq);
    let mut server = program.serve().await?;
    server.admin()?.chat(MODEL, "hi").await?;
    server.stop().await?;
    let moved = program.run(&["migrate", "--to", &database.url]).await?;

    for command in [&["db", "migrate"][..], &["bus", "consumers"], &["serve"]] {
        let refused = program.run(command).await?;
        assert!(refused.code == 70 && refused.err.contains("moved-to-postgres"), "{command:?}: {}", refused.err);
    }
    std::fs::remove_file(program.data().join("moved-to-postgres"))?;
    let mut server = program.serve().await?;
    server.admin()?.chat(MODEL, "hi").await?;

    assert_eq!(moved.code, 0, "{}", moved.err);
    until("every event took effect once", async || Ok(sqlite_usage(&program.data()).await? == (2, 0))).await?;
    server.stop().await?;
    database.drop().await
}
