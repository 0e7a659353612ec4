//! What keys are used for: `ai.request.completed` added up per key and hour.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use manifold_bus::{Consumer, Failure, Filter, Handler};
use manifold_contract::events::v1::Event;
use manifold_core::{Error, KeyId, Result, TenantId, Timestamp};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde::Deserialize;

use crate::Identity;
use crate::store::usage::{self as store, Slot, Sums};

pub use crate::store::usage::UsageRow;

/// How far back usage is shown if nobody says.
pub const DEFAULT_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// A million dollars: no request costs more, and sums of less fit their column.
const MAX_COST: i64 = 1_000_000_000_000_000;
/// Tokens and microseconds of one request, at most.
const MAX_COUNT: i64 = 1_000_000_000_000;
const HOUR_US: i64 = 3_600_000_000;
/// How far back usage can be asked for, and how long it is kept.
pub(crate) const MAX_WINDOW: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Adds up many at a time, because each batch is a few statements, however many requests it tells of; but not so many that
/// calls wait for a core meanwhile.
pub fn consumer() -> Consumer {
    let consumer = Consumer::new("identity__usage", Filter::Domain("ai")).gathering(256, Duration::from_millis(15));
    Consumer { ack_wait: Duration::from_secs(5), ..consumer }
}

/// Adds up what keys were used for.
pub struct RollUp;

impl Handler for RollUp {
    fn handle<'t>(&'t self, tx: &'t mut Tx<'_>, events: &'t [Event]) -> BoxFuture<'t, Result<(), Failure>> {
        async move {
            let mut slots = BTreeMap::new();
            for event in events.iter().filter(|event| event.r#type == "ai.request.completed") {
                if let Some((slot, sums)) = read(event)? {
                    let slot: &mut Sums = slots.entry(slot).or_default();
                    slot.add(sums);
                }
            }
            // In the order of the map, so that two processes never wait for each other.
            for (slot, sums) in &slots {
                store::add(tx, slot, sums).await?;
            }
            Ok(())
        }
        .boxed()
    }
}

/// What of an event is added up.
#[derive(Deserialize)]
struct Completed<'e> {
    key_id: Option<&'e str>,
    #[serde(borrow)]
    operation: Cow<'e, str>,
    #[serde(borrow)]
    outcome: Cow<'e, str>,
    input_tokens: i64,
    output_tokens: i64,
    cost_nanos: Option<i64>,
    price_state: &'e str,
    duration_us: i64,
}

/// Where an event belongs and what it adds; None for a request without a key.
fn read(event: &Event) -> Result<Option<(Slot<'_>, Sums)>, Failure> {
    let dead = |source: Error| Failure::Dead { reason: "PAYLOAD_INVALID", source };
    let wrong = || dead(Error::internal("an id of this event is none"));
    let completed: Completed<'_> = serde_json::from_slice(&event.data)
        .map_err(|error| dead(Error::internal("this is no completed request").because(error)))?;
    let Some(key) = completed.key_id else { return Ok(None) };
    let slot = Slot {
        key: KeyId::parse(key).ok_or_else(wrong)?,
        tenant: TenantId::parse(&event.tenant_id).ok_or_else(wrong)?,
        hour: hour(Timestamp::from_micros(event.time_us)),
        outcome: completed.outcome,
        operation: completed.operation,
    };
    let sums = Sums {
        n: 1,
        input_tokens: completed.input_tokens.clamp(0, MAX_COUNT),
        output_tokens: completed.output_tokens.clamp(0, MAX_COUNT),
        cost_nanos: completed.cost_nanos.unwrap_or(0).clamp(0, MAX_COST),
        n_unpriced: (completed.price_state == "unpriced").into(),
        duration_us: completed.duration_us.clamp(0, MAX_COUNT),
    };
    Ok(Some((slot, sums)))
}

/// Since when usage is shown: the beginning of an hour.
pub(crate) fn since(now: Timestamp, window: Duration) -> Result<Timestamp> {
    if window > MAX_WINDOW || window.is_zero() {
        return Err(Error::invalid("WINDOW_INVALID", "window is between an hour and 90 days").at("window"));
    }
    Ok(hour(now.before(window)))
}

/// When the hour of `at` began.
pub(crate) fn hour(at: Timestamp) -> Timestamp {
    Timestamp::from_micros(at.micros() - at.micros().rem_euclid(HOUR_US))
}

impl Sums {
    fn add(&mut self, other: Self) {
        self.n += other.n;
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cost_nanos += other.cost_nanos;
        self.n_unpriced += other.n_unpriced;
        self.duration_us += other.duration_us;
    }
}

impl Identity {
    /// What a key of the caller's tenant was used for since `window` ago, by hour, the oldest first, about a second late.
    /// The first hour is whole. Needs `keys.key.read`.
    pub async fn key_usage(&self, caller: &CallContext, id: KeyId, window: Duration) -> Result<Vec<UsageRow>> {
        self.seen_key(caller, id).await?;
        let from = since(self.inner.clock.now(), window)?;
        let tenant = caller.principal.tenant;
        store::list(&self.inner.db, tenant, id.0, from).await
    }
}
