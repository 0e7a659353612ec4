//! Starts the services of one process in the right order, and stops them in the reverse.

mod broker;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use manifold_bus::{Broker, Bus, Source, expect_relay, relay};
use manifold_cache::{Redis, Shared};
use manifold_core::{Clock, Code, Error, Ids, Result, ResultExt, Secret};
use manifold_runtime::health::Component;
use manifold_runtime::http::{Client, HttpConfig};
use manifold_runtime::telemetry::prometheus;
use manifold_runtime::{Health, Lanes, Mesh, MeshConfig, Routes, Tasks};
use manifold_store::{Db, Durability, Location, Migrations, WriterConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, DurabilityName};
use crate::lock::{DataLock, ELSEWHERE};

pub use broker::{connect_broker, find_broker};

/// The services that a process can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The public door, with identity.
    Edge,
    /// Models and providers.
    AiRouter,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Edge, Self::AiRouter];

    /// Its name on the command line and in the mesh.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::AiRouter => "ai-router",
        }
    }

    /// Whether these are all of them, so that nothing runs elsewhere.
    pub fn are_all(services: &[Self]) -> bool {
        Self::ALL.iter().all(|service| services.contains(service))
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }
}

/// A running process. Dropping it does not stop it: call [`Node::stop`].
pub struct Node {
    /// Where the public door listens, if this process has one.
    pub public: Option<SocketAddr>,
    /// Where probes and metrics are.
    pub management: SocketAddr,
    /// Where other processes call, if they do.
    pub grpc: Option<SocketAddr>,
    /// The admin key, if this start made it.
    pub first_admin_key: Option<Secret<String>>,
    /// The token for the first account, if this start made it.
    pub setup_token: Option<Secret<String>>,
    health: Component,
    serving: Tasks,
    background: Tasks,
    writers: Tasks,
    drain_delay: Duration,
    drain: Duration,
    _lock: Option<DataLock>,
}

/// What the services of one process share while it starts.
struct Floor<'a> {
    config: &'a Config,
    location: Location,
    clock: Clock,
    ids: Ids,
    health: Health,
    background: Tasks,
    writers: Tasks,
    /// How events travel; what of the embedded way is known yet.
    bus: Bus,
}

/// Looks for what [`start`] would refuse before it has done anything.
pub fn check(config: &Config) -> Result<()> {
    Location::parse(&config.store.url, &config.data_dir)?;
    mesh(config)?;
    config.edge.validate()?;
    config.telemetry.validate()?;
    http_client(config).map(|_| ())
}

/// Starts `services`. When some run elsewhere, the gRPC listener opens too.
pub async fn start(config: &Config, services: &[Service], clock: Clock) -> Result<Node> {
    let mut floor = Floor {
        location: Location::parse(&config.store.url, &config.data_dir)?,
        ids: Ids::new(clock.clone()),
        clock,
        health: Health::new(),
        background: Tasks::new(),
        writers: Tasks::new(),
        bus: Bus::Embedded(Vec::new()),
        config,
    };
    let node_health = floor.health.component("process");
    prometheus().start_upkeep(&floor.background);
    let lock = match &floor.location {
        Location::Sqlite { folder } => Some(DataLock::take(folder, ELSEWHERE)?),
        Location::Postgres { .. } => None,
    };
    let serving = Tasks::new();
    let management =
        manifold_edge::management::start(config.management.listen, floor.health.clone(), &floor.background).await;
    let management = management.map_err(|error| not_listening(error, "management.listen"))?;
    let mesh = mesh(config)?;
    if let Some(broker) = broker(&floor).await? {
        floor.bus = Bus::JetStream(broker);
    }
    let redis = redis(&floor).await?;
    if services.contains(&Service::AiRouter) {
        mesh.provide("ai-router", ai_router(&mut floor, redis.clone()).await?);
    } else if let Some(db) = Db::elsewhere(&floor.location, "ai-router")? {
        floor.reads(Source { name: "ai-router", db });
    }
    let (mut public, mut first_admin_key, mut setup_token) = (None, None, None);
    if services.contains(&Service::Edge) {
        let limits = redis.map(|redis| Shared { redis, replicas: config.cache.replicas });
        let identity = identity(&floor, limits.clone()).await?;
        mesh.provide("identity", identity.routes);
        (first_admin_key, setup_token) = (identity.first_admin_key, identity.setup_token);
        let deps = manifold_edge::Deps {
            identity: identity.identity,
            mesh: mesh.clone(),
            clock: floor.clock.clone(),
            ids: floor.ids.clone(),
            tasks: serving.clone(),
            lanes: Lanes::start()?,
            limits,
            health: floor.health.clone(),
        };
        let door = manifold_edge::start(config.edge.clone(), deps).await;
        public = Some(door.map_err(|error| not_listening(error, "edge.listen"))?.address);
    }
    let grpc = if Service::are_all(services) { None } else { Some(listen_grpc(config, &mesh, &serving).await?) };
    node_health.ready();
    Ok(Node {
        public,
        management,
        grpc,
        first_admin_key,
        setup_token,
        health: node_health,
        serving,
        background: floor.background,
        writers: floor.writers,
        drain_delay: config.runtime.drain_delay,
        drain: config.edge.drain,
        _lock: lock,
    })
}

impl Node {
    /// Not ready, then no new connections, then the end of what runs; rows in the queue are written last. True if all ended in time.
    pub async fn stop(self) -> bool {
        self.health.failed("stopping");
        tokio::time::sleep(self.drain_delay).await;
        let served = self.serving.shutdown(self.drain + Duration::from_secs(1)).await;
        self.background.shutdown(Duration::from_secs(5)).await;
        let written = self.writers.shutdown(Duration::from_secs(10)).await;
        info!(served, written, "stopped");
        served && written
    }
}

impl Floor<'_> {
    /// Consumers of this process read this outbox, unless there is a broker.
    fn reads(&mut self, source: Source) {
        if let Bus::Embedded(sources) = &mut self.bus {
            sources.push(source);
        }
    }
}

/// The broker, if there is to be one. It may be away; one that does not fit stops the start.
async fn broker(floor: &Floor<'_>) -> Result<Option<Broker>> {
    let Some(broker) = connect_broker(floor.config).await? else { return Ok(None) };
    floor.background.spawn_until_stop("bus probe", broker::watch(broker.clone(), floor.health.component("bus")));
    Ok(Some(broker))
}

async fn ai_router(floor: &mut Floor<'_>, redis: Option<Redis>) -> Result<Routes> {
    let db = open(floor, "ai-router", "store.ai-router", manifold_ai_router::migrations()).await?;
    floor.reads(Source { name: "ai-router", db: db.clone() });
    let deps = manifold_ai_router::Deps {
        db,
        http: http_client(floor.config)?,
        clock: floor.clock.clone(),
        ids: floor.ids.clone(),
        tasks: floor.background.clone(),
        health: floor.health.clone(),
        redis,
    };
    Ok(manifold_ai_router::start(floor.config.ai.clone(), deps).await?.routes)
}

/// The outbound client of this process.
pub fn http_client(config: &Config) -> Result<Client> {
    Client::new(&HttpConfig {
        allow: config.runtime.egress.allow.clone(),
        connect_timeout: config.runtime.connect_timeout,
    })
}

async fn identity(floor: &Floor<'_>, limits: Option<Shared>) -> Result<manifold_identity::Started> {
    let db = open(floor, "identity", "store.identity", manifold_identity::migrations()).await?;
    let config = manifold_identity::Config {
        data_dir: floor.config.data_dir.clone(),
        master_keys: floor.config.master_keys(),
        admin_key: floor.config.bootstrap.admin_key.clone(),
        grace: floor.config.identity.grace,
        mail: floor.config.mail.clone(),
        public_url: floor.config.edge.public_url.clone(),
    };
    let deps = manifold_identity::Deps {
        db,
        clock: floor.clock.clone(),
        ids: floor.ids.clone(),
        bus: floor.bus.clone(),
        limits,
        health: floor.health.clone(),
        tasks: floor.background.clone(),
    };
    manifold_identity::start(config, deps).await
}

/// Opens a service's database, waiting for one that is not there yet, and starts its writer.
async fn open(floor: &Floor<'_>, service: &'static str, component: &'static str, migrations: Migrations) -> Result<Db> {
    let health = floor.health.component(component);
    let patience = tokio::time::Instant::now() + floor.config.runtime.start_timeout;
    let bus = manifold_bus::migrations();
    let (db, writer) = loop {
        match Db::open(&floor.location, service, &[&bus, &migrations], &writer_config(floor.config)).await {
            Ok(opened) => break opened,
            Err(error) if error.code() == Code::Unavailable && tokio::time::Instant::now() < patience => {
                warn!(service, error = %error.chain(), "the database is not there yet, trying again");
                health.failed(error.message().to_owned());
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error),
        }
    };
    let token = floor.writers.token();
    floor.writers.spawn("store writer", writer.run(async move { token.cancelled().await }));
    floor.background.spawn_until_stop("store probe", watch_store(db.clone(), health));
    manifold_bus::leave_numbers_out(&db).await?;
    if let Bus::JetStream(broker) = &floor.bus {
        expect_relay(&db, &floor.clock).await?;
        let source = Source { name: service, db: db.clone() };
        floor.background.spawn_until_stop("relay", relay(broker.clone(), source, floor.clock.clone()));
    }
    Ok(db)
}

fn writer_config(config: &Config) -> WriterConfig {
    let durability = match config.store.durability {
        DurabilityName::Full => Durability::Full,
        DurabilityName::Normal => Durability::Normal,
    };
    WriterConfig { batch: config.store.batch, linger: config.store.linger, durability, ..WriterConfig::default() }
}

/// A database that went away degrades the process: chats go on from what is in memory.
async fn watch_store(db: Db, health: Component) {
    loop {
        match db.ping().await {
            Ok(()) => health.ready(),
            Err(error) => health.degraded(error.message().to_owned()),
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// What counts limits of several processes and keeps values for them. One that is away degrades the process, from the start
/// or later.
async fn redis(floor: &Floor<'_>) -> Result<Option<Redis>> {
    let Some(redis) = floor.config.cache.redis()? else { return Ok(None) };
    let health = floor.health.component("redis");
    let (mut answers, probed) = (look_at_redis(&redis, &health, true).await, redis.clone());
    floor.background.spawn_until_stop("redis probe", async move {
        loop {
            tokio::time::sleep(Duration::from_millis(250)).await;
            answers = look_at_redis(&probed, &health, answers).await;
        }
    });
    Ok(Some(redis))
}

/// Whether it answers, which is logged when it changes.
async fn look_at_redis(redis: &Redis, health: &Component, answered: bool) -> bool {
    match redis.refresh().await {
        Ok(()) => {
            health.ready();
            if !answered {
                info!("redis answers again: limits are shared");
            }
            true
        }
        Err(error) => {
            health.degraded(error.message().to_owned());
            if answered {
                warn!(error = %error.chain(), "redis is away: each process counts shared limits for itself, or refuses");
            }
            false
        }
    }
}

fn mesh(config: &Config) -> Result<Mesh> {
    let places = [("ai-router", &config.mesh.ai_router), ("identity", &config.mesh.identity)];
    let endpoints =
        places.into_iter().filter_map(|(service, address)| Some((service.to_owned(), address.clone()?))).collect();
    Mesh::new(MeshConfig { endpoints, secret: config.mesh.secret.clone() })
}

async fn listen_grpc(config: &Config, mesh: &Mesh, serving: &Tasks) -> Result<SocketAddr> {
    if config.mesh.secret.is_none() {
        return Err(Error::invalid("CONFIG_INVALID", "mesh.secret must be set when services run in several processes")
            .at("mesh.secret"));
    }
    let listener =
        TcpListener::bind(config.grpc.listen).await.map_err(|source| refused(config.grpc.listen, &source))?;
    let address = listener.local_addr().or_err(Code::Internal, "read the address of the gRPC listener")?;
    let (mesh, token): (_, CancellationToken) = (mesh.clone(), serving.token());
    serving.spawn("grpc", async move {
        if let Err(error) = mesh.serve(listener, token).await {
            warn!(error = %error.chain(), "the gRPC listener ended");
        }
    });
    Ok(address)
}

/// The gRPC address cannot be listened on.
fn refused(address: SocketAddr, source: &io::Error) -> Error {
    let reason = if source.kind() == io::ErrorKind::AddrInUse { "ADDRESS_IN_USE" } else { "LISTEN_FAILED" };
    not_listening(Error::new(Code::Unavailable, reason, format!("cannot listen on {address}: {source}")), "grpc.listen")
}

/// Names the setting that mends it.
fn not_listening(error: Error, key: &'static str) -> Error {
    if !matches!(error.reason(), "ADDRESS_IN_USE" | "LISTEN_FAILED") {
        return error;
    }
    Error::new(error.code(), error.reason().to_owned(), format!("{}; set {key} to another address", error.message()))
}
