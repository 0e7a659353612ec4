//! A database, a data folder and a clock, on which any number of processes can start.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Clock, Ids, Principal, RequestId, Result, Secret, Timestamp, TraceContext};
use manifold_identity::{Config, Deps, Environment, Identity, MailConfig, MasterKey, NewKey, Started, Terms};
use manifold_runtime::{CallContext, Health, Tasks};
use manifold_store::{Db, Engine, Location, SqlResultExt, WriterConfig, on};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};
use tempfile::TempDir;
use tokio::time::Instant;
use uuid::Uuid;

/// Where callers are.
pub const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const GRACE: Duration = Duration::from_secs(600);

/// Where processes start.
pub struct House {
    pub folder: TempDir,
    pub clock: Clock,
    location: Location,
    database: Option<(PgConnectOptions, String)>,
}

/// A running process.
pub struct Process {
    pub identity: Identity,
    pub first_admin_key: Option<Secret<String>>,
    pub routes: manifold_runtime::Routes,
    pub health: Health,
    pub db: Db,
    tasks: Tasks,
    writer: Tasks,
}

impl House {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::Sqlite { folder: folder.path().to_owned() };
        Self { folder, clock: clock(), location, database: None }
    }

    #[expect(clippy::disallowed_methods, reason = "the test runner tells where its Postgres is")]
    pub async fn postgres() -> Self {
        let url = std::env::var("MANIFOLD_TEST_POSTGRES").expect("MANIFOLD_TEST_POSTGRES names a Postgres for tests");
        let server = PgConnectOptions::from_str(&url).unwrap();
        let name = format!("identity_{}", Uuid::new_v4().simple());
        execute(&server, format!("CREATE DATABASE {name}")).await;
        let url = server.clone().database(&name).to_url_lossy().to_string();
        let location = Location::Postgres { url: Secret::new(url) };
        Self { folder: tempfile::tempdir().unwrap(), clock: clock(), location, database: Some((server, name)) }
    }

    pub async fn tear_down(self) {
        if let Some((server, name)) = &self.database {
            execute(server, format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    }

    pub fn config(&self) -> Config {
        self.config_in(self.folder.path())
    }

    /// With the data folder of another machine.
    pub fn config_in(&self, folder: &Path) -> Config {
        Config {
            data_dir: folder.to_owned(),
            master_keys: vec![MasterKey::of_folder(folder)],
            admin_key: None,
            grace: GRACE,
            mail: MailConfig::default(),
            public_url: String::new(),
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub async fn start(&self) -> Process {
        self.try_start(self.config()).await.unwrap()
    }

    pub async fn try_start(&self, config: Config) -> Result<Process> {
        let (bus, own) = (manifold_bus::migrations(), manifold_identity::migrations());
        let options = WriterConfig::default();
        let (db, run) = Db::open(&self.location, "identity", &[&bus, &own], &options).await?;
        let (tasks, writer, health) = (Tasks::new(), Tasks::new(), Health::new());
        let stop = writer.token();
        writer.spawn("writer", run.run(async move { stop.cancelled().await }));
        let ids = Ids::new(self.clock.clone());
        let deps = Deps {
            db: db.clone(),
            clock: self.clock.clone(),
            ids,
            bus: manifold_bus::Bus::Embedded(Vec::new()),
            limits: None,
            health: health.clone(),
            tasks: tasks.clone(),
        };
        let Started { identity, routes, first_admin_key, .. } = manifold_identity::start(config, deps).await?;
        Ok(Process { identity, first_admin_key, routes, health, db, tasks, writer })
    }

    /// Whether the database is Postgres.
    pub fn is_postgres(&self) -> bool {
        self.database.is_some()
    }

    /// The admin's key, as a script would read it.
    pub fn admin_key(&self) -> String {
        std::fs::read_to_string(self.file("admin.key")).unwrap().trim().to_owned()
    }
}

impl Process {
    /// The admin, calling.
    pub async fn admin(&self, house: &House) -> CallContext {
        calling(self.identity.authenticate(&house.admin_key()).await.unwrap())
    }

    /// Takes the database away from reads, as a server that went down would.
    pub async fn lose_database(&self) {
        match self.db.engine() {
            Engine::Sqlite(pool) => pool.close().await,
            Engine::Postgres(pool) => pool.close().await,
        }
    }

    /// One number from the database.
    pub async fn count(&self, sql: &str) -> i64 {
        on!(&self.db, |pool| sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(pool).await).unwrap()
    }

    /// Bytes from the database.
    pub async fn bytes(&self, sql: &'static str) -> Vec<u8> {
        on!(&self.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
    }

    /// Changes the database behind the service's back.
    pub async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.unwrap();
    }

    /// The same, where the database may refuse it.
    pub async fn try_execute(&self, sql: &str) -> Result<()> {
        let sql: Arc<str> = sql.into();
        let changed = self.db.write("change by a test", move |tx| {
            let sql = AssertSqlSafe(Arc::clone(&sql));
            Box::pin(async move {
                on!(tx, |executor| sqlx::query(sql).execute(executor).await.map(|_| ())).during("change")
            })
        });
        changed.await
    }

    pub async fn stop(self) {
        assert!(self.tasks.shutdown(Duration::from_secs(10)).await);
        assert!(self.writer.shutdown(Duration::from_secs(10)).await);
    }
}

/// A call by `principal`.
pub fn calling(principal: Principal) -> CallContext {
    CallContext {
        principal,
        request: RequestId(Uuid::new_v4()),
        trace: TraceContext::root(),
        deadline: Instant::now() + Duration::from_secs(60),
        unchanged_since: None,
    }
}

/// A live key that may do what is listed.
pub fn key(name: &str, permissions: &[&str]) -> NewKey {
    let permissions = permissions.iter().map(ToString::to_string).collect();
    NewKey {
        name: name.to_owned(),
        environment: Environment::Live,
        permissions,
        expires_at: None,
        terms: Terms::default(),
        canary: false,
        idempotency_key: None,
    }
}

/// Waits until `check` holds; fails after `within`.
pub async fn eventually<F: Future<Output = bool>>(within: Duration, mut check: impl FnMut() -> F) {
    let waiting = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(10));
        while !check().await {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(within, waiting).await.expect("it should have happened by now");
}

fn clock() -> Clock {
    Clock::manual(Timestamp::from_micros(1_763_629_200_000_000))
}

async fn execute(server: &PgConnectOptions, sql: String) {
    let mut connection = server.connect().await.unwrap();
    sqlx::query(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
}
