//! The outbox on both engines.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::time::Duration;

use bytes::Bytes;
use manifold_bus::{Cause, Draft, Outbox, migrations};
use manifold_contract::events::v1::Event;
use manifold_core::{
    Clock, Error, EventId, Ids, Principal, RequestId, Result, SubjectKind, TenantId, Timestamp, TraceContext,
};
use manifold_store::{Db, Group, WriterConfig, on};
use prost::Message;
use tokio::task::JoinSet;
use uuid::Uuid;

#[path = "../../store/tests/it/scratch.rs"]
mod scratch;
use scratch::Scratch;

const TENANT: TenantId = TenantId(Uuid::from_u128(7));
const REQUEST: RequestId = RequestId(Uuid::from_u128(8));

/// A database with an outbox, a clock and a caller.
struct House {
    db: Db,
    clock: Clock,
    outbox: Outbox,
    principal: Principal,
    trace: TraceContext,
    _writer: JoinSet<()>,
}

impl House {
    async fn open(scratch: &Scratch) -> Self {
        let opened = Db::open(scratch.location(), "test-bus", &[&migrations()], &WriterConfig::default()).await;
        let (db, writer) = opened.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(std::future::pending()));
        let clock = Clock::manual(Timestamp::from_micros(1_763_629_200_000_000));
        let principal = Principal {
            tenant: TENANT,
            subject: "key_1".into(),
            kind: SubjectKind::Key,
            key: None,
            permissions: [].into(),
            environment: "test".into(),
        };
        let outbox = Outbox::new("ai", clock.clone(), Ids::new(clock.clone()));
        let trace = TraceContext { trace_id: 1, span_id: 2, sampled: true };
        Self { db, clock, outbox, principal, trace, _writer: tasks }
    }

    /// Appends in a command, which then goes on or fails.
    async fn append(&self, drafts: Vec<Draft>, then: Option<&'static str>) -> Result<()> {
        let (outbox, principal, trace) = (self.outbox.clone(), self.principal.clone(), self.trace);
        let command = self.db.write("append", move |tx| {
            let (outbox, principal, drafts) = (outbox.clone(), principal.clone(), drafts.clone());
            Box::pin(async move {
                let cause = Cause::Request { principal: &principal, request: REQUEST, trace: &trace };
                outbox.append(tx, &drafts, &cause).await?;
                then.map_or(Ok(()), |reason| Err(Error::invalid(reason, "on purpose")))
            })
        });
        command.await
    }

    /// Every event, with its subject and its id, in order.
    async fn events(&self) -> Vec<(Event, String, Uuid)> {
        let rows: Vec<(Vec<u8>, String, Uuid)> =
            on!(&self.db, |pool| sqlx::query_as("SELECT payload, subject, event_id FROM outbox ORDER BY seq")
                .fetch_all(pool)
                .await
                .unwrap());
        let decode = |(payload, subject, id): (Vec<u8>, _, _)| (Event::decode(&*payload).unwrap(), subject, id);
        rows.into_iter().map(decode).collect()
    }

    async fn settled(&self) {
        while self.db.rows().depth() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn draft(subject: &str) -> Draft {
    let data = Bytes::from_static(br#"{"ok":true}"#);
    Draft { type_: "ai.request.completed", subject: subject.to_owned(), tenant: TENANT, data }
}

macro_rules! on_both_engines {
    ($($scenario:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(&super::Scratch::sqlite()).await;
            })*
        }

        mod on_postgres {
            $(#[tokio::test]
            async fn $scenario() {
                super::$scenario(&super::Scratch::postgres().await).await;
            })*
        }
    };
}

on_both_engines!(
    the_envelope_says_where_an_event_comes_from,
    events_come_and_go_with_their_transaction,
    a_refused_event_says_why,
    numbers_go_on_after_events_are_pruned,
);

async fn the_envelope_says_where_an_event_comes_from(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let cause = Cause::Request { principal: &house.principal, request: REQUEST, trace: &house.trace };

    house.db.rows().push(Group::new().with(house.outbox.row(draft("req_1"), &cause).unwrap()));
    house.settled().await;
    house.append(vec![draft("req_2")], None).await.unwrap();

    let events = house.events().await;
    let (event, subject, id) = &events[0];
    assert_eq!(subject, &format!("mf.evt.{TENANT}.ai.request.completed"));
    let expected = Event {
        id: EventId(*id).to_string(),
        source: "manifold/ai".to_owned(),
        r#type: "ai.request.completed".to_owned(),
        type_version: 1,
        subject: "req_1".to_owned(),
        tenant_id: TENANT.to_string(),
        time_us: 1_763_629_200_000_000,
        ordering_key: "req_1".to_owned(),
        datacontenttype: "application/json".to_owned(),
        data: Bytes::from_static(br#"{"ok":true}"#),
        traceparent: house.trace.to_string(),
        correlation_id: REQUEST.to_string(),
        ..Event::default()
    };
    assert_eq!(event, &expected);
    assert_eq!(events[1].0.subject, "req_2");
}

async fn events_come_and_go_with_their_transaction(scratch: &Scratch) {
    let house = House::open(scratch).await;

    let kept = house.append(vec![draft("kept"), draft("too")], None).await;
    let undone = house.append(vec![draft("undone")], Some("REFUSED")).await;

    kept.unwrap();
    assert_eq!(undone.unwrap_err().reason(), "REFUSED");
    let subjects: Vec<String> = house.events().await.into_iter().map(|(event, ..)| event.subject).collect();
    assert_eq!(subjects, ["kept", "too"]);
}

async fn a_refused_event_says_why(scratch: &Scratch) {
    let house = House::open(scratch).await;
    let large = Draft { data: Bytes::from(vec![b' '; 256 * 1024 + 1]), ..draft("a") };
    let long = Draft { subject: "a".repeat(512 * 1024), ..draft("a") };
    let short = Draft { type_: "ai.completed", ..draft("a") };

    for (wrong, reason) in [(large, "EVENT_TOO_LARGE"), (long, "EVENT_TOO_LARGE"), (short, "EVENT_SUBJECT_INVALID")] {
        let refused = house.append(vec![draft("fine"), wrong], None).await;

        assert_eq!(refused.unwrap_err().reason(), reason);
    }
    assert!(house.events().await.is_empty());
}

async fn numbers_go_on_after_events_are_pruned(scratch: &Scratch) {
    let house = House::open(scratch).await;
    house.append(vec![draft("old"), draft("older")], None).await.unwrap();
    house.clock.advance(Duration::from_secs(24 * 60 * 60 + 1));

    let n_pruned = house.outbox.prune(&house.db).await.unwrap();
    house.append(vec![draft("new")], None).await.unwrap();

    assert_eq!(n_pruned, 2);
    let numbers: Vec<i64> =
        on!(&house.db, |pool| sqlx::query_scalar("SELECT seq FROM outbox").fetch_all(pool).await.unwrap());
    assert_eq!(numbers, [3]);
    assert_eq!(house.outbox.prune(&house.db).await.unwrap(), 0);
}
