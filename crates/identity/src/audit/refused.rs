//! What was refused: failed logins and denied calls, counted in memory. Each minute becomes one entry per action and subject,
//! so that a flood of refusals costs no more than one.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use manifold_bus::Draft;
use manifold_core::{Error, Principal, Result, TenantId, Timestamp, UserId};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;
use uuid::Uuid;

use crate::Identity;
use crate::detect::{BRUTE_FORCE, CANARY, DEAD_CREDENTIAL, KEY_GUESSING, PROBING, STUFFING, Sign};
use crate::network::Network;
use crate::origin::Origin;
use crate::store::user;

const EVERY: Duration = Duration::from_secs(2);
const MINUTE_US: i64 = 60_000_000;
/// Subjects that are told apart in a minute; beyond, refusals are counted by the metrics only.
const MAX_SLOTS: usize = 10_000;
/// How long after its end a key or a secret of it may be used by mistake: it may be in its owner's pocket still.
const STILL_USED: Duration = Duration::from_secs(3_600);
/// Places and operations that an entry names.
const MAX_NAMED: usize = 8;

/// Refusals since the last minute that was written down.
#[derive(Default)]
pub struct Refused(Mutex<HashMap<Slot, Tally>>);

/// Whose refusals are counted together.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Slot {
    /// Minutes since 1970.
    minute: i64,
    who: Who,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Who {
    /// A person as whom somebody tries to log in.
    Person(UserId),
    /// Nobody has the address that is tried: all of these together, or strangers would fill the chain.
    Nobody,
    /// A caller who may not do what he asked for.
    Caller { tenant: TenantId, subject: Arc<str> },
}

#[derive(Clone, Default)]
struct Tally {
    count: u64,
    networks: BTreeSet<String>,
    operations: BTreeSet<String>,
}

impl Refused {
    fn note(&self, who: Who, ip: IpAddr, operation: Option<String>, now: Timestamp) {
        let slot = Slot { minute: now.micros().div_euclid(MINUTE_US), who };
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_SLOTS && !slots.contains_key(&slot) {
            return;
        }
        let tally = slots.entry(slot).or_default();
        tally.count += 1;
        name(&mut tally.networks, Network::of(ip).to_string());
        if let Some(operation) = operation {
            name(&mut tally.operations, operation);
        }
    }

    /// What was counted in minutes before `minute`.
    fn take(&self, minute: i64) -> Vec<(Slot, Tally)> {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        slots.extract_if(|slot, _| slot.minute < minute).collect()
    }
}

fn name(named: &mut BTreeSet<String>, new: String) {
    if named.len() < MAX_NAMED {
        named.insert(new);
    }
}

impl Identity {
    /// Somebody tried a wrong password, or tried too early. `account` stands for the address that was typed.
    pub(crate) fn note_failed_login(&self, user: Option<UserId>, account: &str, ip: IpAddr) {
        let (network, seen) = (Network::of(ip).to_string(), "a failed login".to_owned());
        if let Some(user) = user {
            let (subject, kind) = (user.to_string(), String::new());
            self.note_sign(Sign { rule: &BRUTE_FORCE, tenant: None, subject, kind, seen: network.clone() });
        }
        self.note_sign(Sign { rule: &STUFFING, tenant: None, subject: network, kind: account.to_owned(), seen });
        let who = user.map_or(Who::Nobody, Who::Person);
        self.inner.refused.note(who, ip, None, self.inner.clock.now());
    }

    /// A caller was denied an operation, such as `POST /v1/keys`.
    pub fn note_denied(&self, tenant: TenantId, subject: &Arc<str>, ip: IpAddr, operation: String) {
        self.note_missed(tenant, subject, operation.clone());
        let who = Who::Caller { tenant, subject: Arc::clone(subject) };
        self.inner.refused.note(who, ip, Some(operation), self.inner.clock.now());
    }

    /// A caller asked for something that is not there, or not its own.
    pub fn note_missed(&self, tenant: TenantId, subject: &Arc<str>, operation: String) {
        let subject = subject.to_string();
        self.note_sign(Sign { rule: &PROBING, tenant: Some(tenant), subject, kind: String::new(), seen: operation });
    }

    /// A key was presented that does not hold, for the reason of `error`.
    pub fn note_refused_key(&self, presented: &str, ip: IpAddr, error: &Error) {
        let network = Network::of(ip).to_string();
        match error.reason() {
            "INVALID_KEY" if self.note_canary(presented, Some(&network)) => {}
            "INVALID_KEY" => {
                let (subject, kind, seen) = (network, String::new(), "a key that does not exist".to_owned());
                self.note_sign(Sign { rule: &KEY_GUESSING, tenant: None, subject, kind, seen });
            }
            "KEY_DISABLED" | "KEY_EXPIRED" => {
                let now = self.inner.clock.now();
                let long_ago = |ended: Timestamp| now.since(ended) >= STILL_USED;
                let known = self.recall(presented).filter(|known| known.ended_at.is_none_or(long_ago));
                if let Some(known) = known {
                    self.note_sign(Sign::by(&DEAD_CREDENTIAL, &known.principal, &network));
                }
            }
            _ => {}
        }
    }

    /// Notes that a key was presented that nobody should ever use, if it is one.
    pub(crate) fn note_canary(&self, presented: &str, network: Option<&str>) -> bool {
        let Some(known) = self.recall(presented).filter(|known| known.canary) else { return false };
        let (tenant, seen) = (Some(known.principal.tenant), known.principal.subject.to_string());
        let subject = network.map_or_else(|| seen.clone(), str::to_owned);
        self.note_sign(Sign { rule: &CANARY, tenant, subject, kind: String::new(), seen });
        true
    }
}

/// Writes down what was refused until shutdown, and the rest then.
pub async fn run(identity: Identity) {
    let stop = identity.inner.tasks.token();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        flush(&identity, identity.inner.clock.now().micros().div_euclid(MINUTE_US)).await;
    }
    flush(&identity, i64::MAX).await;
}

/// Writes down the minutes before `minute`. What cannot be written is lost, and said in the log.
async fn flush(identity: &Identity, minute: i64) {
    for (slot, tally) in identity.inner.refused.take(minute) {
        let count = tally.count;
        if let Err(error) = write(identity, slot, tally).await {
            warn!(%error, count, "cannot write down what was refused");
        }
    }
}

async fn write(identity: &Identity, slot: Slot, tally: Tally) -> Result<()> {
    let inner = &identity.inner;
    let minute = Timestamp::from_micros(slot.minute * MINUTE_US).to_string();
    let (principal, type_, subject) = match slot.who {
        Who::Person(user) => {
            let tenant = user::home(&inner.db, user).await?.unwrap_or(TenantId(Uuid::nil()));
            (Principal { tenant, ..Principal::anonymous() }, "identity.login.failed", user.to_string())
        }
        Who::Nobody => (Principal::anonymous(), "identity.login.failed", "nobody".to_owned()),
        Who::Caller { tenant, subject } => {
            let target = subject.to_string();
            (Principal { tenant, subject, ..Principal::anonymous() }, "identity.access.denied", target)
        }
    };
    let mut data = json!({ "count": tally.count, "minute": minute, "networks": tally.networks });
    if !tally.operations.is_empty() {
        data["operations"] = json!(tally.operations);
    }
    let draft = Draft { type_, subject, tenant: principal.tenant, data: data.to_string().into() };
    let origin = Origin::unasked(&inner.ids, principal);
    let work = Arc::new((inner.outbox.clone(), draft, origin));
    let written = inner.db.write("write down what was refused", move |tx| {
        let work = Arc::clone(&work);
        Box::pin(async move {
            let (outbox, draft, origin) = &*work;
            outbox.append(tx, std::slice::from_ref(draft), &origin.cause()).await
        })
    });
    written.await
}
