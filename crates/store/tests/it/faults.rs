//! Postgres goes away, comes back, and breaks connections while it commits.

use std::sync::atomic::Ordering;

use manifold_core::{Code, Result, Secret};
use manifold_store::{Db, Location, SqlResultExt, on};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};

use crate::proxy::Proxy;
use crate::scratch::Scratch;
use crate::thing::{Running, contents, group};

async fn touch(db: &Db) -> Result<u64> {
    db.write("touch", |tx| {
        Box::pin(async move {
            let touched = on!(tx, |executor| sqlx::query("UPDATE thing SET used = used + 1")
                .execute(executor)
                .await
                .map(|done| done.rows_affected()));
            touched.during("touch")
        })
    })
    .await
}

/// Runs a statement about the database from outside; `{}` stands for its name.
async fn administer(scratch: &Scratch, statement: &str) {
    let Location::Postgres { url } = scratch.location() else { unreachable!() };
    let options: PgConnectOptions = url.expose().parse().unwrap();
    let statement = AssertSqlSafe(statement.replace("{}", options.get_database().unwrap()));
    let mut connection = options.database("postgres").connect().await.unwrap();
    sqlx::query(statement).execute(&mut connection).await.unwrap();
}

#[tokio::test]
async fn a_database_that_goes_away_loses_nothing() {
    let scratch = Scratch::postgres().await;
    let running = Running::open(scratch.location()).await;
    running.db.rows().push(group(1, 1));
    running.settled().await;

    administer(&scratch, "ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").await;
    administer(&scratch, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'").await;
    for id in 2..=300 {
        running.db.rows().push(group(id, 1));
    }
    let away = touch(&running.db).await.unwrap_err();
    let ping = running.db.ping().await.unwrap_err();
    administer(&scratch, "ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").await;
    running.settled().await;

    assert_eq!((away.code(), away.reason()), (Code::Unavailable, "STORE_UNAVAILABLE"));
    assert_eq!(ping.code(), Code::Unavailable);
    assert_eq!(contents(&running.db).await.1, (1..=300).map(|id| (id, 1)).collect::<Vec<_>>());
    assert_eq!(touch(&running.db).await.unwrap(), 300);
}

#[tokio::test]
async fn the_server_ends_transactions_that_stand_still() {
    let scratch = Scratch::postgres().await;
    let running = Running::open(scratch.location()).await;

    let sql = "SELECT setting || unit FROM pg_settings WHERE name = 'idle_in_transaction_session_timeout'";
    let setting: String = on!(&running.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap();

    assert_eq!(setting, "30000ms");
}

#[tokio::test]
async fn nothing_is_doubled_or_lost_when_nobody_knows_whether_a_commit_happened() {
    let scratch = Scratch::postgres().await;
    let Location::Postgres { url } = scratch.location() else { unreachable!() };
    let (front, database) = url.expose().rsplit_once('/').unwrap();
    let (scheme, server) = front.rsplit_once(['@', '/']).unwrap();
    let proxy = Proxy::start(server.to_owned()).await;
    let separator = if front.contains('@') { "@" } else { "/" };
    let through = Secret::new(format!("{scheme}{separator}{}/{database}", proxy.address));
    let running = Running::open(&Location::Postgres { url: through }).await;

    proxy.cuts.store(3, Ordering::SeqCst);
    for id in 1..=300 {
        running.db.rows().push(group(id, 1));
    }
    running.settled().await;

    assert_eq!(proxy.cuts.load(Ordering::SeqCst), 0);
    assert_eq!(contents(&running.db).await.1, (1..=300).map(|id| (id, 1)).collect::<Vec<_>>());
    proxy.cuts.store(1, Ordering::SeqCst);
    assert_eq!(touch(&running.db).await.unwrap_err().code(), Code::Unavailable);
}
