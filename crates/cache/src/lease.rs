//! Small stocks of units that were taken from a shared count and may be spent here without asking again.
//!
//! A stock dies soon, and what is left of it is lost to everybody, so its size follows what a key really spends: it starts
//! at one unit and doubles when it is spent within half its life. After one has died, the next is as large as what was spent
//! since the pause before. A steady caller loses nothing, and who comes in equal bursts loses only once. A
//! key never has two stocks here at a time: that is what bounds how much more than the limit may pass.

use std::time::Duration;

use crate::Decision;
use crate::shards::Shards;

/// Microseconds for which others do without a stock while one request fetches it.
const FETCH: u64 = 100_000;

/// The stocks of one process.
pub(crate) struct Leases(Shards<Lease>);

#[derive(Debug, Default)]
struct Lease {
    units: u64,
    /// Units of the whole stock.
    size: u64,
    /// Units spent from stocks since `since`: a life of a stock long, at most.
    spent: u64,
    /// As many of them are expected, because that was the burst before; 0 = unknown.
    expected: u64,
    /// Times in microseconds.
    since: u64,
    half_at: u64,
    dies_at: u64,
    fetched_until: u64,
    /// What the shared count had left when the stock was taken, and when everything will have come back.
    elsewhere: u64,
    full_at: u64,
}

/// How much may be in stock, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) max: u64,
    pub(crate) ttl: Duration,
}

/// What the shared count granted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Granted {
    pub(crate) units: u64,
    pub(crate) remaining: u64,
    pub(crate) reset: u64,
}

/// How a charge goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Paid from stock.
    Paid(Decision),
    /// Ask the shared count for so many units. What is not for the charge itself becomes a stock.
    Fetch(u64),
    /// Ask the shared count for the charge itself: there can be no stock, or another request fetches it.
    Bypass,
}

impl Leases {
    /// Room for stocks of about `max` keys; others are counted one by one.
    pub(crate) fn new(max: usize) -> Self {
        Self(Shards::new(max))
    }

    /// Pays `n` units from the stock of `slot` at `now` (microseconds), or tells what to ask for.
    pub(crate) fn pay(&self, slot: u128, terms: Terms, n: u64, now: u64) -> Next {
        if terms.max <= n || !self.0.has_room(slot, now) {
            return Next::Bypass;
        }
        self.0.update(slot, |lease| (None, lease.pay(terms, n, now)))
    }

    /// Takes in what was granted to a fetch for a charge of `n` units that began at `now`.
    pub(crate) fn stock(&self, slot: u128, terms: Terms, n: u64, granted: Granted, now: u64) {
        if self.0.has_room(slot, now) {
            self.0.update(slot, |lease| lease.stock(terms, n, granted, now));
        }
    }
}

impl Lease {
    fn pay(&mut self, terms: Terms, n: u64, now: u64) -> Next {
        let alive = now < self.dies_at;
        if alive && self.units >= n {
            self.units -= n;
            self.spent += n;
            return Next::Paid(Decision::admitted(self.units + self.elsewhere, self.full_at.saturating_sub(now)));
        }
        if now < self.fetched_until {
            return Next::Bypass;
        }
        let size = match now {
            _ if now < self.half_at && self.spent < self.expected => self.expected - self.spent,
            _ if now < self.half_at => self.size * 2,
            _ if alive => self.size,
            _ if now < self.dies_at + micros(terms.ttl) => self.spent,
            _ => 1,
        };
        self.fetched_until = now + FETCH;
        Next::Fetch(size.clamp(n, terms.max))
    }

    /// A smaller stock never takes the place of a larger one, and two are never added up.
    fn stock(&mut self, terms: Terms, n: u64, granted: Granted, now: u64) -> (Option<u64>, ()) {
        let (units, ttl) = (granted.units - n, micros(terms.ttl));
        if now < self.dies_at && units < self.units {
            return (None, ());
        }
        let (since, spent, expected) = match now {
            _ if now < self.since + ttl => (self.since, self.spent, self.expected),
            _ if now < self.dies_at => (now, 0, 0),
            _ if now < self.dies_at + ttl => (now, 0, self.spent),
            _ => (now, 0, 0),
        };
        *self = Self {
            units,
            size: granted.units,
            spent: spent + n,
            expected,
            since,
            half_at: now + ttl / 2,
            dies_at: now + ttl,
            fetched_until: 0,
            elsewhere: granted.remaining,
            full_at: now + granted.reset,
        };
        (Some(now + 2 * ttl), ())
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const TERMS: Terms = Terms { max: 20, ttl: Duration::from_secs(1) };

    /// Calls with one unit each at these times, every question answered in full; the units that were asked for.
    fn asked(times: impl Iterator<Item = u64>) -> Vec<u64> {
        let leases = Leases::new(10);
        let pay = |now| match leases.pay(1, TERMS, 1, now) {
            Next::Paid(_) => None,
            Next::Bypass => Some(1),
            Next::Fetch(units) => {
                leases.stock(1, TERMS, 1, Granted { units, remaining: 0, reset: 0 }, now);
                Some(units)
            }
        };
        times.filter_map(pay).collect()
    }

    #[test]
    fn a_steady_caller_asks_rarely_and_loses_nothing() {
        for every in [SECOND, SECOND / 5, SECOND / 13, SECOND / 100] {
            let calls = 10 * SECOND / every;

            let asked = asked((1..=calls).map(|call| SECOND + call * every));

            let total: u64 = asked.iter().sum();
            assert!(total - calls < 20, "only what is in stock at the end: {asked:?}");
            assert!(asked.len() as u64 <= 5 + calls.div_ceil(20).max(20), "{asked:?}");
        }
    }

    #[test]
    fn a_stock_grows_with_a_crowd_and_starts_small_after_silence() {
        let crowd = (0..60).map(|call| SECOND + call * 100);

        assert_eq!(asked(crowd.clone()), [1, 2, 4, 8, 16, 20, 20]);
        assert_eq!(asked(crowd.chain([10 * SECOND])), [1, 2, 4, 8, 16, 20, 20, 1]);
    }

    #[test]
    fn bursts_lose_what_the_first_one_asked_for_in_vain_and_nothing_more() {
        for size in 1..50 {
            let burst = move |round: u64| (0..size).map(move |call| SECOND + round * 1_200_000 + call * 100);

            let asked = asked((0..20).flat_map(burst));

            let lost = asked.iter().sum::<u64>() - 20 * size;
            assert!(lost < 20, "{size} calls at a time lost {lost} units: {asked:?}");
        }
    }

    #[test]
    fn what_died_cannot_be_spent() {
        let leases = Leases::new(10);
        leases.stock(1, TERMS, 1, Granted { units: 10, remaining: 0, reset: 0 }, SECOND);

        assert!(matches!(leases.pay(1, TERMS, 1, 2 * SECOND - 1), Next::Paid(_)));
        assert_eq!(leases.pay(1, TERMS, 1, 2 * SECOND), Next::Fetch(2));
    }

    #[test]
    fn while_one_request_fetches_others_ask_for_themselves_only() {
        let leases = Leases::new(10);
        leases.stock(1, TERMS, 1, Granted { units: 1, remaining: 0, reset: 0 }, SECOND);

        assert_eq!(leases.pay(1, TERMS, 1, SECOND), Next::Fetch(2));
        assert_eq!(leases.pay(1, TERMS, 1, SECOND), Next::Bypass, "and leave the stock alone");
        assert_eq!(leases.pay(1, TERMS, 1, SECOND + FETCH), Next::Fetch(2), "the first one never came back");
    }

    #[test]
    fn two_stocks_are_never_added_up() {
        let leases = Leases::new(10);
        for units in [10, 15, 3] {
            leases.stock(1, TERMS, 1, Granted { units, remaining: 0, reset: 0 }, SECOND);
        }

        let paid = (0..100).filter(|_| matches!(leases.pay(1, TERMS, 1, SECOND), Next::Paid(_))).count();

        assert_eq!(paid, 14);
    }
}
