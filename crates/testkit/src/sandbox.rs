//! A whole Manifold in the test's own process: real sockets, real databases, a clock that the test moves.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context, Result};
use manifold::config;
use manifold::node::{self, Node, Service};
use manifold_core::{Clock, Timestamp};
use sqlx::postgres::PgPool;
use sqlx::{AssertSqlSafe, Executor};
use tempfile::TempDir;

use crate::{Client, Upstream, Wire};

const SECRET: &str = "sandbox-mesh-secret";

/// How many processes, and on which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Everything in one, on SQLite.
    One,
    /// The door and the router apart, talking gRPC, on one Postgres.
    Two,
}

/// What a sandbox should be like.
pub struct Builder {
    shape: Shape,
    settings: BTreeMap<String, String>,
    cuttable: bool,
}

/// A running Manifold with one admin.
pub struct Sandbox {
    /// The admin's client.
    pub admin: Client,
    /// A client of probes and metrics.
    pub management: Client,
    /// The clock of all its processes.
    pub clock: Clock,
    /// Where its files are.
    pub folder: Arc<TempDir>,
    /// The admin's key.
    pub admin_key: String,
    /// The wire to the database, if it was asked for.
    pub wire: Option<Wire>,
    shape: Shape,
    nodes: Vec<Node>,
    database: Option<String>,
}

/// The throw-away Postgres that `make test` starts.
#[expect(clippy::disallowed_methods, reason = "the test runner tells where its Postgres is")]
pub fn postgres_url() -> Result<String> {
    std::env::var("MANIFOLD_TEST_POSTGRES")
        .context("this test needs Postgres: run it through `make test`, which starts one")
}

impl Sandbox {
    /// A sandbox of this shape, to be refined.
    pub fn builder(shape: Shape) -> Builder {
        Builder { shape, settings: BTreeMap::new(), cuttable: false }
    }

    /// Where other processes call, if any process listens for them.
    pub fn grpc(&self) -> Option<std::net::SocketAddr> {
        self.nodes.iter().find_map(|node| node.grpc)
    }

    /// Rows of the usage tables: one number from one SQL statement.
    pub async fn count(&self, sql: &str) -> Result<i64> {
        match &self.database {
            None => {
                let file = self.folder.path().join("ai-router.db");
                let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}?mode=ro", file.display())).await?;
                let count = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&pool).await?;
                pool.close().await;
                Ok(count)
            }
            Some(url) => {
                let pool = PgPool::connect(url).await?;
                let mut connection = pool.acquire().await?;
                connection.execute("SET search_path = ai_router").await?;
                let count = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut *connection).await?;
                drop(connection);
                pool.close().await;
                Ok(count)
            }
        }
    }

    /// Stops all processes and throws the data away. True if everything ended in time.
    pub async fn stop(mut self) -> Result<bool> {
        let mut well = true;
        for node in self.nodes.drain(..) {
            well &= node.stop().await;
        }
        if let (Shape::Two, Some(url)) = (self.shape, &self.database) {
            drop_database(url).await?;
        }
        Ok(well)
    }

    /// Stops the processes, but keeps the data to be counted.
    pub async fn halt(&mut self) -> bool {
        let mut well = true;
        for node in self.nodes.drain(..) {
            well &= node.stop().await;
        }
        well
    }
}

impl Builder {
    /// Sets one setting, named as in the configuration file.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.insert(format!("MANIFOLD_{}", key.replace('.', "__").to_ascii_uppercase()), value.into());
        self
    }

    /// Puts a wire between the processes and Postgres, to be cut.
    #[must_use]
    pub fn cuttable(mut self) -> Self {
        self.cuttable = true;
        self
    }

    /// Lets `provider` be played by `upstream`.
    #[must_use]
    pub fn provider(self, provider: &str, upstream: &Upstream) -> Self {
        let path = match provider {
            "gemini" => "/v1beta",
            "ollama" => "",
            _ => "/v1",
        };
        let sandbox =
            self.set(&format!("ai.providers.{provider}.base_url"), format!("http://{}{path}", upstream.address));
        if provider == "ollama" {
            sandbox
        } else {
            sandbox.set(&format!("ai.providers.{provider}.api_key"), format!("sk-canary-{provider}"))
        }
    }

    /// Starts it.
    pub async fn start(mut self) -> Result<Sandbox> {
        let folder = Arc::new(tempfile::tempdir()?);
        let clock = Clock::manual(Timestamp::from_micros(Clock::system().now().micros()));
        self = self.set("data_dir", folder.path().display().to_string());
        self = self
            .set("edge.listen", "127.0.0.1:0")
            .set("management.listen", "127.0.0.1:0")
            .set("grpc.listen", "127.0.0.1:0");
        let (mut database, mut wire) = (None, None);
        let mut nodes = Vec::new();
        if self.shape == Shape::Two {
            let url = create_database().await?;
            let through =
                if self.cuttable { wire.insert(Wire::to(&host(&url)?).await?).route(&url)? } else { url.clone() };
            self = self.set("store.url", through).set("mesh.secret", SECRET);
            database = Some(url);
            let router = self.node(&[Service::AiRouter], &clock).await?;
            let grpc = router.grpc.context("the router listens for the door")?;
            self = self.set("mesh.ai_router", format!("http://{grpc}"));
            nodes.push(router);
            nodes.push(self.node(&[Service::Edge], &clock).await?);
        } else {
            nodes.push(self.node(&Service::ALL, &clock).await?);
        }
        let door = nodes.last().context("a process with the door")?;
        let (public, management) = (door.public.context("the door")?, door.management);
        nodes.reverse();
        let admin_key = std::fs::read_to_string(folder.path().join("admin.key"))?.trim().to_owned();
        let admin = Client::new(public, Some(&admin_key));
        wait_ready(&admin).await?;
        Ok(Sandbox {
            admin,
            management: Client::new(management, None),
            clock,
            folder,
            admin_key,
            wire,
            shape: self.shape,
            nodes,
            database,
        })
    }

    async fn node(&self, services: &[Service], clock: &Clock) -> Result<Node> {
        let config = config::read(None, self.settings.clone(), Vec::new())?.value;
        Ok(node::start(&config, services, clock.clone()).await?)
    }
}

async fn wait_ready(client: &Client) -> Result<()> {
    for _ in 0..500 {
        if client.get("/readyz").await?.status == 200 {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    anyhow::bail!("not ready: {}", client.get("/readyz").await?.text)
}

/// `host:port` of a Postgres URL.
fn host(url: &str) -> Result<String> {
    let parsed = sqlx::postgres::PgConnectOptions::from_str(url)?;
    Ok(format!("{}:{}", parsed.get_host(), parsed.get_port()))
}

async fn create_database() -> Result<String> {
    let url = postgres_url()?;
    let name = format!("sandbox_{}", uuid::Uuid::new_v4().simple());
    let pool = PgPool::connect(&url).await.context("connect to the throw-away Postgres")?;
    pool.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await?;
    pool.close().await;
    let (server, _) = url.rsplit_once('/').context("a Postgres URL ends in /database")?;
    Ok(format!("{server}/{name}"))
}

async fn drop_database(url: &str) -> Result<()> {
    let (_, name) = url.rsplit_once('/').context("a Postgres URL ends in /database")?;
    let pool = PgPool::connect(&postgres_url()?).await?;
    pool.execute(AssertSqlSafe(format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))).await?;
    pool.close().await;
    Ok(())
}
