//! A server goes away under load and comes back with its data: chats go on, what is refused is refused clearly, and in the
//! end every answered call is counted once. `MANIFOLD_TEST_OUTAGE=60` makes the outages last so many seconds.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use manifold_testkit::{Client, Upstream};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::database::{postgres_account, postgres_usage};
use crate::load::{Seen, load};
use crate::nats::Nats;
use crate::program::{Program, SECRET, Server, until_within};
use crate::servers::{Postgres, Redis};

/// Seconds of each outage, unless `MANIFOLD_TEST_OUTAGE` says how many.
const OUTAGE: u64 = 2;
/// Until everything is as before: longer than the pauses of everybody who tries again.
const RECOVERY: Duration = Duration::from_secs(90);
/// Before and after an outage.
const CALM: Duration = Duration::from_secs(1);

fn outage() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "a setting of the tests")]
    let seconds = std::env::var("MANIFOLD_TEST_OUTAGE").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(OUTAGE))
}

#[expect(clippy::print_stdout, reason = "the figures of a long run")]
fn tell(figures: &str) {
    println!("{figures}");
}

/// Two doors and a router on servers of their own.
struct Town {
    groq: Upstream,
    postgres: Postgres,
    redis: Redis,
    nats: Nats,
    router: Server,
    doors: Vec<Server>,
}

impl Town {
    async fn start() -> Result<Self> {
        let (groq, nats) = (Upstream::start().await?, Nats::start().await);
        let (postgres, redis) = (Postgres::start().await?, Redis::start().await?);
        let all = Program::new()?.groq(&groq).set("store.url", postgres.url()).set("mesh.secret", SECRET);
        let all = all.set("bus.nats_url", nats.url()).set("bus.jetstream.max_bytes", "100MiB");
        let all = all.set("cache.redis_url", redis.url()).set("cache.replicas", "2").set("cache.timeout", "1s");
        let limit = [("quota", "600000"), ("window", "60s"), ("mode", "strict")];
        let all =
            limit.into_iter().fold(all, |all, (name, value)| all.set(&format!("edge.limits.per_key.{name}"), value));
        let router = all.start("ai-router").await?;
        let door = all.set("mesh.ai_router", format!("http://{}", router.grpc()?));
        let mut doors = Vec::new();
        for _ in 0..2 {
            let mut started = door.start("edge").await?;
            started.ready().await?;
            doors.push(started);
        }
        Ok(Self { groq, postgres, redis, nats, router, doors })
    }

    fn clients(&self) -> Result<Vec<Client>> {
        self.doors.iter().map(Server::admin).collect()
    }

    /// What is degraded in all processes together. All of them serve.
    async fn degraded(&self) -> Result<BTreeSet<String>> {
        let mut told = BTreeSet::new();
        for server in self.doors.iter().chain([&self.router]) {
            let readiness = server.operator()?.get("/readyz").await?;
            ensure!(readiness.status == 200, "it serves: {}", readiness.text);
            let components = readiness.json()["degraded"].as_array().cloned().unwrap_or_default();
            told.extend(components.iter().filter_map(|one| Some(one["component"].as_str()?.to_owned())));
        }
        Ok(told)
    }

    /// The sum of a metric over all processes and labels.
    async fn metric(&self, name: &str) -> Result<f64> {
        let mut sum = 0.0;
        for server in self.doors.iter().chain([&self.router]) {
            let text = server.operator()?.get("/metrics").await?.text;
            let lines = text.lines().filter(|line| line.starts_with(name));
            sum += lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum::<f64>();
        }
        Ok(sum)
    }

    /// Events of calls that are not in the stream.
    async fn waiting(&self) -> Result<i64> {
        self.count("SELECT COUNT(*) FROM ai_router.outbox WHERE published_at IS NULL").await
    }

    async fn count(&self, sql: &'static str) -> Result<i64> {
        let mut connection = PgConnection::connect(&self.postgres.url()).await?;
        let count = sqlx::query_scalar(sql).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok(count)
    }
}

/// What goes away, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    Redis,
    Nats,
    Postgres,
    /// It is there and does not answer.
    FrozenPostgres,
}

impl Gone {
    fn begin(self, town: &mut Town) -> Result<()> {
        match self {
            Self::Redis => town.redis.kill(),
            Self::Nats => {
                town.nats.kill();
                Ok(())
            }
            Self::Postgres => town.postgres.crash(),
            Self::FrozenPostgres => town.postgres.freeze(),
        }
    }

    async fn end(self, town: &mut Town) -> Result<()> {
        match self {
            Self::Redis => town.redis.resume().await,
            Self::Nats => {
                town.nats.resume().await;
                Ok(())
            }
            Self::Postgres => town.postgres.resume().await,
            Self::FrozenPostgres => town.postgres.thaw(),
        }
    }

    /// The components that tell of it.
    fn components(self) -> BTreeSet<String> {
        let names: &[&str] = match self {
            Self::Redis => &["redis"],
            Self::Nats => &["bus"],
            Self::Postgres | Self::FrozenPostgres => &["identity", "store.ai-router", "store.identity"],
        };
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// The metric that grows meanwhile.
    fn metric(self) -> &'static str {
        match self {
            Self::Redis => "manifold_rate_limit_degraded_total",
            Self::Nats => "manifold_relay_errors_total",
            Self::Postgres => "manifold_write_queue_depth",
            Self::FrozenPostgres => "manifold_upstream_attempts_total",
        }
    }

    /// Whether keys cannot be read or made meanwhile.
    fn takes_keys(self) -> bool {
        matches!(self, Self::Postgres | Self::FrozenPostgres)
    }
}

/// Ends it under load and starts it again; what the callers saw.
async fn disturb(town: &mut Town, gone: Gone) -> Result<Seen> {
    let doors = town.clients()?;
    let revoked = doors[0].post("/v1/keys", &json!({"name": "revoked"})).await?.json();
    let ended = doors[0].delete(&format!("/v1/keys/{}", revoked["id"].as_str().unwrap_or_default())).await?;
    ensure!(ended.status == 200, "{}", ended.text);
    let unseen = doors[0].post("/v1/keys", &json!({"name": "not used before"})).await?.json();
    let stranger = doors[1].with_key(unseen["secret"].as_str());
    let stop = CancellationToken::new();
    let callers = load(&doors, revoked["secret"].as_str().unwrap_or_default(), &stop);
    let fate = async {
        sleep(CALM).await;
        let before = town.metric(gone.metric()).await?;
        gone.begin(town)?;
        let begun = Instant::now();
        until_within(
            RECOVERY,
            "all that is degraded is told",
            async || Ok(town.degraded().await? == gone.components()),
        )
        .await?;
        let told = begun.elapsed();
        until_within(RECOVERY, "metrics tell of it", async || Ok(town.metric(gone.metric()).await? > before)).await?;
        sleep(outage().saturating_sub(begun.elapsed())).await;
        ensure!(town.degraded().await? == gone.components(), "{:?}", town.degraded().await?);
        let read = stranger.get("/v1/models").await?;
        let made = doors[0].post("/v1/keys", &json!({"name": "made meanwhile"})).await?;
        let expected = if gone.takes_keys() { (503, 503) } else { (200, 201) };
        ensure!((read.status, made.status) == expected, "{} {}", read.text, made.text);
        if gone == Gone::Nats {
            tell(&format!("{} events wait", town.waiting().await?));
        }
        let lasted = begun.elapsed();
        gone.end(town).await?;
        let back = Instant::now();
        until_within(RECOVERY, "nothing is degraded", async || Ok(town.degraded().await?.is_empty())).await?;
        let clean = back.elapsed();
        sleep(CALM).await;
        Ok::<_, anyhow::Error>((told, lasted, clean))
    };
    let fate = async {
        let outcome = fate.await;
        stop.cancel();
        outcome
    };
    let (seen, outcome) = tokio::join!(callers, fate);
    let (told, lasted, clean) = outcome?;
    tell(&format!("{gone:?} was away for {lasted:.1?}, told after {told:.1?}; ready {clean:.1?} after its return"));
    tell(&seen.to_string());
    Ok(seen)
}

/// Every answered call is counted once, every event is relayed in its order, every key that was handed out works.
async fn adds_up(town: &Town, seen: &Seen) -> Result<()> {
    let (url, begun) = (town.postgres.url(), Instant::now());
    until_within(RECOVERY, "every call is counted and every event is relayed", async || {
        let counted = postgres_usage(&url).await?;
        Ok(counted == (seen.chats as i64, 0) && town.waiting().await? == 0)
    })
    .await?;
    tell(&format!("everything was counted and relayed {:.1?} after the last call", begun.elapsed()));
    let account = postgres_account(&url).await?;
    assert_eq!((account.requests, account.attempts), (seen.chats, town.groq.hits()));
    let disorder = "SELECT COUNT(*) FROM (SELECT stream_seq, LAG(stream_seq) OVER (ORDER BY seq) AS before \
                    FROM ai_router.outbox) AS o WHERE before > stream_seq";
    assert_eq!(town.count(disorder).await?, 0, "events stand in the stream in their order");
    for door in town.clients()? {
        for key in &seen.keys {
            let reply = door.with_key(Some(key)).get("/v1/models").await?;
            ensure!(reply.status == 200, "a key that was handed out: {} {}", reply.status, reply.text);
        }
    }
    Ok(())
}

async fn survives(gone: Gone) -> Result<()> {
    let mut town = Town::start().await?;

    let seen = disturb(&mut town, gone).await?;

    assert!(seen.wrong.is_empty(), "{} wrong answers: {:?}", seen.wrong.len(), seen.wrong.first());
    let refusal = if gone.takes_keys() { "create key: 503 store_unavailable" } else { "none" };
    assert!(seen.refused.keys().all(|kind| kind == refusal), "{seen}");
    adds_up(&town, &seen).await?;
    for server in town.doors.iter_mut().chain([&mut town.router]) {
        server.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_every_request_is_answered() -> Result<()> {
    survives(Gone::Redis).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_nats_every_request_is_answered_and_events_wait_in_their_order() -> Result<()> {
    survives(Gone::Nats).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_chats_go_on_and_are_written_down_later() -> Result<()> {
    survives(Gone::Postgres).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_does_not_answer_stops_no_chat() -> Result<()> {
    survives(Gone::FrozenPostgres).await
}
