//! Tells a database that is away, full or contended from a statement that is wrong.

use std::error::Error as StdError;
use std::time::Duration;

use manifold_core::{Code, Error, Result};

/// What kind of failure a database error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Locked, gone, unreachable or broken: nothing is wrong with the statement.
    Away,
    /// No space left.
    Full,
    /// Two transactions stood in each other's way; running it again helps.
    Contended,
    /// The statement or its data is wrong and stays wrong.
    Data,
}

impl Fault {
    /// Finds the database error below an error of ours; [`Fault::Data`] if there is none.
    pub(crate) fn within(error: &Error) -> Self {
        let mut next = StdError::source(error);
        while let Some(source) = next {
            if let Some(database) = source.downcast_ref::<sqlx::Error>() {
                return database.fault();
            }
            next = source.source();
        }
        Self::Data
    }

    /// What callers see.
    pub(crate) fn error(self) -> Error {
        let (reason, message) = match self {
            Self::Full => ("STORE_FULL", "the database has no space left"),
            Self::Away | Self::Contended | Self::Data => ("STORE_UNAVAILABLE", "the database is not available"),
        };
        Error::new(Code::Unavailable, reason, message).retry_after(Duration::from_secs(1))
    }
}

/// What a database, or a library on the way to it, reports.
pub(crate) trait DatabaseError: StdError + Send + Sync + 'static {
    fn fault(&self) -> Fault;
}

impl DatabaseError for sqlx::Error {
    fn fault(&self) -> Fault {
        match self {
            Self::Database(database) => {
                let code = database.code().unwrap_or_default();
                if database.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
                    sqlite(code.parse().unwrap_or_default())
                } else {
                    postgres(&code)
                }
            }
            Self::Io(_)
            | Self::Tls(_)
            | Self::Protocol(_)
            | Self::PoolTimedOut
            | Self::PoolClosed
            | Self::WorkerCrashed
            | Self::BeginFailed => Fault::Away,
            _ => Fault::Data,
        }
    }
}

impl DatabaseError for rusqlite::Error {
    fn fault(&self) -> Fault {
        self.sqlite_error().map_or(Fault::Data, |error| sqlite(error.extended_code))
    }
}

/// Result codes: <https://www.sqlite.org/rescode.html>. The low byte is the primary code.
fn sqlite(code: i32) -> Fault {
    match code & 0xff {
        // FULL
        13 => Fault::Full,
        // BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, CANTOPEN, PROTOCOL, NOTADB
        5..=11 | 14 | 15 | 26 => Fault::Away,
        _ => Fault::Data,
    }
}

/// SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>. Two letters are the class.
fn postgres(code: &str) -> Fault {
    match code {
        "53100" => Fault::Full,
        "40001" | "40P01" | "55P03" => Fault::Contended,
        // A read-only standby; a database that takes no connections; a statement cancelled by a time limit.
        "25006" | "55000" | "57014" => Fault::Away,
        // Connection, resources, operator intervention, system error, authorisation, no such database.
        _ if ["08", "53", "57", "58", "28", "3D"].iter().any(|class| code.starts_with(class)) => Fault::Away,
        _ => Fault::Data,
    }
}

/// Turns a command's error into "unavailable" when the database, and not the command, was at fault.
pub(crate) fn translate(error: Error) -> Error {
    match Fault::within(&error) {
        _ if error.code() == Code::Unavailable => error,
        Fault::Data => error,
        fault => fault.error().because(error),
    }
}

/// Gives context to errors of sqlx.
pub trait SqlResultExt<T> {
    /// Says what we tried. Unavailable if the database is away or full, else internal.
    fn during(self, message: &'static str) -> Result<T>;
}

impl<T> SqlResultExt<T> for Result<T, sqlx::Error> {
    fn during(self, message: &'static str) -> Result<T> {
        self.map_err(|source| match source.fault() {
            Fault::Data => Error::internal(message).because(source),
            fault => fault.error().because(Error::internal(message).because(source)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_a_locked_or_full_database_from_a_wrong_statement() {
        let cases = [(5, Fault::Away), (517, Fault::Away), (13, Fault::Full), (2067, Fault::Data), (1, Fault::Data)];
        for (code, fault) in cases {
            assert_eq!(sqlite(code), fault, "{code}");
        }
        let cases = [
            ("08006", Fault::Away),
            ("57P01", Fault::Away),
            ("53100", Fault::Full),
            ("40P01", Fault::Contended),
            ("23505", Fault::Data),
        ];
        for (code, fault) in cases {
            assert_eq!(postgres(code), fault, "{code}");
        }
    }

    #[test]
    fn finds_the_database_error_below_the_words_of_a_command() {
        let lost = Error::internal("create key").because(sqlx::Error::PoolTimedOut);

        let error = translate(lost);

        assert_eq!((error.code(), error.reason()), (Code::Unavailable, "STORE_UNAVAILABLE"));
        assert_eq!(translate(Error::not_found("KEY_NOT_FOUND", "no such key")).reason(), "KEY_NOT_FOUND");
    }
}
