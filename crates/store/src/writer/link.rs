//! The writer's own connection: opened when needed, thrown away after a fault, because nobody knows its state then.

use std::time::{Duration, Instant};

use manifold_core::Error;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, PgConnection, SqliteConnection};
use tokio::time::timeout;
use tracing::warn;

use super::block::{Block, Cut, Failure};
use super::insert::{Frame, Statement, Statements, insert};
use crate::fault::Fault;
use crate::{Engine, Tx, on};

/// A transaction or a sync that takes longer has lost its database.
pub(super) const STUCK: Duration = Duration::from_secs(30);
/// A command that takes longer keeps others waiting.
const SLOW: Duration = Duration::from_millis(100);

pub(super) struct Link {
    options: Engine<SqliteConnectOptions, PgConnectOptions>,
    connection: Option<Engine<SqliteConnection, PgConnection>>,
    statements: Statements,
}

impl Link {
    pub(super) fn new(
        options: Engine<SqliteConnectOptions, PgConnectOptions>,
        connection: Option<Engine<SqliteConnection, PgConnection>>,
    ) -> Self {
        let statements = Statements::new(matches!(options, Engine::Postgres(_)));
        Self { options, connection, statements }
    }

    /// Writes the block in one transaction.
    pub(super) async fn attempt(&mut self, block: &mut Block) -> Result<(), Failure> {
        let whole = block.commands.is_empty() && matches!(self.options, Engine::Sqlite(_));
        let frame = if whole { Frame::Whole } else { Frame::Open };
        let encoded = self.statements.encode(&block.groups, frame);
        let rows = encoded.map_err(|source| Failure::of_statement(Cut::Rows, "encode rows", source))?;
        let outcome = timeout(STUCK, self.transaction(block, rows, frame)).await.unwrap_or_else(|_| {
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

    async fn transaction(&mut self, block: &mut Block, rows: Vec<Statement>, frame: Frame) -> Result<(), Failure> {
        let mut tx = connect(&self.options, &mut self.connection).await?;
        if frame == Frame::Whole {
            return insert_rows(&mut tx, rows).await;
        }
        let begin = if matches!(tx, Tx::Sqlite(_)) { "BEGIN IMMEDIATE" } else { "BEGIN" };
        control(&mut tx, begin).await.map_err(|source| Failure::fault("begin a transaction", source))?;
        run_commands(&mut tx, block).await?;
        insert_rows(&mut tx, rows).await?;
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

async fn insert_rows(tx: &mut Tx<'_>, rows: Vec<Statement>) -> Result<(), Failure> {
    insert(tx, rows).await.map_err(|source| Failure::of_statement(Cut::Rows, "insert rows", source))
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
