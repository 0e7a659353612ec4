//! Moves the SQLite files of an installation into the schemas of one Postgres database. The move is one transaction over
//! all services: when it ends everything is there, and until then nothing, however it is interrupted. The files stay as
//! they are; a marker beside them keeps the next start from writing into them.

mod line;
pub(crate) mod marker;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use manifold_core::{Code, Error, Result};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Postgres, SqliteConnection, Transaction};
use uuid::Uuid;

use crate::fault::SqlResultExt;
use crate::location::{self, Location};
use crate::{Migrations, Tx, migrate};
use marker::Stamp;
pub use table::Table;

/// How long to wait for a connection.
const ACQUIRE: Duration = Duration::from_secs(5);
/// Bytes that are sent at a time: no more than this, one row and what waits in the reader's channel is in memory.
const CHUNK: usize = 256 * 1024;

/// A move that is under way. Dropping it leaves the target as it was.
pub struct Transfer {
    folder: PathBuf,
    stamp: Stamp,
    /// Files of the services that are planned. Nobody else writes into them meanwhile.
    sources: BTreeMap<&'static str, SqliteConnection>,
    target: Transaction<'static, Postgres>,
}

impl Transfer {
    /// Opens the way from the files of `folder` to the database `to`; `id` is that of this move. None if a move of these
    /// files into this database has ended before. Refuses files that were moved to another database.
    pub async fn begin(folder: &Path, to: &Location, id: Uuid) -> Result<Option<Self>> {
        let options = to.postgres("move")?;
        let stamp = Stamp { place: place(&options), id };
        let before = marker::read(folder)?;
        if let Some(before) = before.as_ref().filter(|before| before.place != stamp.place) {
            return Err(marker::refusal(folder, before));
        }
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE).connect_with(options).await;
        let mut target = pool.during("connect to the database")?.begin().await.during("begin a transaction")?;
        // The lock keeps other moves out, also one that was killed and whose commit is still running.
        let begin = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
                     SELECT pg_advisory_xact_lock(hashtext('manifold'), hashtext('move'))";
        sqlx::raw_sql(begin).execute(&mut *target).await.during("wait for other moves")?;
        if let Some(before) = before
            && table::is_stamped(&mut target, &before.to_string()).await?
        {
            return Ok(None);
        }
        Ok(Some(Self { folder: folder.to_owned(), stamp, sources: BTreeMap::new(), target }))
    }

    /// The address of the target, without a password.
    pub fn place(&self) -> &str {
        &self.stamp.place
    }

    /// Makes the tables of `service` and looks at both sides. What [`Transfer::copy`] will copy, in this order.
    /// Refuses tables that differ, and a table of the target that holds rows which its migrations did not put there.
    pub async fn plan(&mut self, service: &'static str, migrations: &[&Migrations]) -> Result<Vec<Table>> {
        let files = Location::Sqlite { folder: self.folder.clone() };
        if !migrate::pending(&files, service, migrations).await?.is_empty() {
            let message = format!("the database of {service} lacks tables of this version: run `manifold db migrate`");
            return Err(refused(message));
        }
        let file = location::file(&self.folder, service);
        let mut source = location::sqlite_writer(&file).connect().await.during("open the database")?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut source).await.during("keep others from the database")?;
        self.enter(service).await?;
        migrate::run_in_schema(&mut self.target, service, migrations).await?;
        let mut tables = table::compare(&mut source, &mut self.target, service).await?;
        table::lock(&mut self.target, &tables).await?;
        let mut fresh = SqliteConnection::connect("sqlite::memory:").await.during("open a database in memory")?;
        migrate::run_sqlite(&mut fresh, migrations).await?;
        for table in &mut tables {
            table.count(&mut source, &mut fresh).await?;
            table.refuse_rows(&mut self.target).await?;
        }
        self.sources.insert(service, source);
        Ok(tables)
    }

    /// Copies the rows of a table, counts them on the other side, and lets its sequence go on behind them.
    pub async fn copy(&mut self, table: &Table) -> Result<()> {
        let Some(source) = self.sources.get_mut(table.service) else {
            return Err(Error::internal("a table that is not planned"));
        };
        let failed = |source: sqlx::Error| refused(format!("{table} cannot be copied")).because(source);
        table.clear(&mut self.target).await.map_err(failed)?;
        let n_copied = pour(source, &mut self.target, table).await?;
        let n_found = table.count_target(&mut self.target).await.map_err(failed)?;
        if (n_copied, n_found) != (table.n_rows.unsigned_abs(), table.n_rows) {
            return Err(refused(format!("{table} has {} rows, {n_found} of them arrived", table.n_rows)));
        }
        table.set_sequence(source, &mut self.target).await.map_err(failed)
    }

    /// The transaction, in the schema of `service`.
    pub async fn within(&mut self, service: &str) -> Result<Tx<'_>> {
        self.enter(service).await?;
        Ok(Tx::Postgres(&mut self.target))
    }

    /// Makes it last. From the marker on no start takes the files any more, so nothing is written that one side lacks.
    /// If the answer gets lost, the same move begun again finds out what became of this one.
    pub async fn commit(mut self) -> Result<()> {
        for service in self.sources.keys() {
            table::stamp(&mut self.target, service, &self.stamp.to_string()).await?;
        }
        marker::write(&self.folder, &self.stamp)?;
        self.target.commit().await.map_err(|source| {
            let message = "nobody knows whether the move ended: run the same command again, it finds out";
            Error::new(Code::Unavailable, "STORE_UNAVAILABLE", message).because(source)
        })
    }

    async fn enter(&mut self, service: &str) -> Result<()> {
        let enter = format!("SET LOCAL search_path = {}", location::schema(service));
        sqlx::raw_sql(AssertSqlSafe(enter)).execute(&mut *self.target).await.during("enter the schema").map(|_| ())
    }
}

/// Sends the rows of a table as they come.
async fn pour(source: &mut SqliteConnection, target: &mut sqlx::PgConnection, table: &Table) -> Result<u64> {
    let failed = |source: sqlx::Error| refused(format!("{table} cannot be copied")).because(source);
    let (select, copy) = (table.select(), table.copy());
    let mut rows = sqlx::query(AssertSqlSafe(select)).fetch(source);
    let mut copy = target.copy_in_raw(&copy).await.map_err(failed)?;
    let mut chunk = Vec::with_capacity(CHUNK);
    while let Some(row) = rows.try_next().await.map_err(failed)? {
        line::push(&mut chunk, &row, table.columns())
            .map_err(|column| refused(format!("{table} cannot be copied: a value of {column}")))?;
        if chunk.len() >= CHUNK {
            copy.send(chunk.as_slice()).await.map_err(failed)?;
            chunk.clear();
        }
    }
    copy.send(chunk.as_slice()).await.map_err(failed)?;
    copy.finish().await.map_err(failed)
}

fn place(options: &PgConnectOptions) -> String {
    let (user, host, port) = (options.get_username(), options.get_host(), options.get_port());
    format!("postgres://{user}@{host}:{port}/{}", options.get_database().unwrap_or(user))
}

fn refused(message: String) -> Error {
    Error::new(Code::Precondition, "FAILED_PRECONDITION", message)
}
