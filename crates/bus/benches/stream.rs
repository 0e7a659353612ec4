//! How many events a second go from an outbox into the stream, and from the stream to a consumer that writes a row for each:
//! in one lane and in four, with one statement per batch and with one per event. Needs MANIFOLD_TEST_POSTGRES and nats-server.
#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a benchmark prints and may stop")]

#[path = "../tests/it/nats.rs"]
#[expect(dead_code, reason = "tests kill it and exchange its files")]
mod nats;
#[path = "../../store/tests/it/scratch.rs"]
#[expect(dead_code, reason = "this needs Postgres only")]
mod scratch;

use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::BoxFuture;
use manifold_bus::{Broker, BrokerConfig, Bus, Cause, Consumer, Draft, Failure, Filter, Handler, Outbox, Source};
use manifold_contract::events::v1::Event;
use manifold_core::{Clock, Ids, Principal, RequestId, Secret, SubjectKind, TenantId, TraceContext};
use manifold_store::{Db, Group, Migrations, SqlResultExt, Tx, WriterConfig, on};
use tokio::task::JoinSet;
use uuid::Uuid;

/// Events of 1 KiB.
const N: usize = 100_000;

/// How many statements a consumer needs.
#[derive(Clone, Copy)]
enum Scribe {
    PerBatch,
    PerEvent,
}

impl Handler for Scribe {
    fn handle<'t>(&'t self, tx: &'t mut Tx<'_>, events: &'t [Event]) -> BoxFuture<'t, Result<(), Failure>> {
        async move {
            let subjects: Vec<&str> = events.iter().map(|event| event.subject.as_str()).collect();
            let Tx::Postgres(connection) = tx else { return Ok(()) };
            let sql = "INSERT INTO effect (subject) SELECT * FROM UNNEST($1::text[])";
            let parts = match self {
                Self::PerBatch => vec![subjects],
                Self::PerEvent => subjects.into_iter().map(|subject| vec![subject]).collect(),
            };
            for part in parts {
                sqlx::query(sql).bind(part).execute(&mut **connection).await.map(|_| ()).during("write effects")?;
            }
            Ok(())
        }
        .boxed()
    }
}

async fn open(scratch: &scratch::Scratch, service: &'static str, own: &[&Migrations], running: &mut JoinSet<()>) -> Db {
    let bus = manifold_bus::migrations();
    let migrations: Vec<_> = std::iter::once(&bus).chain(own.iter().copied()).collect();
    let (db, writer) = Db::open(scratch.location(), service, &migrations, &WriterConfig::default()).await.unwrap();
    running.spawn(writer.run(std::future::pending()));
    db
}

async fn count(db: &Db, sql: &'static str) -> i64 {
    on!(db, |pool| sqlx::query_scalar(sql).fetch_one(pool).await).unwrap()
}

async fn until(db: &Db, sql: &'static str, n: usize) -> f64 {
    let begun = Instant::now();
    while count(db, sql).await < n as i64 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed().as_secs_f64()
}

#[tokio::main]
async fn main() {
    let (nats, scratch, clock) = (nats::Nats::start().await, scratch::Scratch::postgres().await, Clock::system());
    let mut running = JoinSet::new();
    let house = open(&scratch, "test-bus", &[], &mut running).await;
    let own = Migrations { sqlite: sqlx::migrate!("tests/migrations"), postgres: sqlx::migrate!("tests/migrations") };
    let service = open(&scratch, "test-consumer", &[&own], &mut running).await;
    let outbox = Outbox::new("ai", clock.clone(), Ids::new(clock.clone()));
    let (principal, trace) = (principal(), TraceContext { trace_id: 1, span_id: 2, sampled: true });
    let cause = Cause::Request { principal: &principal, request: RequestId(Uuid::nil()), trace: &trace };
    let data = bytes::Bytes::from(format!("{:?}", "x".repeat(700)));
    let begun = Instant::now();
    for n in 0..N {
        let (subject, data) = (format!("{n:06}"), data.clone());
        let draft = Draft { type_: "ai.request.completed", subject, tenant: TenantId(Uuid::nil()), data };
        while house.rows().is_full() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        house.rows().push(Group::new().with(outbox.row(draft, &cause).unwrap()));
    }
    while house.rows().depth() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("outbox on Postgres  {:>8.0} events/s", N as f64 / begun.elapsed().as_secs_f64());

    let broker = Broker::connect(BrokerConfig {
        url: Secret::new(nats.url()),
        replicas: 1,
        max_age: Duration::from_secs(3_600),
        max_bytes: 900 << 20,
        duplicate_window: Duration::from_secs(600),
    });
    let broker = broker.await.unwrap();
    while broker.prepare().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let source = Source { name: "test-bus", db: house.clone() };
    running.spawn(manifold_bus::relay(broker.clone(), source, clock.clone()));
    let seconds = until(&house, "SELECT COUNT(*) FROM outbox WHERE published_at IS NOT NULL", N).await;
    println!("relay               {:>8.0} events/s", N as f64 / seconds);

    let cases = [
        ("one lane, batch", "one__batch", Scribe::PerBatch, 1),
        ("four lanes, batch", "four__batch", Scribe::PerBatch, 4),
        ("one lane, event", "one__event", Scribe::PerEvent, 1),
        ("four lanes, event", "four__event", Scribe::PerEvent, 4),
    ];
    for (what, name, scribe, lanes) in cases {
        let consumer = Consumer::new(name, Filter::Domain("ai")).gathering(256, Duration::from_millis(5));
        let (consumer, bus) = (consumer.in_lanes(lanes), Bus::JetStream(broker.clone()));
        let mut reading = JoinSet::new();
        reading.spawn(manifold_bus::consume(consumer, bus, service.clone(), clock.clone(), scribe));
        let seconds = until(&service, "SELECT COUNT(*) FROM effect", N).await;
        println!("{what:<19} {:>8.0} effects/s", N as f64 / seconds);
        reading.shutdown().await;
        let emptied = service.write("begin anew", |tx| {
            Box::pin(async move {
                let sql = "TRUNCATE effect";
                on!(tx, |executor| sqlx::query(sql).execute(executor).await.map(|_| ())).during("begin anew")
            })
        });
        emptied.await.unwrap();
    }
}

fn principal() -> Principal {
    Principal {
        tenant: TenantId(Uuid::nil()),
        subject: "key_1".into(),
        kind: SubjectKind::Key,
        key: None,
        permissions: [].into(),
        environment: "test".into(),
        ..Principal::anonymous()
    }
}
