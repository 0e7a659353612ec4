//! kill -9 under load: of the usage at most the last batch is missing, nothing is doubled, and no key is lost.

use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::join_all;
use manifold_testkit::{Client, Upstream};
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::database::{Account, Database, integrity, postgres_account, postgres_usage, sqlite_account, sqlite_usage};
use crate::nats::Nats;
use crate::program::{MODEL, Program, SECRET, Server, admin_key, fixed_port, until, until_within};

/// Callers at once: a quarter of a batch, which is what may be under way while the other three quarters become durable.
const CONNECTIONS: usize = 32;
/// Rows of one batch: what a kill may cost, calls under way included.
const BATCH: usize = 128;
/// Kills, unless `MANIFOLD_TEST_ROUNDS` says how many.
const ROUNDS: u64 = 10;

/// How long the load lasts before each kill: between 0.7 and 1.4 seconds, another time in each round.
pub fn rounds() -> impl Iterator<Item = Duration> {
    #[expect(clippy::disallowed_methods, reason = "a setting of the tests")]
    let n = std::env::var("MANIFOLD_TEST_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    (0..n).map(|round| Duration::from_millis(700 + round * 313 % 701))
}

/// Chats as fast as it goes, until told to stop; how many were answered.
async fn load(door: &Client, stop: &CancellationToken) -> usize {
    let caller = async || {
        let mut answered = 0;
        while !stop.is_cancelled() {
            match door.chat(MODEL, "hi").await {
                Ok(reply) if reply.status == 200 => answered += 1,
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
        answered
    };
    join_all((0..CONNECTIONS).map(|_| caller())).await.into_iter().sum()
}

/// Lets the load run, makes a key in the middle of it, and kills `victim` without warning. Returns the key.
async fn kill_under_load(door: &Client, victim: &mut Server, after: Duration) -> Result<String> {
    let stop = CancellationToken::new();
    let fate = async {
        sleep(after).await;
        let made = door.post("/v1/keys", &json!({"name": "made before the kill"})).await;
        victim.kill().await?;
        stop.cancel();
        made.map(|reply| reply.json()["secret"].as_str().unwrap_or_default().to_owned())
    };
    let (answered, key) = tokio::join!(load(door, &stop), fate);
    assert!(answered > CONNECTIONS, "a load worth the name, not {answered} answers");
    key
}

/// What is missing of `upstream`'s own count.
fn missing(upstream: &Upstream, account: &Account) -> usize {
    let hits = upstream.hits();
    hits.checked_sub(account.attempts).unwrap_or_else(|| panic!("{} rows for {hits} requests", account.attempts))
}

async fn works(door: &Client, keys: &[String]) -> Result<()> {
    for key in keys {
        let reply = door.with_key(Some(key)).chat("manifold/echo", "still there").await?;
        assert_eq!((reply.status, reply.said().as_str()), (200, "still there"), "{}", reply.text);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_on_sqlite_loses_at_most_the_last_batch() -> Result<()> {
    let groq = Upstream::start().await?;
    let program = Program::new()?.groq(&groq);
    let mut server = program.serve().await?;
    let (mut keys, mut lost) = (vec![admin_key(&program.data())?], 0);

    for after in rounds() {
        keys.push(kill_under_load(&server.admin()?, &mut server, after).await?);
        server = program.serve().await?;

        let now = missing(&groq, &sqlite_account(&program.data()).await?);
        assert!((lost..=lost + BATCH).contains(&now), "{lost} rows were missing, now {now}");
        works(&server.admin()?, &keys).await?;
        lost = now;
    }

    until("every event took effect once", async || {
        Ok(sqlite_usage(&program.data()).await? == (sqlite_account(&program.data()).await?.requests as i64, 0))
    })
    .await?;
    server.stop().await?;
    assert_eq!(integrity(&program.data()).await?, ["ok", "ok"]);
    assert_eq!(missing(&groq, &sqlite_account(&program.data()).await?), lost);
    Ok(())
}

/// The door and the router as two processes on one Postgres; the router always comes back at the same address.
struct Pair {
    database: Database,
    router_program: Program,
    door_program: Program,
    router: Server,
    door: Server,
}

impl Pair {
    async fn start(groq: &Upstream) -> Result<Self> {
        Self::start_with(groq, |program| program).await
    }

    async fn start_with(groq: &Upstream, settings: impl Fn(Program) -> Program) -> Result<Self> {
        let database = Database::create().await?;
        let address = format!("127.0.0.1:{}", fixed_port()?);
        let both = Program::new()?.groq(groq).set("store.url", database.url.clone()).set("mesh.secret", SECRET);
        let both = settings(both);
        let router_program = both.clone().set("grpc.listen", address.clone());
        let door_program = both.set("mesh.ai_router", format!("http://{address}"));
        let router = router_program.start("ai-router").await?;
        let mut door = door_program.start("edge").await?;
        door.ready().await?;
        Ok(Self { database, router_program, door_program, router, door })
    }

    async fn answers(&self) -> Result<()> {
        let admin = self.door.admin()?;
        until("both answer", async || Ok(admin.chat("manifold/echo", "hi").await?.status == 200)).await
    }

    async fn end(mut self) -> Result<()> {
        self.door.stop().await?;
        self.router.stop().await?;
        self.database.drop().await
    }
}

/// Every event of the router took effect in identity, and none twice.
async fn adds_up(pair: &Pair) -> Result<()> {
    let url = &pair.database.url;
    // What a killed door was trying by itself comes again after a minute.
    let patience = Duration::from_secs(90);
    until_within(patience, "every event took effect once", async || {
        Ok(postgres_usage(url).await? == (postgres_account(url).await?.requests as i64, 0))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_router_on_postgres_loses_at_most_the_last_batch() -> Result<()> {
    let groq = Upstream::start().await?;
    let mut pair = Pair::start(&groq).await?;
    let (mut keys, mut lost) = (Vec::new(), 0);

    for after in rounds() {
        keys.push(kill_under_load(&pair.door.admin()?, &mut pair.router, after).await?);
        pair.router = pair.router_program.start("ai-router").await?;
        pair.answers().await?;

        let now = missing(&groq, &postgres_account(&pair.database.url).await?);
        assert!((lost..=lost + BATCH).contains(&now), "{lost} rows were missing, now {now}");
        works(&pair.door.admin()?, &keys).await?;
        lost = now;
    }

    adds_up(&pair).await?;
    pair.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_door_loses_no_key_and_no_row_of_the_router() -> Result<()> {
    let groq = Upstream::start().await?;
    let mut pair = Pair::start(&groq).await?;
    let mut keys = Vec::new();

    for after in rounds() {
        keys.push(kill_under_load(&pair.door.admin()?, &mut pair.door, after).await?);
        pair.door = pair.door_program.start("edge").await?;
        pair.answers().await?;
        works(&pair.door.admin()?, &keys).await?;
    }

    adds_up(&pair).await?;
    pair.door.stop().await.context("the door")?;
    pair.router.stop().await.context("the router")?;
    assert_eq!(missing(&groq, &postgres_account(&pair.database.url).await?), 0);
    pair.database.drop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_over_nats_take_effect_once_whoever_is_killed() -> Result<()> {
    let (groq, mut nats) = (Upstream::start().await?, Nats::start().await);
    let url = nats.url();
    let mut pair = Pair::start_with(&groq, |program| {
        program.set("bus.nats_url", url.clone()).set("bus.jetstream.max_bytes", "100MiB")
    })
    .await?;

    for (round, after) in rounds().enumerate() {
        let door = pair.door.admin()?;
        if round % 2 == 0 {
            kill_under_load(&door, &mut pair.router, after).await?;
            nats.kill();
            pair.router = pair.router_program.start("ai-router").await?;
        } else {
            kill_under_load(&door, &mut pair.door, after).await?;
            pair.door = pair.door_program.start("edge").await?;
        }
        nats.resume().await;
        pair.answers().await?;
    }
    nats.kill();
    nats.forget();
    nats.resume().await;
    pair.answers().await?;

    adds_up(&pair).await?;
    let status = pair.door_program.run(&["bus", "status"]).await?;
    assert!(status.out.contains("consumer identity__usage"), "{} {}", status.out, status.err);
    pair.end().await
}
