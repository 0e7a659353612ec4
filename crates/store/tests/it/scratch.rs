//! A database of its own for each test, gone when the test ends. Other crates include this file by its path.

use manifold_core::Secret;
use manifold_store::Location;
use sqlx::{AssertSqlSafe, ConnectOptions, postgres::PgConnectOptions};
use tempfile::TempDir;

/// An empty database.
pub struct Scratch {
    location: Location,
    _folder: Option<TempDir>,
    postgres: Option<(PgConnectOptions, String)>,
}

impl Scratch {
    /// A folder for SQLite files.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let location = Location::Sqlite { folder: folder.path().to_owned() };
        Self { location, _folder: Some(folder), postgres: None }
    }

    /// A database on the server that `MANIFOLD_TEST_POSTGRES` names, as a superuser.
    pub async fn postgres() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the one setting of the tests")]
        let server = std::env::var("MANIFOLD_TEST_POSTGRES")
            .expect("MANIFOLD_TEST_POSTGRES is not set: run `make test`, which starts a Postgres server for the tests");
        let options: PgConnectOptions = server.parse().expect("MANIFOLD_TEST_POSTGRES is a postgres:// URL");
        let name = format!("manifold_test_{}", uuid::Uuid::new_v4().simple());
        run(&options, format!("CREATE DATABASE {name}")).await;
        let (base, _) = server.rsplit_once('/').expect("MANIFOLD_TEST_POSTGRES names a database");
        let location = Location::Postgres { url: Secret::new(format!("{base}/{name}")) };
        Self { location, _folder: None, postgres: Some((options, name)) }
    }

    /// For `Db::open`.
    pub fn location(&self) -> &Location {
        &self.location
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some((options, name)) = self.postgres.take() else { return };
        let drop = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
            runtime.block_on(run(&options, format!("DROP DATABASE {name} WITH (FORCE)")));
        };
        std::thread::spawn(drop).join().expect("the database of the test is dropped");
    }
}

async fn run(server: &PgConnectOptions, statement: String) {
    let mut connection = server.connect().await.expect("the Postgres server of the tests answers");
    sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await.expect("the superuser may do it");
}
