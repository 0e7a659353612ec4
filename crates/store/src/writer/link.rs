//! The writer's own connection: opened when needed, thrown away after a fault, because nobody knows its state then. Rows
//! of SQLite have one more, which is quicker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use manifold_core::Error;
use sqlx::postgres::{PgArguments, PgConnectOptions};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, PgConnection, SqliteConnection};
use tokio::time::timeout;
use tracing::warn;

use super::block::{Block, Cut, Failure};
use super::direct::Direct;
use super::insert::{self, Texts, each_part};
use crate::fault::Fault;
use crate::{Engine, Group, Tx, Values, on};

/// A transaction or a sync that takes longer has lost its database.
pub(super) const STUCK: Duration = Duration::from_secs(30);
/// A command that takes longer keeps others waiting.
const SLOW: Duration = Duration::from_millis(100);

/// An INSERT of Postgres and its values.
type Encoded = (Arc<str>, PgArguments);

pub(super) struct Link {
    options: Engine<SqliteConnectOptions, PgConnectOptions>,
    connection: Option<Engine<SqliteConnection, PgConnection>>,
    /// Who writes rows into SQLite, or the INSERTs of Postgres.
    rows: Engine<Direct, Texts>,
}

impl Link {
    pub(super) fn new(
        options: Engine<SqliteConnectOptions, PgConnectOptions>,
        connection: Option<Engine<SqliteConnection, PgConnection>>,
    ) -> Self {
        let rows = match &options {
            Engine::Sqlite(options) => Engine::Sqlite(Direct::new(options.get_filename().to_owned())),
            Engine::Postgres(_) => Engine::Postgres(Texts::new(true)),
        };
        Self { options, connection, rows }
    }

    /// Whether the rows of a block and its commands must be written one after the other.
    pub(super) fn separates(&self, block: &Block) -> bool {
        matches!(self.rows, Engine::Sqlite(_)) && !block.commands.is_empty() && !block.groups.is_empty()
    }

    /// Writes the block in one transaction.
    pub(super) async fn attempt(&mut self, block: &mut Block) -> Result<(), Failure> {
        if let Engine::Sqlite(direct) = &mut self.rows
            && block.commands.is_empty()
        {
            let (groups, outcome) = direct.write(std::mem::take(&mut block.groups)).await;
            block.groups = groups;
            return outcome;
        }
        let encoded = self.encode(&block.groups);
        let rows = encoded.map_err(|source| Failure::of_statement(Cut::Rows, "encode rows", source))?;
        let outcome = timeout(STUCK, self.transaction(block, rows)).await.unwrap_or_else(|_| {
            let error = Error::internal("the database did not finish a transaction in time");
            Err(Failure::Fault { fault: Fault::Away, error })
        });
        match &outcome {
            Ok(()) => {}
            Err(Failure::Refused { .. }) if self.roll_back().await => {}
            Err(_) => self.connection = None,
        }
        outcome
    }

    fn encode(&mut self, groups: &[Group]) -> Result<Vec<Encoded>, sqlx::Error> {
        let mut encoded = Vec::new();
        let Engine::Postgres(texts) = &mut self.rows else { return Ok(encoded) };
        each_part(groups, |part| {
            let mut arguments = PgArguments::default();
            arguments.reserve(insert::n_values(part), 8 * insert::n_values(part));
            insert::bind(part, Values::new(Engine::Postgres(&mut arguments)))?;
            insert::complete(part, arguments.len())?;
            encoded.push((texts.of(part), arguments));
            Ok(())
        })
        .map_err(sqlx::Error::Encode)?;
        Ok(encoded)
    }

    async fn transaction(&mut self, block: &mut Block, rows: Vec<Encoded>) -> Result<(), Failure> {
        let mut tx = connect(&self.options, &mut self.connection).await?;
        let begin = if matches!(tx, Tx::Sqlite(_)) { "BEGIN IMMEDIATE" } else { "BEGIN" };
        control(&mut tx, begin).await.map_err(|source| Failure::fault("begin a transaction", source))?;
        run_commands(&mut tx, block).await?;
        let inserted = insert_rows(&mut tx, rows).await;
        inserted.map_err(|source| Failure::of_statement(Cut::Rows, "insert rows", source))?;
        let committed = control(&mut tx, "COMMIT").await;
        committed.map_err(|source| Failure::of_statement(Cut::Anywhere, "commit", source))
    }

    /// Whether the connection stands where it stood before the transaction.
    async fn roll_back(&mut self) -> bool {
        match connect(&self.options, &mut self.connection).await {
            Ok(mut tx) => matches!(timeout(STUCK, control(&mut tx, "ROLLBACK")).await, Ok(Ok(()))),
            Err(_) => false,
        }
    }
}

async fn run_commands(tx: &mut Tx<'_>, block: &mut Block) -> Result<(), Failure> {
    for (index, job) in block.commands.iter_mut().enumerate() {
        let begun = Instant::now();
        let outcome = job.run(tx).await;
        if begun.elapsed() > SLOW {
            let milliseconds = begun.elapsed().as_millis() as u64;
            warn!(command = job.name(), milliseconds, "slow command keeps the writer from other work");
        }
        outcome.map_err(|error| Failure::of_command(index, error))?;
    }
    Ok(())
}

async fn insert_rows(tx: &mut Tx<'_>, rows: Vec<Encoded>) -> Result<(), sqlx::Error> {
    let Tx::Postgres(connection) = tx else { return Ok(()) };
    for (text, arguments) in rows {
        sqlx::query_with(AssertSqlSafe(text), arguments).execute(&mut **connection).await?;
    }
    Ok(())
}

async fn control(tx: &mut Tx<'_>, statement: &'static str) -> Result<(), sqlx::Error> {
    on!(tx, |executor| sqlx::query(statement).execute(executor).await.map(|_| ()))
}

async fn connect<'c>(
    options: &Engine<SqliteConnectOptions, PgConnectOptions>,
    connection: &'c mut Option<Engine<SqliteConnection, PgConnection>>,
) -> Result<Tx<'c>, Failure> {
    if connection.is_none() {
        let opened = match options {
            Engine::Sqlite(options) => options.connect().await.map(Engine::Sqlite),
            Engine::Postgres(options) => options.connect().await.map(Engine::Postgres),
        };
        *connection = Some(opened.map_err(|source| Failure::fault("connect to the database", source))?);
    }
    match connection.as_mut().expect("opened above") {
        Engine::Sqlite(connection) => Ok(Tx::Sqlite(connection)),
        Engine::Postgres(connection) => Ok(Tx::Postgres(connection)),
    }
}
