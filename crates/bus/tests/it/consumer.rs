//! Consumers: every event takes effect exactly once, and one that fails keeps no other from it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use manifold_bus::{Bus, Consumer, Failure, Filter, Handler, Source, consume, migrations};
use manifold_contract::events::v1::Event;
use manifold_core::{Code, Error};
use manifold_store::{Db, Migrations, SqlResultExt, Tx, WriterConfig, on};
use tokio::task::JoinSet;

use crate::house::{House, draft};
use crate::on_both_engines;
use crate::scratch::Scratch;

/// What happens to an event when it comes.
pub type Rule = Box<dyn Fn(u32) -> Result<(), Failure> + Send + Sync>;

/// Writes each event down, unless a rule for its subject says no. Counts how often each came.
#[derive(Clone, Default)]
pub struct Scribe {
    pub rules: Arc<HashMap<&'static str, Rule>>,
    pub came: Arc<Mutex<HashMap<String, u32>>>,
    stuck_at: Option<&'static str>,
}

impl Scribe {
    pub fn with(subject: &'static str, rule: impl Fn(u32) -> Result<(), Failure> + Send + Sync + 'static) -> Self {
        let rules = HashMap::from([(subject, Box::new(rule) as Rule)]);
        Self { rules: Arc::new(rules), ..Self::default() }
    }

    /// One more rule.
    pub fn and(
        mut self,
        subject: &'static str,
        rule: impl Fn(u32) -> Result<(), Failure> + Send + Sync + 'static,
    ) -> Self {
        Arc::get_mut(&mut self.rules).unwrap().insert(subject, Box::new(rule));
        self
    }

    /// Never comes to an end with this event.
    pub fn stuck_at(subject: &'static str) -> Self {
        Self { stuck_at: Some(subject), ..Self::default() }
    }

    pub fn came(&self, subject: &str) -> u32 {
        self.came.lock().unwrap().get(subject).copied().unwrap_or(0)
    }
}

impl Handler for Scribe {
    fn handle<'t>(&'t self, tx: &'t mut Tx<'_>, events: &'t [Event]) -> BoxFuture<'t, Result<(), Failure>> {
        async move {
            for event in events {
                let n = {
                    let mut came = self.came.lock().unwrap();
                    let n = came.entry(event.subject.clone()).or_default();
                    *n += 1;
                    *n
                };
                let written = on!(tx, |executor| sqlx::query("INSERT INTO effect (subject) VALUES ($1)")
                    .bind(&event.subject)
                    .execute(executor)
                    .await
                    .map(|_| ()));
                written.during("write an effect")?;
                if self.stuck_at == Some(event.subject.as_str()) {
                    std::future::pending::<()>().await;
                }
                if let Some(rule) = self.rules.get(event.subject.as_str()) {
                    rule(n)?;
                }
            }
            Ok(())
        }
        .boxed()
    }
}

/// A service that consumes: a database of its own on the same server.
pub struct Consuming {
    pub db: Db,
    pub running: JoinSet<()>,
    _writer: JoinSet<()>,
}

impl Consuming {
    pub async fn open(scratch: &Scratch) -> Self {
        let own = Self::migrations();
        let opened =
            Db::open(scratch.location(), "test-consumer", &[&migrations(), &own], &WriterConfig::default()).await;
        let (db, writer) = opened.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(std::future::pending()));
        Self { db, _writer: tasks, running: JoinSet::new() }
    }

    /// Its own table.
    pub fn migrations() -> Migrations {
        Migrations { sqlite: sqlx::migrate!("tests/migrations"), postgres: sqlx::migrate!("tests/migrations") }
    }

    /// Starts consuming the events of `house`.
    pub fn start(&mut self, house: &House, scribe: &Scribe, max_deliver: i64) {
        let sources = vec![Source { name: "test-bus", db: house.db.clone() }];
        let consumer = Consumer { max_deliver, ..Consumer::new("test__scribe", Filter::Domain("ai")) };
        self.running.spawn(consume(
            consumer,
            Bus::Embedded(sources),
            self.db.clone(),
            house.clock.clone(),
            scribe.clone(),
        ));
    }

    /// Ends it wherever it is.
    pub async fn kill(&mut self) {
        self.running.shutdown().await;
    }

    /// The subjects of all events that took effect, sorted.
    pub async fn effects(&self) -> Vec<String> {
        let sql = "SELECT subject FROM effect ORDER BY subject";
        on!(&self.db, |pool| sqlx::query_scalar(sql).fetch_all(pool).await).unwrap()
    }

    /// One number from the database.
    pub async fn count(&self, sql: &'static str) -> i64 {
        on!(&self.db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
    }

    pub async fn until_effects(&self, expected: &[&str]) {
        eventually(async || self.effects().await == expected).await;
    }
}

/// Waits until `check` holds.
pub async fn eventually(check: impl AsyncFn() -> bool) {
    let waiting = async {
        while !check().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it should have happened by now");
}

fn refusal(code: Code) -> Failure {
    Failure::from(Error::new(code, "ON_PURPOSE", "the test says no"))
}

on_both_engines!(
    every_event_takes_effect_once,
    a_killed_consumer_goes_on_where_it_was,
    a_failing_event_comes_again_and_keeps_nobody_waiting,
    an_event_that_always_fails_becomes_a_dead_letter,
    a_panicking_handler_fails_its_event_only,
    a_refused_statement_fails_its_event_only,
    a_database_that_is_away_is_no_fault_of_the_event,
    two_processes_share_the_work,
    numbers_of_undone_events_are_not_given_again,
    what_is_not_read_yet_is_not_pruned,
);

async fn every_event_takes_effect_once(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let (mut service, scribe) = (Consuming::open(scratch).await, Scribe::default());
    house.append(vec![draft("before")], None).await.unwrap();
    let other = manifold_bus::Draft { type_: "identity.key.created", ..draft("other") };

    service.start(&house, &scribe, 10);
    service.until_effects(&["before"]).await;
    house.append(vec![draft("later"), other, draft("last")], None).await.unwrap();

    service.until_effects(&["before", "last", "later"]).await;
    assert_eq!(scribe.came("other"), 0, "the filter does not accept it");
}

async fn a_killed_consumer_goes_on_where_it_was(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    let subjects: Vec<String> = (0..400).map(|n| format!("{n:03}")).collect();
    let expected: Vec<&str> = subjects.iter().map(String::as_str).collect();

    for part in subjects.chunks(40) {
        service.start(&house, &Scribe::default(), 10);
        house.append(part.iter().map(|subject| draft(subject)).collect(), None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(7)).await;
        service.kill().await;
    }
    service.start(&house, &Scribe::default(), 10);

    service.until_effects(&expected).await;
}

async fn a_failing_event_comes_again_and_keeps_nobody_waiting(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    let scribe = Scribe::with("bad", |n| if n < 5 { Err(refusal(Code::Internal)) } else { Ok(()) });
    let drafts = ["a", "b", "bad", "c", "d"].map(draft).to_vec();
    house.append(drafts, None).await.unwrap();

    service.start(&house, &scribe, 100);
    service.until_effects(&["a", "b", "c", "d"]).await;
    while service.effects().await.len() < 5 {
        house.clock.advance(Duration::from_secs(360));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    service.until_effects(&["a", "b", "bad", "c", "d"]).await;
    assert_eq!(service.count("SELECT COUNT(*) FROM consumer_retry").await, 0);
    assert_eq!(service.count("SELECT COUNT(*) FROM dead_letter").await, 0);
}

async fn an_event_that_always_fails_becomes_a_dead_letter(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    let scribe = Scribe::with("bad", |_| Err(refusal(Code::Internal)));
    house.append(vec![draft("bad"), draft("good")], None).await.unwrap();

    service.start(&house, &scribe, 3);
    service.until_effects(&["good"]).await;
    eventually(async || {
        house.clock.advance(Duration::from_secs(360));
        service.count("SELECT COUNT(*) FROM dead_letter WHERE reason = 'MAX_DELIVERIES' AND count = 1").await == 1
    })
    .await;

    house.append(vec![draft("more")], None).await.unwrap();
    service.until_effects(&["good", "more"]).await;
    assert_eq!(service.count("SELECT COUNT(*) FROM consumer_retry").await, 0);
}

async fn a_panicking_handler_fails_its_event_only(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    let scribe = Scribe::with("bad", |_| panic!("on purpose"));
    house.append(vec![draft("good"), draft("bad"), draft("too")], None).await.unwrap();

    service.start(&house, &scribe, 1);

    service.until_effects(&["good", "too"]).await;
    eventually(async || service.count("SELECT COUNT(*) FROM dead_letter WHERE reason = 'MAX_DELIVERIES'").await == 1)
        .await;
}

async fn a_refused_statement_fails_its_event_only(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let (mut service, scribe) = (Consuming::open(scratch).await, Scribe::default());
    house.append(vec![draft("good"), draft("refused by the table"), draft("too")], None).await.unwrap();

    service.start(&house, &scribe, 1);

    service.until_effects(&["good", "too"]).await;
    eventually(async || service.count("SELECT COUNT(*) FROM dead_letter WHERE reason = 'MAX_DELIVERIES'").await == 1)
        .await;
}

async fn a_database_that_is_away_is_no_fault_of_the_event(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let mut service = Consuming::open(scratch).await;
    let scribe = Scribe::with("late", |n| if n < 3 { Err(refusal(Code::Unavailable)) } else { Ok(()) });
    house.append(vec![draft("late")], None).await.unwrap();

    service.start(&house, &scribe, 1);

    service.until_effects(&["late"]).await;
    assert_eq!(service.count("SELECT COUNT(*) FROM dead_letter").await, 0);
}

async fn two_processes_share_the_work(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let (mut first, scribe) = (Consuming::open(scratch).await, Scribe::default());
    let subjects: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
    let expected: Vec<&str> = subjects.iter().map(String::as_str).collect();

    // Both have the same cursor: on SQLite two loops of one process, on Postgres as good as two processes.
    first.start(&house, &scribe, 10);
    first.start(&house, &scribe, 10);
    for part in subjects.chunks(10) {
        house.append(part.iter().map(|subject| draft(subject)).collect(), None).await.unwrap();
    }

    first.until_effects(&expected).await;
    let cursor = manifold_bus::cursors(&first.db).await.unwrap().remove(0);
    assert_eq!(cursor.behind(&house.db).await.unwrap(), 0, "nothing is left that could take effect again");
}

async fn numbers_of_undone_events_are_not_given_again(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let (mut service, scribe) = (Consuming::open(scratch).await, Scribe::default());
    house.append(vec![draft("a"), draft("undone")], None).await.unwrap();
    service.start(&house, &scribe, 10);
    service.until_effects(&["a", "undone"]).await;
    service.kill().await;

    // As a power cut leaves it: the event is gone, and its number is free again.
    house.undo_last().await;
    manifold_bus::leave_numbers_out(&house.db).await.unwrap();
    house.append(vec![draft("b")], None).await.unwrap();
    service.start(&house, &scribe, 10);

    service.until_effects(&["a", "b", "undone"]).await;
}

async fn what_is_not_read_yet_is_not_pruned(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let (mut service, scribe) = (Consuming::open(scratch).await, Scribe::default());
    house.append(vec![draft("read")], None).await.unwrap();
    service.start(&house, &scribe, 10);
    service.until_effects(&["read"]).await;
    house.told().await;
    service.kill().await;

    house.append(vec![draft("unread")], None).await.unwrap();
    house.clock.advance(Duration::from_secs(25 * 60 * 60));
    let n_pruned = house.outbox.prune(&house.db).await.unwrap();
    let left: Vec<_> = house.events().await.into_iter().map(|(event, ..)| event.subject).collect();
    house.clock.advance(Duration::from_secs(7 * 24 * 60 * 60));
    let n_pruned_at_last = house.outbox.prune(&house.db).await.unwrap();

    assert_eq!((n_pruned, left.as_slice()), (1, ["unread".to_owned()].as_slice()));
    assert_eq!(n_pruned_at_last, 1, "nobody is waited for more than 7 days");
}

#[tokio::test]
async fn a_place_of_another_postgres_server_loses_nothing_until_it_is_mended() {
    let scratch = Scratch::postgres().await;
    let house = House::open(&scratch).await;
    let (mut service, scribe) = (Consuming::open(&scratch).await, Scribe::default());
    house.append(vec![draft("read")], None).await.unwrap();
    service.start(&house, &scribe, 10);
    service.until_effects(&["read"]).await;
    house.told().await;
    service.kill().await;
    change(&service.db, "UPDATE consumer_cursor SET last_xid = 9000000000000000").await;
    change(&house.db, "UPDATE outbox_reader SET last_xid = 9000000000000000").await;

    house.append(vec![draft("unread")], None).await.unwrap();
    service.start(&house, &scribe, 10);
    house.clock.advance(Duration::from_secs(25 * 60 * 60));
    let n_pruned = house.outbox.prune(&house.db).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let meanwhile = service.effects().await;
    change(&house.db, "UPDATE outbox SET xid = '3'").await;
    change(&house.db, "UPDATE outbox_reader SET last_xid = 3").await;
    change(&service.db, "UPDATE consumer_cursor SET last_xid = 3").await;

    service.until_effects(&["read", "unread"]).await;
    assert_eq!((n_pruned, meanwhile), (0, vec!["read".to_owned()]));
}

pub async fn change(db: &Db, sql: &'static str) {
    let changed = db.write("change by a test", move |tx| {
        Box::pin(
            async move { on!(tx, |executor| sqlx::query(sql).execute(executor).await.map(|_| ())).during("change") },
        )
    });
    changed.await.unwrap();
}
