//! The move from SQLite to Postgres: what arrives, what is refused, and what an interruption leaves.

use std::borrow::Cow;
use std::path::Path;

use manifold_core::Result;
use manifold_store::{Db, Location, Migrations, Table, Transfer, WriterConfig};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, PgConnection, SqlSafeStr, SqliteConnection};
use uuid::Uuid;

use crate::scratch::Scratch;

const SQLITE: &str = "
    CREATE TABLE owner (id BLOB NOT NULL PRIMARY KEY, head INTEGER NOT NULL);
    INSERT INTO owner (id, head) VALUES (x'00000000000000000000000000000001', 0);
    CREATE TABLE everything (
        id BLOB, bytes BLOB, text TEXT, json TEXT, number BIGINT, small INTEGER, real DOUBLE, flag BOOLEAN,
        \"order\" INTEGER PRIMARY KEY AUTOINCREMENT, owner BLOB REFERENCES owner (id)
    );";
const POSTGRES: &str = "
    CREATE TABLE owner (id UUID NOT NULL PRIMARY KEY, head BIGINT NOT NULL);
    INSERT INTO owner (id, head) VALUES ('00000000-0000-0000-0000-000000000001', 0);
    CREATE TABLE everything (
        \"order\" BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id UUID, bytes BYTEA, text TEXT, json JSONB,
        number BIGINT, small INTEGER, real DOUBLE PRECISION, flag BOOLEAN,
        owner UUID REFERENCES owner (id), xid XID8 NOT NULL DEFAULT pg_current_xact_id()
    );";

/// A file, an empty database, and the tables that both shall have.
struct Pair {
    files: Scratch,
    server: Scratch,
    migrations: Migrations,
}

fn migrator(sql: &'static str) -> Migrator {
    let migration = Migration::new(100, "create".into(), MigrationType::Simple, sql.into_sql_str(), false);
    Migrator { migrations: Cow::Owned(vec![migration]), ..Migrator::DEFAULT }
}

impl Pair {
    async fn new(sqlite: &'static str, postgres: &'static str) -> Self {
        let (files, server) = (Scratch::sqlite(), Scratch::postgres().await);
        let migrations = Migrations { sqlite: migrator(sqlite), postgres: migrator(postgres) };
        Db::open(files.location(), "test-move", &[&migrations], &WriterConfig::default()).await.unwrap();
        Self { files, server, migrations }
    }

    /// With these statements executed on the file.
    async fn with(sql: &'static str) -> Self {
        let pair = Self::new(SQLITE, POSTGRES).await;
        pair.file().await.execute(sql).await.unwrap();
        pair
    }

    fn folder(&self) -> &Path {
        let Location::Sqlite { folder } = self.files.location() else { unreachable!() };
        folder
    }

    async fn file(&self) -> SqliteConnection {
        SqliteConnectOptions::new().filename(self.folder().join("test-move.db")).connect().await.unwrap()
    }

    async fn schema(&self) -> PgConnection {
        let Location::Postgres { url } = self.server.location() else { unreachable!() };
        let options: PgConnectOptions = url.expose().parse().unwrap();
        options.options([("search_path", "test_move")]).connect().await.unwrap()
    }

    async fn is_untouched(&self) -> bool {
        let sql = "SELECT to_regnamespace('test_move') IS NULL";
        sqlx::query_scalar(sql).fetch_one(&mut self.schema().await).await.unwrap()
    }

    async fn begin(&self) -> Transfer {
        Transfer::begin(self.folder(), self.server.location(), Uuid::new_v4()).await.unwrap().unwrap()
    }

    async fn plan(&self) -> Result<Vec<Table>> {
        self.begin().await.plan("test-move", &[&self.migrations]).await
    }

    async fn run(&self) -> Result<Vec<Table>> {
        let mut transfer = self.begin().await;
        let tables = transfer.plan("test-move", &[&self.migrations]).await?;
        for table in &tables {
            transfer.copy(table).await?;
        }
        transfer.commit().await?;
        Ok(tables)
    }

    async fn count(&self) -> (i64, i64) {
        let sql = "SELECT (SELECT COUNT(*) FROM owner), (SELECT COUNT(*) FROM everything)";
        sqlx::query_as(sql).fetch_one(&mut self.schema().await).await.unwrap()
    }
}

type Everything = (
    Option<Uuid>,
    Option<Vec<u8>>,
    Option<String>,
    Option<String>,
    Option<i64>,
    Option<i32>,
    Option<f64>,
    Option<bool>,
    i64,
    Option<Uuid>,
);

#[tokio::test]
async fn every_type_arrives_as_it_was() {
    let pair = Pair::new(SQLITE, POSTGRES).await;
    let texts = ["", "\\N", "tab\there\nand \r\\n there", "naïve \u{1f980}", "\\.", "'\"`"];
    let reals = [0.1, -0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, f64::INFINITY];
    let numbers = [i64::MIN, i64::MAX, 0, -1, 1, 42];
    let mut file = pair.file().await;
    for (index, text) in texts.iter().enumerate() {
        let insert = "INSERT INTO everything (id, bytes, text, json, number, small, real, flag, owner) \
                      VALUES ($1, $2, $3, $4, $5, $6, $7, $8, x'00000000000000000000000000000001')";
        let bytes: Vec<u8> = if index == 0 { Vec::new() } else { (0..=255).collect() };
        let json = serde_json::json!({"key": text, "n": [1, null, true]}).to_string();
        let insert = sqlx::query(insert).bind(Uuid::from_u128(u128::MAX - index as u128)).bind(bytes).bind(text);
        let insert = insert.bind(json).bind(numbers[index]).bind(i32::MIN + index as i32).bind(reals[index]);
        insert.bind(index % 2 == 0).execute(&mut file).await.unwrap();
    }
    file.execute("INSERT INTO everything (\"order\") VALUES (1000)").await.unwrap();

    let tables = pair.run().await.unwrap();

    let select = |json| {
        AssertSqlSafe(format!(
            "SELECT id, bytes, text, {json}, number, small, real, flag, \"order\", owner FROM everything ORDER BY 9"
        ))
    };
    let before: Vec<Everything> = sqlx::query_as(select("json ->> 'key'")).fetch_all(&mut file).await.unwrap();
    let mut schema = pair.schema().await;
    let after: Vec<Everything> = sqlx::query_as(select("json ->> 'key'")).fetch_all(&mut schema).await.unwrap();
    assert_eq!(after, before);
    let bits = |rows: &[Everything]| rows.iter().map(|row| row.6.map(f64::to_bits)).collect::<Vec<_>>();
    assert_eq!(bits(&after), bits(&before), "minus zero is one, too");
    let n_rows: Vec<_> = tables.iter().map(|table| (table.to_string(), table.n_rows)).collect();
    assert_eq!(n_rows, [("test_move.owner".to_owned(), 1), ("test_move.everything".to_owned(), 7)]);
}

#[tokio::test]
async fn what_postgres_cannot_store_becomes_what_it_would_have_become_there() {
    let pair =
        Pair::with(r#"INSERT INTO everything (text, json) VALUES ('a' || char(0) || 'b', '{"a": "\u0000"}')"#).await;

    pair.run().await.unwrap();

    let sql = "SELECT text, json ->> 'a' FROM everything";
    let row: (String, String) = sqlx::query_as(sql).fetch_one(&mut pair.schema().await).await.unwrap();
    assert_eq!(row, ("a\u{fffd}b".to_owned(), "\u{fffd}".to_owned()));
}

#[tokio::test]
async fn numbers_that_were_given_out_are_not_given_again() {
    let pair = Pair::with(
        "INSERT INTO everything (text) VALUES ('a'), ('b'), ('gone'); DELETE FROM everything WHERE text = 'gone'",
    )
    .await;

    pair.run().await.unwrap();

    let next = "INSERT INTO everything (text) VALUES ('c') RETURNING \"order\"";
    let next: i64 = sqlx::query_scalar(next).fetch_one(&mut pair.schema().await).await.unwrap();
    assert_eq!(next, 4);
}

#[tokio::test]
async fn all_rows_of_a_move_carry_its_transaction() {
    let pair = Pair::with("INSERT INTO everything (text) VALUES ('a'), ('b')").await;
    let mut transfer = pair.begin().await;
    for table in transfer.plan("test-move", &[&pair.migrations]).await.unwrap() {
        transfer.copy(&table).await.unwrap();
    }

    let sql = "SELECT COUNT(*) FROM everything WHERE xid = pg_current_xact_id()";
    let manifold_store::Tx::Postgres(connection) = transfer.within("test-move").await.unwrap() else { unreachable!() };
    let n: i64 = sqlx::query_scalar(sql).fetch_one(connection).await.unwrap();

    assert_eq!(n, 2);
}

#[tokio::test]
async fn rows_of_migrations_are_no_rows_of_somebody() {
    let pair = Pair::with("UPDATE owner SET head = 7").await;
    // The operator made the tables before.
    Db::open(pair.server.location(), "test-move", &[&pair.migrations], &WriterConfig::default()).await.unwrap();

    pair.run().await.unwrap();

    let heads: Vec<i64> =
        sqlx::query_scalar("SELECT head FROM owner").fetch_all(&mut pair.schema().await).await.unwrap();
    assert_eq!(heads, [7]);
}

#[tokio::test]
async fn a_table_with_rows_is_named_and_nothing_is_changed() {
    let pair = Pair::with("INSERT INTO everything (text) VALUES ('mine')").await;
    Db::open(pair.server.location(), "test-move", &[&pair.migrations], &WriterConfig::default()).await.unwrap();
    pair.schema().await.execute("INSERT INTO everything (text) VALUES ('theirs')").await.unwrap();

    let refused = pair.plan().await.unwrap_err();

    assert_eq!(refused.reason(), "DATABASE_NOT_EMPTY");
    assert!(refused.message().contains("\"test_move\".\"everything\""), "{refused}");
    let texts: Vec<String> =
        sqlx::query_scalar("SELECT text FROM everything").fetch_all(&mut pair.schema().await).await.unwrap();
    assert_eq!(texts, ["theirs"]);
    assert!(Db::pending(pair.files.location(), "test-move", &[&pair.migrations]).await.is_ok(), "no marker is left");
}

#[tokio::test]
async fn tables_that_differ_are_refused_by_name() {
    let cases = [
        ("CREATE TABLE a (x TEXT, y TEXT)", "CREATE TABLE a (x TEXT)", "a.y is only in SQLite"),
        ("CREATE TABLE a (x TEXT)", "CREATE TABLE a (x TEXT, y TEXT)", "a.y is only in Postgres"),
        ("CREATE TABLE a (x TEXT); CREATE TABLE b (x TEXT)", "CREATE TABLE a (x TEXT)", "b is only in SQLite"),
        ("CREATE TABLE a (x TEXT)", "CREATE TABLE a (x TEXT); CREATE TABLE b (x TEXT)", "b is only in Postgres"),
        ("CREATE TABLE a (x TEXT)", "CREATE TABLE a (x INTERVAL)", "a.x is a interval"),
    ];
    for (sqlite, postgres, words) in cases {
        let pair = Pair::new(sqlite, postgres).await;

        let refused = pair.plan().await.unwrap_err();

        assert!(refused.message().contains(words), "{words:?} is missing in {refused}");
        assert!(pair.is_untouched().await, "{words}");
    }
}

#[tokio::test]
async fn a_file_of_another_version_is_refused_with_the_remedy() {
    let pair = Pair::new(SQLITE, POSTGRES).await;
    pair.file().await.execute("DELETE FROM _sqlx_migrations").await.unwrap();

    let refused = pair.plan().await.unwrap_err();

    assert!(refused.message().contains("manifold db migrate"), "{refused}");
}

#[tokio::test]
async fn a_failure_half_way_leaves_nothing_and_can_be_mended() {
    let many = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000) \
                INSERT INTO everything (text) SELECT 'some text that takes its place ' || n FROM n;";
    let cases = [
        ("UPDATE everything SET id = x'00' WHERE \"order\" = 20000", "everything", "id is a SQLite BLOB"),
        ("UPDATE everything SET flag = 2 WHERE \"order\" = 20000", "everything", "flag is a SQLite INTEGER"),
        ("UPDATE everything SET number = 'x' WHERE \"order\" = 20000", "everything", "number is a SQLite TEXT"),
        ("UPDATE everything SET text = CAST(x'ff' AS TEXT) WHERE \"order\" = 20000", "everything", "text is a SQLite"),
        (
            "UPDATE everything SET json = '{' WHERE \"order\" = 20000",
            "everything",
            "invalid input syntax for type json",
        ),
        ("UPDATE everything SET small = 3000000000 WHERE \"order\" = 20000", "everything", "out of range"),
    ];
    let pair = Pair::new(SQLITE, POSTGRES).await;
    let mut file = pair.file().await;
    file.execute(many).await.unwrap();
    for (spoil, table, words) in cases {
        file.execute(spoil).await.unwrap();

        let failed = pair.run().await.unwrap_err();

        let told = failed.chain();
        assert!(told.contains(table) && told.contains(words), "{words:?} is missing in {told}");
        assert!(pair.is_untouched().await, "{spoil}");
        file.execute(
            "UPDATE everything SET id = NULL, flag = NULL, number = 1, text = 'x', json = NULL, small = NULL \
                      WHERE \"order\" = 20000",
        )
        .await
        .unwrap();
    }

    pair.run().await.unwrap();

    assert_eq!(pair.count().await, (1, 20_000));
}

#[tokio::test]
async fn a_move_that_ended_is_not_done_again_and_its_files_stay_closed() {
    let pair = Pair::with("INSERT INTO everything (text) VALUES ('a')").await;
    pair.run().await.unwrap();

    let again = Transfer::begin(pair.folder(), pair.server.location(), Uuid::new_v4()).await.unwrap();
    let other = Scratch::postgres().await;
    let elsewhere = Transfer::begin(pair.folder(), other.location(), Uuid::new_v4()).await.err().unwrap();
    let opened = Db::open(pair.files.location(), "test-move", &[&pair.migrations], &WriterConfig::default()).await;
    let pending = Db::pending(pair.files.location(), "test-move", &[&pair.migrations]).await;

    assert!(again.is_none());
    for refused in [elsewhere, opened.err().unwrap(), pending.unwrap_err()] {
        assert_eq!(refused.reason(), "DATA_MOVED");
    }
    assert_eq!(pair.count().await, (1, 1));
    std::fs::remove_file(pair.folder().join("moved-to-postgres")).unwrap();
    assert!(Db::open(pair.files.location(), "test-move", &[&pair.migrations], &WriterConfig::default()).await.is_ok());
    assert_eq!(pair.plan().await.unwrap_err().reason(), "DATABASE_NOT_EMPTY", "without the marker nobody knows");
}

#[tokio::test]
async fn a_marker_without_its_move_does_not_stand_in_the_way() {
    let pair = Pair::with("INSERT INTO everything (text) VALUES ('a')").await;
    let place = pair.begin().await.place().to_owned();
    std::fs::write(pair.folder().join("moved-to-postgres"), format!("{place} {}\n", Uuid::new_v4())).unwrap();

    pair.run().await.unwrap();

    assert_eq!(pair.count().await, (1, 1));
}

#[tokio::test]
async fn nobody_writes_into_the_files_meanwhile() {
    let pair = Pair::new(SQLITE, POSTGRES).await;
    let mut file = pair.file().await;
    file.execute("PRAGMA busy_timeout = 0").await.unwrap();
    let mut transfer = pair.begin().await;
    transfer.plan("test-move", &[&pair.migrations]).await.unwrap();

    let refused = file.execute("UPDATE owner SET head = 1").await.unwrap_err();

    assert!(refused.to_string().contains("locked"), "{refused}");
}
