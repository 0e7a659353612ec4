//! Limits that several processes share in one Redis.

use anyhow::{Context, Result};
use manifold_testkit::{Client, Reply};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::database::Database;
use crate::program::{Program, SECRET, Server, admin_key, fixed_port, until};

const MODEL: &str = "manifold/echo";

/// The throw-away Redis that the test runner started.
#[expect(clippy::disallowed_methods, reason = "the test runner tells where its Redis is")]
pub fn redis_url() -> Result<String> {
    std::env::var("MANIFOLD_TEST_REDIS").context("this test needs Redis: run it through `make test`, which starts one")
}

/// Ten requests per day and key; each asks Redis.
fn limited(program: Program, redis_url: &str) -> Program {
    let program = program.set("cache.redis_url", redis_url).set("cache.timeout", "10s");
    let program = program.set("edge.limits.per_key.quota", "10").set("edge.limits.per_key.window", "24h");
    program.set("edge.limits.per_key.mode", "strict")
}

/// How many of `n` requests are answered, and the last answer.
async fn answered(door: &Client, n: usize) -> Result<(usize, Reply)> {
    let mut last = door.chat(MODEL, "hi").await?;
    let mut answered = usize::from(last.status == 200);
    for _ in 1..n {
        last = door.chat(MODEL, "hi").await?;
        answered += usize::from(last.status == 200);
    }
    Ok((answered, last))
}

async fn degraded(server: &Server) -> Result<String> {
    let readiness = server.operator()?.get("/readyz").await?;
    anyhow::ensure!(readiness.status == 200, "it serves: {}", readiness.text);
    Ok(readiness.json()["degraded"].to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_doors_share_one_strict_limit() -> Result<()> {
    let database = Database::create().await?;
    let all = Program::new()?.set("store.url", database.url.clone()).set("mesh.secret", SECRET);
    let mut router = all.clone().start("ai-router").await?;
    let door = limited(all.set("mesh.ai_router", format!("http://{}", router.grpc()?)), &redis_url()?);
    let mut one = door.start("edge").await?;
    one.ready().await?;
    let mut other = door.start("edge").await?;
    other.ready().await?;
    let (here, there) = (one.admin()?, other.admin()?);

    let (first, _) = answered(&here, 7).await?;
    let (second, refused) = answered(&there, 7).await?;

    assert_eq!((first, second, refused.status), (7, 3, 429), "{}", refused.text);
    assert_eq!(refused.header("ratelimit-policy"), "\"key\";q=10;w=86400");
    assert!(refused.header("ratelimit").starts_with("\"key\";r=0;t="), "{}", refused.header("ratelimit"));
    assert!(!refused.header("ratelimit").contains("mf-degraded"));
    for server in [&mut one, &mut other, &mut router] {
        server.stop().await?;
    }
    database.drop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_not_there_stops_neither_the_start_nor_the_requests() -> Result<()> {
    let program = limited(Program::new()?, &format!("redis://127.0.0.1:{}", fixed_port()?));
    let mut server = program.serve().await?;

    let (answered, last) = answered(&server.admin()?, 12).await?;

    assert_eq!((answered, last.status), (10, 429), "its share, which is all of it for one process");
    assert!(last.header("ratelimit").ends_with(";mf-degraded"), "{}", last.header("ratelimit"));
    assert!(degraded(&server).await?.contains("redis"));
    assert!(server.log().contains("redis is away"), "{}", server.log());
    server.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_comes_back_counts_again() -> Result<()> {
    let target = redis_url()?.trim_start_matches("redis://").to_owned();
    let wire = manifold_testkit::Wire::to(&target).await?;
    let program = limited(Program::new()?, &format!("redis://{}", wire.address));
    let mut server = program.serve().await?;
    let door = server.admin()?;
    let shared = door.chat(MODEL, "hi").await?;

    wire.cut();
    until("redis is away", async || Ok(degraded(&server).await?.contains("redis"))).await?;
    let alone = door.chat(MODEL, "hi").await?;
    wire.mend();
    until("redis is back", async || Ok(!degraded(&server).await?.contains("redis"))).await?;
    let again = door.chat(MODEL, "hi").await?;

    let states = [shared, alone, again].map(|reply| reply.header("ratelimit").to_owned());
    assert!(states[0].starts_with("\"key\";r=9;") && !states[0].contains("degraded"), "{states:?}");
    assert!(states[1].starts_with("\"key\";r=9;") && states[1].ends_with(";mf-degraded"), "{states:?}");
    assert!(states[2].starts_with("\"key\";r=8;") && !states[2].contains("degraded"), "{states:?}");
    server.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_doors_share_the_places_of_requests_at_once() -> Result<()> {
    let database = Database::create().await?;
    let all = Program::new()?.set("store.url", database.url.clone()).set("mesh.secret", SECRET);
    let mut router = all.clone().start("ai-router").await?;
    let door = all.set("mesh.ai_router", format!("http://{}", router.grpc()?));
    let door = door.set("cache.redis_url", redis_url()?).set("cache.timeout", "10s");
    let door = door.set("edge.limits.per_key.concurrent", "1").set("edge.limits.per_key.mode", "strict");
    let mut one = door.start("edge").await?;
    one.ready().await?;
    let mut other = door.start("edge").await?;
    other.ready().await?;
    let there = other.admin()?;

    let head = format!("POST /v1/keys HTTP/1.1\r\nhost: a\r\nx-api-key: {}\r\n", admin_key(&door.data())?);
    let (mut slow, mut refused) = (None, None);
    until("the place is held", async || {
        // Its body never comes. Another one each time: it is refused itself while the other door holds the place.
        let mut next = TcpStream::connect(one.public()?).await?;
        next.write_all(format!("{head}content-length: 9\r\n\r\n").as_bytes()).await?;
        slow = Some(next);
        refused = Some(there.get("/v1/keys").await?).filter(|reply| reply.status == 429);
        Ok(refused.is_some())
    })
    .await?;
    drop(slow);
    until("the place is free", async || Ok(there.get("/v1/keys").await?.status == 200)).await?;

    let refused = refused.context("it was refused")?;
    assert_eq!(refused.json()["violated-policies"], serde_json::json!(["key-concurrent"]), "{}", refused.text);
    assert!(refused.header("ratelimit").starts_with("\"key-concurrent\";r=0;t="), "{}", refused.header("ratelimit"));
    for server in [&mut one, &mut other, &mut router] {
        server.stop().await?;
    }
    database.drop().await
}

#[tokio::test]
async fn settings_of_shared_limits_that_cannot_work_are_refused() -> Result<()> {
    let program = Program::new()?;
    for (settings, key) in [
        (vec![("cache.redis_url", "http://redis.example")], "cache.redis_url"),
        (vec![("cache.replicas", "0")], "cache.replicas"),
        (vec![("cache.timeout", "0s")], "cache.timeout"),
        (vec![("edge.limits.per_key.mode", "leased")], "edge.limits.per_key.mode"),
        (vec![("edge.limits.per_key.concurrent", "0")], "edge.limits.per_key.concurrent"),
    ] {
        let limit = [("edge.limits.per_key.quota", "10"), ("edge.limits.per_key.window", "1m")];
        let set =
            limit.into_iter().chain(settings).fold(program.clone(), |program, (key, value)| program.set(key, value));

        let done = set.run(&["config", "check"]).await?;

        assert_eq!(done.code, 2, "{key}: {}", done.err);
        assert!(done.err.contains(key), "{key}: {}", done.err);
    }
    Ok(())
}
