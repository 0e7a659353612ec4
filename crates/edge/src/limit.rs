//! Limits as requests meet them: which of them apply, in which order they are charged, and what is refused. How they are
//! told is in `limit/told.rs`; the arithmetic is in the cache crate.

mod told;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use manifold_cache::{Charge, Decision, Entry, Gate, Leaving, Limiter, Place, Policy, Shared};
use manifold_core::{Error, Principal, RequestId, SubjectKind, Timestamp, UserId};
use manifold_identity::{Limited, OwnLimits};
use tokio::time::Instant;

use crate::caps;
use crate::config::Per;
use crate::config::limits::{AtOnce, Checked, Count};
use crate::refusal::{Answer, Refusal};
use crate::routes::Operation;
pub(crate) use told::Told;

/// Callers that are counted at once, and as many addresses; beyond, idle ones are forgotten first.
const MAX_SUBJECTS: usize = 100_000;
/// When a request ends nobody knows, and most end soon.
const NEXT_PLACE: Duration = Duration::from_secs(1);

/// The limits that everybody meets.
pub(crate) struct Limits {
    /// Counted apart, so that a flood from many addresses takes no room from callers who are known.
    addresses: Table,
    callers: Table,
    /// What counts the limits that were given to somebody.
    own: Arc<Limiter>,
}

/// Limits that are charged together, from first to last.
struct Table {
    limits: Vec<Limit>,
    limiter: Limiter,
}

struct Limit {
    name: String,
    per: Per,
    routes: Vec<String>,
    meter: Meter,
    /// As clients see it; None = it changes with the month.
    told: Option<String>,
}

enum Meter {
    Rate(Policy),
    Gate(u64, Gate),
}

/// One request, as limits see it.
pub(crate) struct Asking<'a> {
    pub(crate) operation: &'a Operation,
    pub(crate) client: IpAddr,
    pub(crate) request: RequestId,
    /// None = not known yet, or nobody.
    pub(crate) caller: Option<&'a Principal>,
    pub(crate) now: Timestamp,
    /// When its places in Redis are free again, whether it has ended or not.
    pub(crate) until: Instant,
}

/// What a request has met: what is told about it, and the places that it holds until it ends.
#[derive(Default)]
pub(crate) struct Met {
    pub(crate) told: Told,
    /// No more memory than a pointer while there are none.
    places: Vec<Place>,
}

impl Limits {
    /// Nothing used yet in this process. `shared` is where limits of several processes are counted, `own` counts those that
    /// were given to somebody. Somebody has to run what else is returned.
    pub(crate) fn new(checked: Vec<Checked>, shared: Option<&Shared>, own: Arc<Limiter>) -> (Self, Vec<Leaving>) {
        let mut leaving = Vec::new();
        let (addresses, callers): (Vec<_>, Vec<_>) = checked.into_iter().partition(|limit| limit.per == Per::Ip);
        let mut table = |limits: Vec<Checked>| Table {
            limits: limits.into_iter().map(|limit| Limit::new(limit, shared, &mut leaving)).collect(),
            limiter: Limiter::new(MAX_SUBJECTS, shared.cloned()),
        };
        let limits = Self { addresses: table(addresses), callers: table(callers), own };
        (limits, leaving)
    }

    /// Charges the address, before anything is looked up.
    pub(crate) async fn charge_address(&self, asking: &Asking<'_>, met: &mut Met) -> Answer<()> {
        self.addresses.tell(asking, met);
        self.addresses.charge(asking, &self.addresses.limiter, met).await
    }

    /// Charges the caller and whom he belongs to: first the limits that everybody meets, then `own`.
    pub(crate) async fn charge_caller(&self, asking: &Asking<'_>, own: &[OwnLimits], met: &mut Met) -> Answer<()> {
        self.callers.tell(asking, met);
        for policy in own.iter().flat_map(|own| &*own.policies) {
            met.told.policy(&told::rate(policy, asking.now));
        }
        // Where nobody is known an address is counted, and it takes its room among addresses.
        let known = asking.caller.is_some();
        let limiter = if known { &self.callers.limiter } else { &self.addresses.limiter };
        self.callers.charge(asking, limiter, met).await?;
        for own in own {
            for policy in &*own.policies {
                let name = Name { shown: policy.name(), scope: "own", who: whose(own.of) };
                let charged = self.own.charge(policy, own.counter, 1, asking.now).await;
                settle(charged, name, asking.now, &mut met.told)?;
            }
        }
        Ok(())
    }
}

impl Table {
    fn applying<'t>(&'t self, asking: &'t Asking<'_>) -> impl Iterator<Item = (&'t Limit, u128)> {
        self.limits.iter().filter_map(|limit| limit.subject(asking).map(|subject| (limit, subject)))
    }

    /// Everything that applies is told, whoever refuses.
    fn tell(&self, asking: &Asking<'_>, met: &mut Met) {
        for (limit, _) in self.applying(asking) {
            limit.tell(asking.now, &mut met.told);
        }
    }

    /// What an earlier limit was charged stays spent when a later one refuses.
    async fn charge(&self, asking: &Asking<'_>, limiter: &Limiter, met: &mut Met) -> Answer<()> {
        for (limit, subject) in self.applying(asking) {
            match &limit.meter {
                Meter::Rate(policy) => {
                    let charged = limiter.charge(policy, subject, 1, asking.now).await;
                    settle(charged, limit.name(), asking.now, &mut met.told)?;
                }
                // What carries other requests leaves the places to them.
                Meter::Gate(..) if asking.operation.carries() => {}
                // Boxed, so that the future of a request without such a limit stays small.
                Meter::Gate(_, gate) => Box::pin(limit.enter(gate, subject, asking, met)).await?,
            }
        }
        Ok(())
    }
}

impl Limit {
    fn new(limit: Checked, shared: Option<&Shared>, leaving: &mut Vec<Leaving>) -> Self {
        let name = limit.name().to_owned();
        let (told, meter) = match limit.count {
            Count::Rate(policy) => {
                let even = policy.is_even();
                (even.then(|| told::rate(&policy, Timestamp::default())), Meter::Rate(policy))
            }
            Count::AtOnce(AtOnce { name, max, shared: together, on_store_failure }) => {
                let told = told::at_once(&name, max);
                let gate = match shared.filter(|_| together) {
                    Some(shared) => {
                        let (gate, left) = Gate::shared(name, max, MAX_SUBJECTS, shared.clone(), on_store_failure);
                        leaving.push(left);
                        gate
                    }
                    None => Gate::local(max, MAX_SUBJECTS),
                };
                (Some(told), Meter::Gate(max, gate))
            }
        };
        Self { name, per: limit.per, routes: limit.routes, meter, told }
    }

    /// Who is counted; None = this limit is not about the request.
    fn subject(&self, asking: &Asking<'_>) -> Option<u128> {
        if !self.routes.is_empty() && !self.routes.contains(&asking.operation.id) {
            return None;
        }
        let address = || caps::network(asking.client);
        match self.per {
            Per::Ip => Some(address()),
            Per::Key => asking.caller?.key.map(|key| key.0.as_u128()),
            Per::User => user(asking.caller?),
            Per::Tenant => asking.caller.map(|caller| caller.tenant.0.as_u128()),
            Per::Route => {
                let known = |caller: &Principal| caller.key.map(|key| key.0.as_u128()).or_else(|| user(caller));
                Some(asking.caller.and_then(known).unwrap_or_else(address) ^ asking.operation.salt)
            }
        }
    }

    fn tell(&self, now: Timestamp, told: &mut Told) {
        match (&self.told, &self.meter) {
            (Some(text), _) => told.policy(text),
            (None, Meter::Rate(policy)) => told.policy(&told::rate(policy, now)),
            (None, Meter::Gate(max, _)) => told.policy(&told::at_once(&self.name, *max)),
        }
    }

    fn name(&self) -> Name<'_> {
        Name { shown: &self.name, scope: &self.name, who: who(self.per) }
    }

    /// Gives a request its place among those that are answered at once.
    async fn enter(&self, gate: &Gate, subject: u128, asking: &Asking<'_>, met: &mut Met) -> Answer<()> {
        let lifetime = asking.until.saturating_duration_since(Instant::now());
        let entered = gate.enter(subject, asking.request.0.as_u128(), lifetime, asking.now).await;
        let degraded = match &entered {
            Ok(Entry::Entered(place)) => place.degraded(),
            Ok(Entry::Full { degraded, .. }) => *degraded,
            Err(_) => true,
        };
        let name = self.name();
        name.count_degraded(degraded);
        match entered.map_err(|error| name.away(error))? {
            Entry::Entered(place) => {
                met.told.state(name.shown, place.remaining(), None, degraded);
                met.places.push(place);
                Ok(())
            }
            Entry::Full { retry_after, .. } => {
                let wait = spread(retry_after.min(NEXT_PLACE), asking.now);
                met.told.state(name.shown, 0, Some(wait), degraded);
                Err(name.refuse("has too many requests that are being answered; let some of them end first", wait))
            }
        }
    }
}

/// What a limit is called by clients and in metrics, and whom it is about.
#[derive(Clone, Copy)]
struct Name<'n> {
    shown: &'n str,
    scope: &'n str,
    who: &'static str,
}

impl Name<'_> {
    fn count_degraded(self, degraded: bool) {
        if degraded {
            metrics::counter!("manifold_rate_limit_degraded_total", "scope" => self.scope.to_owned()).increment(1);
        }
    }

    fn refuse(self, why: &str, wait: Duration) -> Refusal {
        metrics::counter!("manifold_rate_limited_total", "scope" => self.scope.to_owned()).increment(1);
        let message = format!("{} {why}", self.who);
        let refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMIT_EXCEEDED", message).retry_after(wait);
        Refusal { violated: Some(self.shown.into()), ..refusal }
    }

    fn away(self, error: Error) -> Refusal {
        Refusal { violated: Some(self.shown.into()), ..Refusal::from(error) }
    }
}

/// Turns a charge into what is told and into a refusal.
fn settle(charged: Result<Charge, Error>, name: Name<'_>, now: Timestamp, told: &mut Told) -> Answer<()> {
    name.count_degraded(!matches!(charged, Ok(Charge { degraded: false, .. })));
    let Charge { decision, degraded } = charged.map_err(|error| name.away(error))?;
    match decision {
        Decision::Admitted { remaining, reset } => {
            told.state(name.shown, remaining, Some(reset), degraded);
            Ok(())
        }
        Decision::Denied { retry_after } => {
            let wait = spread(retry_after, now);
            told.state(name.shown, 0, Some(wait), degraded);
            Err(name.refuse("has made too many requests; wait as long as Retry-After says", wait))
        }
    }
}

fn whose(of: Limited) -> &'static str {
    match of {
        Limited::Key(_) => who(Per::Key),
        Limited::Owner(_) => "the owner of this API key",
        Limited::User(_) => who(Per::User),
        Limited::Tenant => who(Per::Tenant),
    }
}

fn user(caller: &Principal) -> Option<u128> {
    UserId::parse(&caller.subject).filter(|_| caller.kind == SubjectKind::User).map(|user| user.0.as_u128())
}

fn who(per: Per) -> &'static str {
    match per {
        Per::Ip => "this address",
        Per::Key => "this API key",
        Per::User => "this person",
        Per::Tenant => "this tenant",
        Per::Route => "the caller of this operation",
    }
}

/// Up to a tenth or a minute longer, so that those who were refused together do not return together.
fn spread(wait: Duration, now: Timestamp) -> Duration {
    let share = u32::try_from(now.micros().rem_euclid(100)).unwrap_or_default();
    wait + (wait / 1_000 * share).min(Duration::from_secs(60))
}

#[cfg(test)]
#[path = "limit_tests.rs"]
mod tests;
