//! Whether the rows of an outbox say what their events say.

use manifold_contract::events::v1::Event;
use manifold_core::{EventId, Result, TenantId};
use manifold_store::{SqlResultExt, on};
use prost::Message;
use sqlx::FromRow;
use uuid::Uuid;

use super::Finding;
use crate::place::Source;
use crate::subject::subject;

/// Rows that are read at a time.
const BATCH: i64 = 500;

#[derive(FromRow)]
struct Row {
    seq: i64,
    event_id: Uuid,
    tenant_id: Uuid,
    r#type: String,
    subject: String,
    payload: Vec<u8>,
}

/// The rows of one kind that are wrong.
#[derive(Default)]
struct Tally {
    n: u64,
    /// Number, id and column of the first one.
    first: Option<(i64, Uuid, &'static str)>,
}

impl Tally {
    fn add(&mut self, row: &Row, column: &'static str) {
        self.n += 1;
        self.first.get_or_insert((row.seq, row.event_id, column));
    }
}

pub(super) async fn verify(ledger: &Source) -> Result<Vec<Finding>> {
    let (mut unreadable, mut differing) = (Tally::default(), Tally::default());
    let mut behind = 0;
    loop {
        let rows = read(ledger, behind).await?;
        for row in &rows {
            match wrong(row) {
                Some(column @ "payload") => unreadable.add(row, column),
                Some(column) => differing.add(row, column),
                None => {}
            }
        }
        match rows.last() {
            Some(last) => behind = last.seq,
            None => break,
        }
    }
    let mut findings = Vec::new();
    if let Some((seq, event, _)) = unreadable.first {
        findings.push(Finding {
            check: "outbox.unreadable",
            place: ledger.name,
            found: format!("the bytes of {} events are no event, first number {seq}, {}", unreadable.n, EventId(event)),
            remedy:
                "consumers give them up (`manifold bus dead-letters`): look for who changed them, or a failing disk"
                    .to_owned(),
        });
    }
    if let Some((seq, event, column)) = differing.first {
        let n = differing.n;
        findings.push(Finding {
            check: "outbox.differs",
            place: ledger.name,
            found: format!("{n} rows differ from their events, first {column} of number {seq}, {}", EventId(event)),
            remedy: format!("set {column} in the table outbox to what the event says: nobody else may write there"),
        });
    }
    Ok(findings)
}

async fn read(ledger: &Source, behind: i64) -> Result<Vec<Row>> {
    let sql =
        "SELECT seq, event_id, tenant_id, type, subject, payload FROM outbox WHERE seq > $1 ORDER BY seq LIMIT $2";
    let rows = on!(&ledger.db, |pool| sqlx::query_as(sql).bind(behind).bind(BATCH).fetch_all(pool).await);
    rows.during("read the rows of events")
}

/// The column that does not fit to the others, if there is one. A version that is not known here is read as far as that.
fn wrong(row: &Row) -> Option<&'static str> {
    let Ok(event) = Event::decode(&*row.payload) else { return Some("payload") };
    let subject = subject(&event.tenant_id, &event.r#type);
    let columns = [
        ("event_id", event.id == EventId(row.event_id).to_string()),
        ("tenant_id", event.tenant_id == TenantId(row.tenant_id).to_string()),
        ("type", event.r#type == row.r#type),
        ("subject", subject.is_ok_and(|subject| subject == row.subject)),
    ];
    columns.into_iter().find(|(_, fits)| !fits).map(|(column, _)| column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_that_does_not_fit_is_named() {
        let (id, tenant) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let fine = || {
            let event = Event {
                id: EventId(id).into(),
                tenant_id: TenantId(tenant).into(),
                r#type: "ai.request.completed".to_owned(),
                ..Event::default()
            };
            let subject = subject(&event.tenant_id, &event.r#type).unwrap();
            let r#type = event.r#type.clone();
            Row { seq: 1, event_id: id, tenant_id: tenant, r#type, subject, payload: event.encode_to_vec() }
        };

        assert_eq!(wrong(&fine()), None);
        for (spoilt, column) in [
            (Row { payload: b"\xff\xff".to_vec(), ..fine() }, "payload"),
            (Row { event_id: tenant, ..fine() }, "event_id"),
            (Row { tenant_id: id, ..fine() }, "tenant_id"),
            (Row { r#type: "ai.request.failed".to_owned(), ..fine() }, "type"),
            (Row { subject: "mf.evt.ten_x.ai.request.completed".to_owned(), ..fine() }, "subject"),
        ] {
            assert_eq!(wrong(&spoilt), Some(column));
        }
    }
}
