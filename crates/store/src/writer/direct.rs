//! Rows straight into SQLite: a transaction is one piece of work on a thread that may block, and the values go from the
//! rows into the statements without a copy in between.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use manifold_core::Error;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Statement};
use sqlx::error::BoxDynError;
use tokio::task::spawn_blocking;

use super::block::{Cut, Failure};
use super::insert::{self, Part, Texts, each_part};
use crate::fault::Fault;
use crate::location;
use crate::values::Bind;
use crate::{Engine, Group, Values};

/// The file, and the connection to it while it works.
pub(super) struct Direct {
    path: PathBuf,
    /// Never locked: it makes shareable what only one may use at a time.
    session: Mutex<Option<Session>>,
}

struct Session {
    connection: Connection,
    texts: Texts,
}

impl Direct {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, session: Mutex::default() }
    }

    fn session(&mut self) -> &mut Option<Session> {
        self.session.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all rows in one transaction, and gives the groups back.
    pub(super) async fn write(&mut self, groups: Vec<Group>) -> (Vec<Group>, Result<(), Failure>) {
        let mut session = self.session().take();
        let path = self.path.clone();
        let work = spawn_blocking(move || {
            let outcome = attempt(&path, &mut session, &groups);
            (session, groups, outcome)
        });
        match work.await {
            Ok((session, groups, outcome)) => {
                *self.session() = session;
                (groups, outcome)
            }
            Err(ended) => {
                let error = Error::internal("the process ends").because(ended);
                (Vec::new(), Err(Failure::Fault { fault: Fault::Away, error }))
            }
        }
    }
}

/// Nobody knows the state of a connection after a fault: it is thrown away.
fn attempt(path: &Path, session: &mut Option<Session>, groups: &[Group]) -> Result<(), Failure> {
    let mut open = match session.take() {
        Some(open) => open,
        None => Session::open(path).map_err(|source| Failure::fault("open the database", source))?,
    };
    let outcome = open.transaction(groups);
    let stands = match &outcome {
        Ok(()) => true,
        Err(Failure::Refused { .. }) => open.run("ROLLBACK").is_ok(),
        Err(_) => false,
    };
    *session = stands.then_some(open);
    outcome
}

impl Session {
    fn open(path: &Path) -> rusqlite::Result<Self> {
        Ok(Self { connection: location::open_for_rows(path)?, texts: Texts::new(false) })
    }

    fn transaction(&mut self, groups: &[Group]) -> Result<(), Failure> {
        self.run("BEGIN IMMEDIATE").map_err(|source| Failure::fault("begin a transaction", source))?;
        let inserted = each_part(groups, |part| self.insert(part));
        inserted.map_err(|source| Failure::of_statement(Cut::Rows, "insert rows", source))?;
        self.run("COMMIT").map_err(|source| Failure::of_statement(Cut::Rows, "commit", source))
    }

    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.raw_execute().map(|_| ())
    }

    fn insert(&mut self, part: Part<'_, '_>) -> rusqlite::Result<()> {
        let wrong = |error: BoxDynError| rusqlite::Error::ToSqlConversionFailure(error);
        let mut statement = self.connection.prepare_cached(&self.texts.of(part))?;
        let mut binder = Binder { statement: &mut statement, n_bound: 0 };
        insert::bind(part, Values::new(Engine::Sqlite(&mut binder))).map_err(wrong)?;
        insert::complete(part, binder.n_bound).map_err(wrong)?;
        statement.raw_execute().map(|_| ())
    }
}

struct Binder<'s, 'c> {
    statement: &'s mut Statement<'c>,
    n_bound: usize,
}

impl Bind for Binder<'_, '_> {
    fn next(&mut self, value: ValueRef<'_>) -> rusqlite::Result<()> {
        self.n_bound += 1;
        self.statement.raw_bind_parameter(self.n_bound, ToSqlOutput::Borrowed(value))
    }
}
