//! Credits: how many calls a key has left, and when they are filled up again.

use std::sync::Arc;

use jiff::ToSpan;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use manifold_core::{Code, Error, KeyId, Result, TenantId, Timestamp};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Origin;
use crate::audit::Outbox;
use crate::store::credit as store;
use crate::{Identity, events};

/// Credits of a key, at most.
pub const MAX_CREDITS: i64 = 1_000_000_000_000;

/// When credits are filled up, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refill {
    /// Whoever has less has so many afterwards.
    pub amount: i64,
    /// How often.
    pub every: Every,
    /// Of a day the hour, 0 to 23; of a month the day, 1 to 28. In UTC.
    pub at: u8,
}

/// How often something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Once a day.
    Day,
    /// Once a month.
    Month,
}

impl Every {
    /// `day` or `month`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// Reads a name.
    ///
    /// # Errors
    /// `CREDITS_INVALID`.
    pub fn parse(name: &str) -> Result<Self> {
        [Self::Day, Self::Month]
            .into_iter()
            .find(|every| every.name() == name)
            .ok_or_else(|| Error::invalid("CREDITS_INVALID", "every is day or month").at("refill.every"))
    }
}

impl Refill {
    /// Refuses what cannot be.
    ///
    /// # Errors
    /// `CREDITS_INVALID`.
    pub(crate) fn check(&self) -> Result<()> {
        let at = match self.every {
            Every::Day => self.at <= 23,
            Every::Month => (1..=28).contains(&self.at),
        };
        if !at {
            let message = "of a day it is an hour from 0 to 23, of a month a day from 1 to 28";
            return Err(Error::invalid("CREDITS_INVALID", message).at("refill.at"));
        }
        check_credits(self.amount).map_err(|error| error.at("refill.amount"))
    }

    /// The next time after `now`; None at the end of the calendar.
    pub(crate) fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let today = jiff::Timestamp::from_microsecond(now.micros()).ok()?.to_zoned(TimeZone::UTC).date();
        let at = i8::try_from(self.at).ok()?;
        let (first, step) = match self.every {
            Every::Day => (today.at(at, 0, 0, 0), 1.day()),
            Every::Month => (today.with().day(at).build().ok()?.at(0, 0, 0, 0), 1.month()),
        };
        let timestamp = |time: DateTime| Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_microsecond());
        let first_at = timestamp(first)?;
        let next = if first_at > now.micros() { first_at } else { timestamp(first.checked_add(step).ok()?)? };
        Some(Timestamp::from_micros(next))
    }
}

/// Refuses numbers of credits that cannot be.
pub(crate) fn check_credits(credits: i64) -> Result<()> {
    if (0..=MAX_CREDITS).contains(&credits) {
        return Ok(());
    }
    Err(Error::invalid("CREDITS_INVALID", "credits are a number from 0 to 1000000000000").at("credits"))
}

/// What came of an attempt to spend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    /// It was spent; so many are left.
    Left(i64),
    /// Nothing was spent: there are too few until they are filled up, if ever.
    TooFew(Option<Timestamp>),
    /// The key has no credits that could be spent any more, and needs none.
    Free,
}

impl Identity {
    /// Spends a credit of the key that calls, for [`manifold_core::Principal::metered`] callers whose call passed every other
    /// check.
    ///
    /// # Errors
    /// `USAGE_EXCEEDED` if none is left.
    pub async fn charge(&self, caller: &CallContext) -> Result<()> {
        let Some(key) = caller.principal.key else { return Ok(()) };
        match self.spend(caller, key, 1).await? {
            Spent::Left(_) | Spent::Free => Ok(()),
            Spent::TooFew(refill_at) => {
                self.inner.used.count(key, caller.principal.tenant, "call", "usage_exceeded", self.inner.clock.now());
                let error = Error::new(Code::Exhausted, "USAGE_EXCEEDED", "this API key has no credits left");
                let now = self.inner.clock.now();
                Err(match refill_at {
                    Some(at) => error.retry_after(at.since(now)),
                    None => error,
                })
            }
        }
    }

    /// Spends credits of a key of the caller's tenant, all or none.
    pub(crate) async fn spend(&self, caller: &CallContext, key: KeyId, n: i64) -> Result<Spent> {
        let now = self.inner.clock.now();
        let work = Arc::new((self.inner.outbox.clone(), Origin::of(caller)));
        let spent = self.inner.db.write("spend credits", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move { spend(tx, &work.0, &work.1, key, n, now).await })
        });
        spent.await
    }
}

async fn spend(tx: &mut Tx<'_>, outbox: &Outbox, origin: &Origin, key: KeyId, n: i64, now: Timestamp) -> Result<Spent> {
    let tenant = origin.principal.tenant;
    if let Some(left) = store::spend(tx, tenant, key, n, now).await? {
        return Ok(Spent::Left(left));
    }
    let Some(balance) = store::balance(tx, tenant, key).await?.filter(|balance| balance.credits.is_some()) else {
        return Ok(Spent::Free);
    };
    let due = balance.refill_at.map(Timestamp::from).filter(|due| *due <= now);
    let refill_at = match (due, balance.refill) {
        (Some(due), Some(refill)) => {
            let next = refill.0.next(now);
            store::refill(tx, tenant, key, refill.0.amount, due, next).await?;
            next
        }
        _ => balance.refill_at.map(Timestamp::from),
    };
    // Filled up just now, by this call or another.
    if let Some(left) = store::spend(tx, tenant, key, n, now).await? {
        return Ok(Spent::Left(left));
    }
    if store::note_exhausted(tx, tenant, key, now).await? {
        outbox.append(tx, &[exhausted(tenant, key, refill_at, now)], &origin.cause()).await?;
    }
    Ok(Spent::TooFew(refill_at))
}

/// Told once, until there are credits again.
fn exhausted(tenant: TenantId, key: KeyId, refill_at: Option<Timestamp>, now: Timestamp) -> manifold_bus::Draft {
    let refill_at = refill_at.map(|time| time.to_string());
    let data = json!({ "id": key.to_string(), "exhausted_at": now.to_string(), "refill_at": refill_at });
    events::key("identity.key.exhausted", tenant, key, &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(every: Every, at: u8, now: &str) -> String {
        let refill = Refill { amount: 1, every, at };
        refill.check().unwrap();
        refill.next(Timestamp::parse(now).unwrap()).unwrap().to_string()
    }

    #[test]
    fn credits_are_filled_up_at_the_next_hour_or_day_of_utc() {
        for (every, at, now, expected) in [
            (Every::Day, 0, "2026-11-30T10:00:00Z", "2026-12-01T00:00:00Z"),
            (Every::Day, 12, "2026-11-30T10:00:00Z", "2026-11-30T12:00:00Z"),
            (Every::Day, 12, "2026-11-30T12:00:00Z", "2026-12-01T12:00:00Z"),
            (Every::Day, 23, "2026-12-31T23:00:00.000001Z", "2027-01-01T23:00:00Z"),
            (Every::Month, 1, "2026-11-30T10:00:00Z", "2026-12-01T00:00:00Z"),
            (Every::Month, 28, "2026-01-31T10:00:00Z", "2026-02-28T00:00:00Z"),
            (Every::Month, 15, "2026-12-15T00:00:00Z", "2027-01-15T00:00:00Z"),
            (Every::Month, 15, "2026-12-14T23:59:59.999999Z", "2026-12-15T00:00:00Z"),
        ] {
            assert_eq!(next(every, at, now), expected, "{every:?} {at} {now}");
        }
    }

    #[test]
    fn refills_that_cannot_be_are_refused() {
        for (amount, every, at, param) in [
            (1, Every::Day, 24, "refill.at"),
            (1, Every::Month, 0, "refill.at"),
            (1, Every::Month, 29, "refill.at"),
            (-1, Every::Day, 0, "refill.amount"),
            (MAX_CREDITS + 1, Every::Day, 0, "refill.amount"),
        ] {
            assert_eq!(Refill { amount, every, at }.check().unwrap_err().param(), Some(param));
        }
    }
}
