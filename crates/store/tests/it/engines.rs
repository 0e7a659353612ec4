//! One SQL text on both engines: types, pages, upserts, retention, conditional changes, migrations.

use manifold_core::{Page, PageRequest, Result, Timestamp};
use manifold_store::{Db, Group, SqlResultExt, newest_first, oldest_first, on, prune};
use sqlx::types::Json;
use uuid::Uuid;

use crate::scratch::Scratch;
use crate::thing::{Running, TENANT, Thing, contents, migrations, open};

/// Makes a test per engine of each scenario `async fn(&Scratch)`.
#[macro_export]
macro_rules! on_both_engines {
    ($($scenario:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(&$crate::scratch::Scratch::sqlite()).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(&$crate::scratch::Scratch::postgres().await).await;
            })*
        }
    };
}

on_both_engines!(
    every_type_comes_back_as_it_went_in,
    a_command_reads_what_it_wrote_and_rolls_back_on_error,
    a_command_ends_the_wait_for_the_next_commit,
    pages_go_on_after_the_last_id,
    an_upsert_changes_the_row_that_is_there,
    a_conditional_change_happens_once,
    retention_deletes_old_rows_in_batches,
    migrations_run_once_and_are_listed_before,
);

async fn find(db: &Db, id: u128) -> Option<Thing> {
    let id = Uuid::from_u128(id);
    on!(db, |pool| sqlx::query_as("SELECT * FROM thing WHERE id = $1").bind(id).fetch_optional(pool).await.unwrap())
}

async fn insert(db: &Db, things: impl IntoIterator<Item = Thing>) {
    for thing in things {
        db.rows().push(Group::new().with(thing));
    }
}

async fn every_type_comes_back_as_it_went_in(scratch: &Scratch) {
    let running = Running::open(scratch.location()).await;
    let thing = Thing {
        name: "naïve \u{1f980}".to_owned(),
        document: Json(vec!["x".to_owned(), "\"quoted\"".to_owned()]),
        used: i64::MAX,
        ratio: Some(0.1),
        active: false,
        digest: Some(vec![0, 255]),
        ..Thing::new(1)
    };
    let nul = Thing { name: "a\0b".to_owned(), document: Json(vec!["\0".to_owned()]), ..Thing::new(2) };

    insert(&running.db, [thing.clone(), nul]).await;
    running.settled().await;

    assert_eq!(find(&running.db, 1).await, Some(thing));
    let stored = find(&running.db, 2).await.unwrap();
    assert_eq!((&*stored.name, &*stored.document[0]), ("a\u{fffd}b", "\u{fffd}"));
    let first: String = on!(&running.db, |pool| sqlx::query_scalar("SELECT document ->> 0 FROM thing WHERE used > 0")
        .fetch_one(pool)
        .await
        .unwrap());
    assert_eq!(first, "x");
}

async fn a_command_reads_what_it_wrote_and_rolls_back_on_error(scratch: &Scratch) {
    let running = Running::open(scratch.location()).await;
    let rename = |name: &'static str, fail: Option<&'static str>| {
        running.db.write("rename", move |tx| {
            Box::pin(async move {
                let changed = on!(tx, |executor| sqlx::query("UPDATE thing SET name = $1")
                    .bind(name)
                    .execute(executor)
                    .await
                    .map(|_| ()));
                changed.during("rename")?;
                if let Some(message) = fail {
                    return Err(manifold_core::Error::invalid("REFUSED", message));
                }
                let read: Result<String, _> =
                    on!(tx, |executor| sqlx::query_scalar("SELECT name FROM thing").fetch_one(executor).await);
                read.during("read the name")
            })
        })
    };
    insert(&running.db, [Thing::new(1)]).await;
    running.settled().await;

    let renamed = rename("first", None).await;
    let refused = rename("second", Some("no")).await;

    assert_eq!(renamed.unwrap(), "first");
    assert_eq!(refused.unwrap_err().reason(), "REFUSED");
    assert_eq!(find(&running.db, 1).await.unwrap().name, "first");
}

async fn a_command_ends_the_wait_for_the_next_commit(scratch: &Scratch) {
    let running = Running::open(scratch.location()).await;
    let next_commit = running.db.rows().next_commit();

    let written = running.db.write("test", |_| Box::pin(async { Ok(()) })).await;

    written.unwrap();
    next_commit.await;
}

async fn pages_go_on_after_the_last_id(scratch: &Scratch) {
    let running = Running::open(scratch.location()).await;
    insert(&running.db, (1..=5).map(Thing::new)).await;
    running.settled().await;

    let mut seen = Vec::new();
    let mut request = PageRequest::new(Some(2), None).unwrap();
    loop {
        let (after, limit) = oldest_first(&request);
        let rows: Vec<Thing> = on!(&running.db, |pool| sqlx::query_as(
            "SELECT * FROM thing WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3"
        )
        .bind(TENANT)
        .bind(after)
        .bind(limit)
        .fetch_all(pool)
        .await
        .unwrap());
        let page = Page::cut(&request, rows, |thing| thing.id);
        seen.push(page.data.iter().map(|thing| thing.id.as_u128()).collect::<Vec<_>>());
        let Some(next) = page.next else { break };
        request.after = Some(next);
    }
    let (before, limit) = newest_first(&PageRequest::new(Some(2), None).unwrap());
    let newest: Vec<Uuid> =
        on!(&running.db, |pool| sqlx::query_scalar("SELECT id FROM thing WHERE id < $1 ORDER BY id DESC LIMIT $2")
            .bind(before)
            .bind(limit)
            .fetch_all(pool)
            .await
            .unwrap());

    assert_eq!(seen, [vec![1, 2], vec![3, 4], vec![5]]);
    assert_eq!(newest.iter().map(Uuid::as_u128).collect::<Vec<_>>(), [5, 4, 3]);
}

async fn an_upsert_changes_the_row_that_is_there(scratch: &Scratch) {
    let running = Running::open(scratch.location()).await;
    let upsert = |id: u128, document: &'static str| {
        running.db.write("upsert", move |tx| {
            Box::pin(async move {
                let used: Result<i64, _> = on!(tx, |executor| sqlx::query_scalar(
                    "INSERT INTO thing (id, tenant_id, name, document, used, active, created_at) \
                     VALUES ($1, $2, 'same', $3, 1, TRUE, 0) \
                     ON CONFLICT (tenant_id, name) DO UPDATE SET document = excluded.document, used = thing.used + 1 \
                     RETURNING used"
                )
                .bind(Uuid::from_u128(id))
                .bind(TENANT)
                .bind(Json([document]))
                .fetch_one(executor)
                .await);
                used.during("upsert")
            })
        })
    };

    let used = (upsert(1, "one").await.unwrap(), upsert(2, "two").await.unwrap());

    assert_eq!(used, (1, 2));
    let stored = find(&running.db, 1).await.unwrap();
    assert_eq!(stored.document.0, ["two"]);
    assert_eq!(find(&running.db, 2).await, None);
}

async fn a_conditional_change_happens_once(scratch: &Scratch) {
    let running = Running::open(scratch.location()).await;
    insert(&running.db, [Thing::new(1)]).await;
    running.settled().await;
    let spend = || {
        running.db.write("spend", |tx| {
            Box::pin(async move {
                let used: Result<Option<i64>, _> = on!(tx, |executor| sqlx::query_scalar(
                    "UPDATE thing SET used = used + $1 WHERE used + $1 <= $2 RETURNING used"
                )
                .bind(3i64)
                .bind(10i64)
                .fetch_optional(executor)
                .await);
                used.during("spend")
            })
        })
    };

    let outcomes = futures::future::join_all((0..8).map(|_| spend())).await;

    let mut granted: Vec<_> = outcomes.into_iter().filter_map(Result::unwrap).collect();
    granted.sort_unstable();
    assert_eq!(granted, [3, 6, 9]);
}

async fn retention_deletes_old_rows_in_batches(scratch: &Scratch) {
    let running = Running::open(scratch.location()).await;
    let at = |id: u128| Thing { created_at: Timestamp::from_micros(id as i64), ..Thing::new(id) };
    insert(&running.db, (1..=2_510).map(at)).await;
    running.settled().await;

    let n_deleted = prune(&running.db, "thing", "id", "created_at", Timestamp::from_micros(2_501)).await.unwrap();

    assert_eq!(n_deleted, 2_500);
    assert_eq!(contents(&running.db).await.0, (2_501..=2_510).collect::<Vec<_>>());

    let by_time = prune(&running.db, "thing", "created_at, id", "created_at", Timestamp::from_micros(2_503)).await;

    assert_eq!(by_time.unwrap(), 2, "the time may be part of the key");
}

async fn migrations_run_once_and_are_listed_before(scratch: &Scratch) {
    let (location, migrations) = (scratch.location(), migrations());
    let parts = [&migrations];
    let pending = || Db::pending(location, "test-things", &parts);

    let before = pending().await.unwrap();
    let first = open(location).await;
    let second = open(location).await;
    let after = pending().await.unwrap();

    assert_eq!(before, ["0100 create thing", "0101 create thing part"]);
    assert_eq!(after, Vec::<String>::new());
    first.0.ping().await.unwrap();
    second.0.ping().await.unwrap();
}
