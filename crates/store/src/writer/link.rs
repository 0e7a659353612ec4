//! The writer's own connection: opened when needed, thrown away after a fault, because nobody knows its state then.

use std::time::{Duration, Instant};

use manifold_core::Error;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, PgConnection, SqliteConnection};
use tokio::time::timeout;
use tracing::warn;

use super::block::{Block, Cut, Failure};
use super::insert::{Statements, insert};
use crate::fault::Fault;
use crate::{Engine, Tx, on};

/// A transaction that takes longer has lost its database.
const STUCK: Duration = Duration::from_secs(30);
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
        let outcome = timeout(STUCK, self.transaction(block)).await.unwrap_or_else(|_| {
            let error = Error::internal("the database did not finish a transaction in time");
            Err(Failure::Fault { fault: Fault::Away, error })
        });
        if matches!(outcome, Err(Failure::Fault { .. })) {
            self.connection = None;
        }
        outcome
    }

    async fn transaction(&mut self, block: &mut Block) -> Result<(), Failure> {
        let mut tx = connect(&self.options, &mut self.connection).await?;
        let begin = if matches!(tx, Tx::Sqlite(_)) { "BEGIN IMMEDIATE" } else { "BEGIN" };
        control(&mut tx, begin).await.map_err(|source| Failure::fault("begin a transaction", source))?;
        let outcome = body(&mut tx, &mut self.statements, block).await;
        if matches!(outcome, Err(Failure::Refused { .. })) {
            let undone = control(&mut tx, "ROLLBACK").await;
            undone.map_err(|source| Failure::fault("roll a transaction back", source))?;
        }
        outcome
    }
}

/// Everything between BEGIN and the end of COMMIT.
async fn body(tx: &mut Tx<'_>, statements: &mut Statements, block: &mut Block) -> Result<(), Failure> {
    for (index, job) in block.commands.iter_mut().enumerate() {
        let begun = Instant::now();
        let outcome = job.run(tx).await;
        if begun.elapsed() > SLOW {
            let milliseconds = begun.elapsed().as_millis() as u64;
            warn!(command = job.name(), milliseconds, "slow command keeps the writer from other work");
        }
        outcome.map_err(|error| Failure::of_command(index, error))?;
    }
    let inserted = insert(tx, statements, &block.groups).await;
    inserted.map_err(|source| Failure::of_statement(Cut::Rows, "insert rows", source))?;
    let committed = control(tx, "COMMIT").await;
    committed.map_err(|source| Failure::of_statement(Cut::Anywhere, "commit", source))
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
