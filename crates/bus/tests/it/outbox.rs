//! The outbox.

use std::time::Duration;

use bytes::Bytes;
use manifold_bus::{Cause, Draft};
use manifold_contract::events::v1::Event;
use manifold_core::EventId;
use manifold_store::{Group, on};

use crate::house::{House, REQUEST, TENANT, draft};
use crate::on_both_engines;
use crate::scratch::Scratch;

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
