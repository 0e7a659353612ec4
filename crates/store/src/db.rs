//! A service's database: opening it, reading from it, commands, rows.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use manifold_core::Result;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::{ConnectOptions, PgPool, SqlitePool};
use tokio::time::timeout;

use crate::fault::{self, DatabaseError, Fault, SqlResultExt};
use crate::location::{self, Location};
use crate::queue::{Piece, Queue, Rows};
use crate::transfer::marker;
use crate::writer::{Writer, WriterConfig};
use crate::{Engine, Migrations, Tx, command, migrate, on};

/// How long a statement waits for a free connection.
const ACQUIRE: Duration = Duration::from_secs(5);
/// A database that does not answer the simplest question within this time is away.
const PING: Duration = Duration::from_secs(2);

/// A service's database. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Db {
    /// One file, one writer, several readers.
    Sqlite(SqliteDb),
    /// One schema.
    Postgres(PostgresDb),
}

/// A SQLite file.
#[derive(Clone, Debug)]
pub struct SqliteDb {
    readers: SqlitePool,
    rows: Rows,
}

/// A Postgres schema.
#[derive(Clone, Debug)]
pub struct PostgresDb {
    pool: PgPool,
    rows: Rows,
}

impl Db {
    /// Opens the database of `service` after running what is missing of `migrations`. Refuses SQLite files that were moved.
    /// The caller spawns [`Writer::run`]: until then no row and, on SQLite, no command is written.
    pub async fn open(
        location: &Location,
        service: &'static str,
        migrations: &[&Migrations],
        config: &WriterConfig,
    ) -> Result<(Self, Writer)> {
        let queue = Arc::new(Queue::new(service, config.max_queue, config.batch));
        match location {
            Location::Sqlite { folder } => {
                marker::check(folder)?;
                let path = location::create(folder, service)?;
                open_sqlite(&path, queue, migrations, config).await
            }
            Location::Postgres { .. } => open_postgres(location.postgres(service)?, queue, migrations, config).await,
        }
    }

    /// The database of a service that runs in another process, on the same Postgres server: it is neither made nor
    /// changed here, and need not be there yet. Its rows are not taken. None on SQLite, whose files have one process.
    pub fn elsewhere(location: &Location, service: &'static str) -> Result<Option<Self>> {
        let Location::Postgres { .. } = location else { return Ok(None) };
        let pool = PgPoolOptions::new().max_connections(2).acquire_timeout(ACQUIRE);
        let pool = pool.connect_lazy_with(location.postgres(service)?);
        let queue = Queue::new(service, 0, 1);
        Ok(Some(Self::Postgres(PostgresDb { pool, rows: Rows(Arc::new(queue)) })))
    }

    /// Names of the migrations that [`Db::open`] would run. Changes nothing.
    pub async fn pending(
        location: &Location,
        service: &'static str,
        migrations: &[&Migrations],
    ) -> Result<Vec<String>> {
        if let Location::Sqlite { folder } = location {
            marker::check(folder)?;
        }
        migrate::pending(location, service, migrations).await
    }

    /// The readers, for [`on!`](crate::on).
    pub fn engine(&self) -> Engine<&SqlitePool, &PgPool> {
        match self {
            Self::Sqlite(db) => Engine::Sqlite(&db.readers),
            Self::Postgres(db) => Engine::Postgres(&db.pool),
        }
    }

    /// Runs a command: SQL on the given transaction and nothing else. It may run more than once; only the last run
    /// takes effect. On SQLite the writer runs it together with other work, on Postgres it has its own transaction.
    pub async fn write<T, F>(&self, name: &'static str, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
    {
        match self {
            Self::Sqlite(db) => enqueue(&db.rows.0, name, true, command).await,
            Self::Postgres(db) => db.transact(&command).await,
        }
    }

    /// [`Db::write`] for work that is done again if a power cut undoes it: on SQLite its success is told before the disk
    /// has it.
    pub async fn write_repeatable<T, F>(&self, name: &'static str, command: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
    {
        match self {
            Self::Sqlite(db) => enqueue(&db.rows.0, name, false, command).await,
            Self::Postgres(db) => db.transact(&command).await,
        }
    }

    /// Where hot rows are pushed.
    pub fn rows(&self) -> &Rows {
        match self {
            Self::Sqlite(db) => &db.rows,
            Self::Postgres(db) => &db.rows,
        }
    }

    /// Whether the database answers, known after two seconds at the latest.
    pub async fn ping(&self) -> Result<()> {
        let asked = async { on!(self, |pool| sqlx::query("SELECT 1").execute(pool).await.map(|_| ())) };
        let answer = timeout(PING, asked).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        answer.map_err(|source| source.fault().error().because(source))
    }
}

impl PostgresDb {
    async fn transact<T, F>(&self, command: &F) -> Result<T>
    where
        F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>>,
    {
        let outcome = transact(&self.pool, command).await;
        // For those who wait for the next commit.
        self.rows.0.finished(0);
        outcome
    }
}

async fn open_sqlite(
    path: &Path,
    queue: Arc<Queue>,
    migrations: &[&Migrations],
    config: &WriterConfig,
) -> Result<(Db, Writer)> {
    let options = location::sqlite_writer(path);
    let mut connection = options.connect().await.during("open the database")?;
    migrate::run_sqlite(&mut connection, migrations).await?;
    let pool = SqlitePoolOptions::new().max_connections(config.connections).acquire_timeout(ACQUIRE);
    let pool = pool.test_before_acquire(false).connect_with(location::sqlite_reader(path)).await;
    let db = SqliteDb { readers: pool.during("open the database")?, rows: Rows(queue.clone()) };
    let writer = Writer::new(queue, Engine::Sqlite(options), Some(Engine::Sqlite(connection)), config.clone());
    Ok((Db::Sqlite(db), writer))
}

async fn open_postgres(
    options: PgConnectOptions,
    queue: Arc<Queue>,
    migrations: &[&Migrations],
    config: &WriterConfig,
) -> Result<(Db, Writer)> {
    migrate::run_postgres(&options, queue.service, migrations).await?;
    let pool = PgPoolOptions::new().max_connections(config.connections).acquire_timeout(ACQUIRE);
    let pool = pool.connect_with(options.clone()).await.during("connect to the database")?;
    let db = PostgresDb { pool, rows: Rows(queue.clone()) };
    Ok((Db::Postgres(db), Writer::new(queue, Engine::Postgres(options), None, config.clone())))
}

/// Lets the writer run it.
async fn enqueue<T, F>(queue: &Queue, name: &'static str, lasts: bool, command: F) -> Result<T>
where
    T: Send + 'static,
    F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
{
    let (job, answer) = command::job(name, lasts, command);
    if queue.push(Piece::Command(job)).is_err() {
        return Err(Fault::Away.error());
    }
    answer.await.unwrap_or_else(|_| Err(Fault::Away.error()))
}

/// Runs it in a transaction of its own, and again if another transaction stood in its way.
async fn transact<T, F>(pool: &PgPool, command: &F) -> Result<T>
where
    F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>>,
{
    const TRIES: u32 = 3;
    let mut tries = 1;
    loop {
        match transact_once(pool, command).await {
            Err(error) if tries < TRIES && Fault::within(&error) == Fault::Contended => tries += 1,
            outcome => return outcome.map_err(fault::translate),
        }
    }
}

async fn transact_once<T, F>(pool: &PgPool, command: &F) -> Result<T>
where
    F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>>,
{
    let mut transaction = pool.begin().await.during("begin a transaction")?;
    // Dropping the transaction rolls it back.
    let value = command::caught(async { command(&mut Tx::Postgres(&mut transaction)).await }).await?;
    transaction.commit().await.during("commit a transaction")?;
    Ok(value)
}
