//! Where a service's database is and how it is opened.

use std::fs::{DirBuilder, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifold_core::{Error, Result, ResultExt, Secret};
use rusqlite::OpenFlags;
use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};

/// After how long the server ends a transaction of a process that stands still, so that others get at the rows it has locked.
const STILL: &str = "30s";

/// Pages in the log from which on a commit copies what the writer's log keeper has not copied yet.
const CHECKPOINT: u32 = 4096;

/// How long a statement waits for a lock that another process holds.
const BUSY: Duration = Duration::from_secs(5);
/// Prepared statements that a connection keeps.
const STATEMENTS: usize = 256;
/// Bytes per page of a new file. Batches of rows cost a tenth less CPU than with SQLite's default of 4096.
const PAGE: u32 = 8_192;

/// Where the databases of all services are.
#[derive(Clone, Debug)]
pub enum Location {
    /// One file per service, `<folder>/<service>.db`.
    Sqlite {
        /// The data folder.
        folder: PathBuf,
    },
    /// One schema per service; hyphens of its name become underscores.
    Postgres {
        /// `postgres://user:password@host:port/database`.
        url: Secret<String>,
    },
}

impl Location {
    /// From the setting `store.url`: empty means SQLite in the data folder.
    pub fn parse(url: &Secret<String>, data_dir: &Path) -> Result<Self> {
        let text = url.expose();
        if text.is_empty() {
            return Ok(Self::Sqlite { folder: data_dir.to_owned() });
        }
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return Err(
                Error::invalid("STORE_URL_INVALID", "must be empty for SQLite, or postgres://…").at("store.url")
            );
        }
        let location = Self::Postgres { url: url.clone() };
        location.postgres("check").map(|_| location)
    }

    /// How to connect to a service's schema.
    pub(crate) fn postgres(&self, service: &str) -> Result<PgConnectOptions> {
        let Self::Postgres { url } = self else {
            return Err(Error::internal("the database is not Postgres"));
        };
        let options = url.expose().parse::<PgConnectOptions>();
        let options = options.map_err(|source| {
            Error::invalid("STORE_URL_INVALID", "not a postgres:// URL that can be read")
                .at("store.url")
                .because(source)
        })?;
        let options = options
            .application_name(&format!("manifold-{service}"))
            .statement_cache_capacity(STATEMENTS)
            .options([("search_path", schema(service).as_str()), ("idle_in_transaction_session_timeout", STILL)]);
        Ok(options.disable_statement_logging())
    }
}

/// The schema of a service.
pub(crate) fn schema(service: &str) -> String {
    service.replace('-', "_")
}

/// The file of a service.
pub(crate) fn file(folder: &Path, service: &str) -> PathBuf {
    folder.join(format!("{service}.db"))
}

/// Creates the folder and the file if absent. Only the owner reads them; SQLite gives its side files the same mode.
pub(crate) fn create(folder: &Path, service: &str) -> Result<PathBuf> {
    let path = file(folder, service);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.or_err(manifold_core::Code::Unavailable, "create the data folder")?;
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let opened = opened.or_err(manifold_core::Code::Unavailable, "create the database file")?;
    let narrowed = opened.set_permissions(Permissions::from_mode(0o600));
    narrowed.or_err(manifold_core::Code::Unavailable, "protect the database file")?;
    Ok(path)
}

/// How readers open the file: they cannot write.
pub(crate) fn sqlite_reader(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(BUSY);
    options
        .foreign_keys(true)
        .pragma("query_only", "on")
        .thread_name(|_| "sqlite-reader".into())
        .disable_statement_logging()
}

/// How the writer opens the file. Its commits do not wait for the disk: the writer's log keeper syncs.
pub(crate) fn sqlite_writer(path: &Path) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(BUSY);
    let options = options
        .page_size(PAGE)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .foreign_keys(true);
    let options = options.pragma("wal_autocheckpoint", CHECKPOINT.to_string());
    options.statement_cache_capacity(STATEMENTS).thread_name(|_| "sqlite-writer".into()).disable_statement_logging()
}

/// Opens the file, which [`sqlite_writer`] made, for rows.
pub(crate) fn open_for_rows(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = rusqlite::Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let pragmas =
        format!("PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; PRAGMA wal_autocheckpoint = {CHECKPOINT}");
    connection.execute_batch(&pragmas)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_setting() {
        let folder = Path::new("/data");

        assert!(matches!(Location::parse(&Secret::from(""), folder), Ok(Location::Sqlite { .. })));
        let url = Secret::from("postgres://u:p@localhost/manifold");
        assert!(matches!(Location::parse(&url, folder), Ok(Location::Postgres { .. })));
        for wrong in ["mysql://localhost/x", "manifold.db", "postgres://[::bad"] {
            assert_eq!(
                Location::parse(&Secret::from(wrong), folder).unwrap_err().param(),
                Some("store.url"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn only_the_owner_reads_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        std::fs::write(data.join("ai.db"), b"").unwrap();

        let path = create(&data, "ai").unwrap();

        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
