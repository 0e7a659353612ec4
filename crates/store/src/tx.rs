//! What statements run on: the readers of a [`Db`](crate::Db) or the transaction of a command, on either engine.

use sqlx::{PgConnection, SqliteConnection};

/// One thing per engine.
#[derive(Debug)]
pub enum Engine<S, P> {
    /// Of SQLite.
    Sqlite(S),
    /// Of Postgres.
    Postgres(P),
}

/// An open transaction, given to commands. Use it with [`on!`](crate::on).
#[derive(Debug)]
pub enum Tx<'c> {
    /// On SQLite.
    Sqlite(&'c mut SqliteConnection),
    /// On Postgres.
    Postgres(&'c mut PgConnection),
}

impl Tx<'_> {
    /// The connection, for [`on!`](crate::on).
    pub fn engine(&mut self) -> Engine<&mut SqliteConnection, &mut PgConnection> {
        match self {
            Self::Sqlite(connection) => Engine::Sqlite(connection),
            Self::Postgres(connection) => Engine::Postgres(connection),
        }
    }
}

/// Expands one body for both engines: `on!(db, |executor| sqlx::query("…").execute(executor).await)`.
/// On a [`Db`](crate::Db) the executor is the pool of readers, on a [`Tx`] it is the open transaction.
#[macro_export]
macro_rules! on {
    ($target:expr, |$executor:ident| $body:expr) => {
        match ($target).engine() {
            $crate::Engine::Sqlite($executor) => $body,
            $crate::Engine::Postgres($executor) => $body,
        }
    };
}
