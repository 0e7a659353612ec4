//! The databases behind the processes, looked at from outside.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use manifold_contract::events::v1::Event;
use manifold_core::{KeyId, RequestId};
use manifold_testkit::postgres_url;
use prost::Message;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection};
use uuid::Uuid;

/// A Postgres database of one story.
pub struct Database {
    pub url: String,
    name: String,
}

impl Database {
    /// Makes it on the server that the test runner started.
    pub async fn create() -> Result<Self> {
        let server = postgres_url()?;
        let name = format!("process_{}", Uuid::new_v4().simple());
        execute(&server, format!("CREATE DATABASE {name}")).await?;
        let (place, _) = server.rsplit_once('/').context("a Postgres URL ends in /database")?;
        Ok(Self { url: format!("{place}/{name}"), name })
    }

    /// Throws it away.
    pub async fn drop(self) -> Result<()> {
        execute(&postgres_url()?, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await
    }
}

async fn execute(url: &str, sql: String) -> Result<()> {
    let mut connection = PgConnection::connect(url).await.context("connect to the throw-away Postgres")?;
    connection.execute(AssertSqlSafe(sql)).await?;
    Ok(connection.close().await?)
}

/// What the ai-router wrote down; attempts at its own echo are left out.
#[derive(Debug)]
pub struct Account {
    pub attempts: usize,
    pub requests: usize,
}

/// Reads the rows of one instant and checks that no request is without its event, and no event without its request.
macro_rules! read_account {
    ($connection:expr, $begin:literal) => {{
        $connection.execute($begin).await?;
        let requests: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM ai_request").fetch_all(&mut $connection).await?;
        let attempts: Vec<Uuid> = sqlx::query_scalar("SELECT request_id FROM ai_attempt WHERE provider <> 'manifold'")
            .fetch_all(&mut $connection)
            .await?;
        let events: Vec<Vec<u8>> = sqlx::query_scalar("SELECT payload FROM outbox").fetch_all(&mut $connection).await?;
        $connection.close().await?;
        account(&requests, &attempts, &events)
    }};
}

macro_rules! read_keys {
    ($connection:expr) => {{
        let keys: Vec<Uuid> =
            sqlx::query_scalar("SELECT id FROM api_key ORDER BY id").fetch_all(&mut $connection).await?;
        let events: Vec<Vec<u8>> = sqlx::query_scalar("SELECT payload FROM outbox WHERE type = 'identity.key.created'")
            .fetch_all(&mut $connection)
            .await?;
        $connection.close().await?;
        let told = events.iter().map(|payload| {
            let event = Event::decode(payload.as_slice())?;
            KeyId::parse(&event.subject).with_context(|| event.subject.clone())
        });
        let mut told = told.collect::<Result<Vec<_>>>()?;
        told.sort_unstable();
        Ok((keys.into_iter().map(KeyId).collect(), told))
    }};
}

/// The account in the SQLite files of a data folder.
pub async fn sqlite_account(data: &Path) -> Result<Account> {
    let mut connection = sqlite(data, "ai-router").await?;
    read_account!(connection, "BEGIN")
}

/// The account in a Postgres database.
pub async fn postgres_account(url: &str) -> Result<Account> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute("SET search_path = ai_router").await?;
    read_account!(connection, "BEGIN ISOLATION LEVEL REPEATABLE READ")
}

fn account(requests: &[Uuid], attempts: &[Uuid], events: &[Vec<u8>]) -> Result<Account> {
    let known: BTreeSet<Uuid> = requests.iter().copied().collect();
    let mut told = BTreeSet::new();
    for payload in events {
        let event = Event::decode(payload.as_slice())?;
        ensure!(event.r#type == "ai.request.completed", "an event of another kind: {}", event.r#type);
        let request = RequestId::parse(&event.subject).with_context(|| event.subject.clone())?;
        ensure!(told.insert(request.0), "two events of one request");
    }
    ensure!(
        known == told,
        "{} requests without event, {} events without request",
        known.difference(&told).count(),
        told.difference(&known).count()
    );
    ensure!(attempts.iter().all(|request| known.contains(request)), "an attempt without its request");
    Ok(Account { attempts: attempts.len(), requests: requests.len() })
}

/// `PRAGMA integrity_check` of every database file.
pub async fn integrity(data: &Path) -> Result<Vec<String>> {
    let mut verdicts = Vec::new();
    for service in ["identity", "ai-router"] {
        let mut connection = sqlite(data, service).await?;
        verdicts.push(sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut connection).await?);
        connection.close().await?;
    }
    Ok(verdicts)
}

/// Requests that were added up as the usage of keys, without calls that were refused at the door, and events that were not
/// read yet.
pub async fn sqlite_usage(data: &Path) -> Result<(i64, i64)> {
    let mut connection = sqlite(data, "identity").await?;
    let sql = "SELECT (SELECT COALESCE(SUM(n), 0) FROM key_usage WHERE operation <> 'call'), \
               (SELECT COALESCE(MAX(last_seq), 0) FROM consumer_cursor)";
    let (n, read): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut connection).await?;
    connection.close().await?;
    let mut connection = sqlite(data, "ai-router").await?;
    let unread = sqlx::query_scalar("SELECT COUNT(*) FROM outbox WHERE seq > $1").bind(read);
    let unread = unread.fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok((n, unread))
}

/// The same on Postgres.
pub async fn postgres_usage(url: &str) -> Result<(i64, i64)> {
    let mut connection = PgConnection::connect(url).await?;
    let sql = "SELECT (SELECT COALESCE(SUM(n), 0)::BIGINT FROM identity.key_usage WHERE operation <> 'call'), \
               (SELECT COUNT(*) FROM ai_router.outbox \
               WHERE (xid, seq) > (SELECT last_xid::text::xid8, last_seq FROM identity.consumer_cursor))";
    let usage = sqlx::query_as(sql).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(usage)
}

/// The ids of all keys, and those that events tell of, in the SQLite files of a data folder.
pub async fn sqlite_keys(data: &Path) -> Result<(Vec<KeyId>, Vec<KeyId>)> {
    let mut connection = sqlite(data, "identity").await?;
    read_keys!(connection)
}

/// The same on Postgres.
pub async fn postgres_keys(url: &str) -> Result<(Vec<KeyId>, Vec<KeyId>)> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute("SET search_path = identity").await?;
    read_keys!(connection)
}

async fn sqlite(data: &Path, service: &str) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(data.join(format!("{service}.db"))).read_only(true);
    Ok(SqliteConnection::connect_with(&options).await?)
}
