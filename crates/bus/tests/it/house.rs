//! A database with an outbox, a clock and a caller.

use std::time::Duration;

use bytes::Bytes;
use manifold_bus::{Cause, Draft, Outbox, migrations};
use manifold_contract::events::v1::Event;
use manifold_core::{Clock, Error, Ids, Principal, RequestId, Result, SubjectKind, TenantId, Timestamp, TraceContext};
use manifold_store::{Db, WriterConfig, on};
use prost::Message;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::scratch::Scratch;

pub const TENANT: TenantId = TenantId(Uuid::from_u128(7));
pub const REQUEST: RequestId = RequestId(Uuid::from_u128(8));

/// A database with an outbox, a clock and a caller.
pub struct House {
    pub db: Db,
    pub clock: Clock,
    pub outbox: Outbox,
    pub principal: Principal,
    pub trace: TraceContext,
    _writer: JoinSet<()>,
}

impl House {
    pub async fn open(scratch: &Scratch) -> Self {
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
            ..Principal::anonymous()
        };
        let outbox = Outbox::new("ai", clock.clone(), Ids::new(clock.clone()));
        let trace = TraceContext { trace_id: 1, span_id: 2, sampled: true };
        Self { db, clock, outbox, principal, trace, _writer: tasks }
    }

    /// Appends in a command, which then goes on or fails.
    pub async fn append(&self, drafts: Vec<Draft>, then: Option<&'static str>) -> Result<()> {
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
    pub async fn events(&self) -> Vec<(Event, String, Uuid)> {
        let rows: Vec<(Vec<u8>, String, Uuid)> =
            on!(&self.db, |pool| sqlx::query_as("SELECT payload, subject, event_id FROM outbox ORDER BY seq")
                .fetch_all(pool)
                .await
                .unwrap());
        let decode = |(payload, subject, id): (Vec<u8>, _, _)| (Event::decode(&*payload).unwrap(), subject, id);
        rows.into_iter().map(decode).collect()
    }

    pub async fn settled(&self) {
        while self.db.rows().depth() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub fn draft(subject: &str) -> Draft {
    let data = Bytes::from_static(br#"{"ok":true}"#);
    Draft { type_: "ai.request.completed", subject: subject.to_owned(), tenant: TENANT, data }
}
