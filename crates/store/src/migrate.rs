//! Migrations: collected from the crates that own tables, run once per database, in order of their numbers.

use std::borrow::Cow;
use std::path::Path;

use manifold_core::{Error, Result};
use sqlx::migrate::{Migrate, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, SqliteConnection};

use crate::fault::{DatabaseError, Fault, SqlResultExt};
use crate::location::{self, Location};

/// The migrations of one crate. Numbers 0001 to 0099 belong to the bus, from 0100 on to the service.
#[derive(Debug)]
pub struct Migrations {
    /// `migrations/sqlite`.
    pub sqlite: Migrator,
    /// `migrations/postgres`.
    pub postgres: Migrator,
}

/// The migrations in `migrations/sqlite` and `migrations/postgres` of the calling crate, embedded.
#[macro_export]
macro_rules! migrations {
    () => {
        $crate::Migrations {
            sqlite: ::sqlx::migrate!("migrations/sqlite"),
            postgres: ::sqlx::migrate!("migrations/postgres"),
        }
    };
}

/// Puts the migrations of several crates into one run. Unknown applied ones are tolerated, so that the previous
/// version can still start during a rolling upgrade.
fn merge<'a>(parts: impl Iterator<Item = &'a Migrator>) -> Migrator {
    let mut all: Vec<_> = parts.flat_map(|part| part.iter().cloned()).collect();
    all.sort();
    Migrator { migrations: Cow::Owned(all), ignore_missing: true, ..Migrator::DEFAULT }
}

/// Runs what is missing in a SQLite file.
pub(crate) async fn run_sqlite(connection: &mut SqliteConnection, migrations: &[&Migrations]) -> Result<()> {
    let migrator = merge(migrations.iter().map(|part| &part.sqlite));
    migrator.run(connection).await.map_err(failed)
}

/// Creates the schema and runs what is missing in it.
pub(crate) async fn run_postgres(options: &PgConnectOptions, service: &str, migrations: &[&Migrations]) -> Result<()> {
    let mut connection = options.connect().await.during("connect to the database")?;
    run_in_schema(&mut connection, service, migrations).await?;
    // The lock goes with the connection.
    connection.close().await.during("close the connection")
}

/// The same on a connection whose search path is that schema; it may be in a transaction. A lock keeps other processes of
/// the service out until the connection is closed.
pub(crate) async fn run_in_schema(
    connection: &mut PgConnection,
    service: &str,
    migrations: &[&Migrations],
) -> Result<()> {
    let lock = sqlx::query("SELECT pg_advisory_lock(hashtext('manifold'), hashtext($1))").bind(service);
    lock.execute(&mut *connection).await.during("wait for migrations of other processes")?;
    let create = AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS {}", location::schema(service)));
    sqlx::query(create).execute(&mut *connection).await.during("create the schema")?;
    let mut migrator = merge(migrations.iter().map(|part| &part.postgres));
    migrator.set_locking(false);
    migrator.run(connection).await.map_err(failed)
}

/// Names of the migrations that `Db::open` would run.
pub(crate) async fn pending(location: &Location, service: &str, migrations: &[&Migrations]) -> Result<Vec<String>> {
    match location {
        Location::Sqlite { folder } => {
            let migrator = merge(migrations.iter().map(|part| &part.sqlite));
            let path = location::file(folder, service);
            let applied = if path.exists() { applied_sqlite(&path).await? } else { Vec::new() };
            Ok(missing(&migrator, &applied))
        }
        Location::Postgres { .. } => {
            let migrator = merge(migrations.iter().map(|part| &part.postgres));
            let applied = applied_postgres(&location.postgres(service)?, service).await?;
            Ok(missing(&migrator, &applied))
        }
    }
}

async fn applied_sqlite(path: &Path) -> Result<Vec<i64>> {
    let mut connection = location::sqlite_reader(path).connect().await.during("open the database")?;
    let table = "SELECT COUNT(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    let exists: i64 = sqlx::query_scalar(table).fetch_one(&mut connection).await.during("look for migrations")?;
    let applied = if exists == 0 { Vec::new() } else { applied(&mut connection).await? };
    connection.close().await.during("close the database")?;
    Ok(applied)
}

async fn applied_postgres(options: &PgConnectOptions, service: &str) -> Result<Vec<i64>> {
    let mut connection: PgConnection = options.connect().await.during("connect to the database")?;
    let table = "SELECT COUNT(*) FROM pg_tables WHERE schemaname = $1 AND tablename = '_sqlx_migrations'";
    let exists = sqlx::query_scalar::<_, i64>(table).bind(location::schema(service)).fetch_one(&mut connection).await;
    let applied =
        if exists.during("look for migrations")? == 0 { Vec::new() } else { applied(&mut connection).await? };
    connection.close().await.during("close the connection")?;
    Ok(applied)
}

async fn applied(connection: &mut impl Migrate) -> Result<Vec<i64>> {
    let applied = connection.list_applied_migrations("_sqlx_migrations").await.map_err(failed)?;
    Ok(applied.into_iter().map(|migration| migration.version).collect())
}

fn missing(migrator: &Migrator, applied: &[i64]) -> Vec<String> {
    let missing = migrator.iter().filter(|migration| !applied.contains(&migration.version));
    missing.map(|migration| format!("{:04} {}", migration.version, migration.description)).collect()
}

fn failed(source: sqlx::migrate::MigrateError) -> Error {
    let fault = match &source {
        sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _) => {
            error.fault()
        }
        _ => Fault::Data,
    };
    match fault {
        Fault::Data => Error::internal("run the migrations").because(source),
        fault => fault.error().because(source),
    }
}
