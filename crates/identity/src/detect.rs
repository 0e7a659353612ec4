//! What looks like an attack: rules over what is refused, and over what is done in bulk. Pure: signs in, findings out. Each
//! process counts for itself; nothing is counted of calls that succeed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use manifold_core::{Principal, TenantId, Timestamp};

/// Subjects that are watched at a time; beyond, the oldest half is forgotten.
const MAX_WATCHED: usize = 20_000;

/// A rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// `medium`, `high` or `critical`.
    pub severity: &'static str,
    /// So many signs …
    n_signs: usize,
    /// … of so many different kinds …
    n_kinds: usize,
    /// … in this time are a finding.
    window: Duration,
    /// For how long the network is blocked that they come from.
    pub blocks: Option<Duration>,
}

const MINUTE: u64 = 60;
const BLOCK: Option<Duration> = Some(Duration::from_secs(15 * MINUTE));

const fn rule(name: &'static str, severity: &'static str, n_signs: usize, seconds: u64) -> Rule {
    Rule { name, severity, n_signs, n_kinds: 1, window: Duration::from_secs(seconds), blocks: None }
}

/// Many accounts are tried from one network.
pub static STUFFING: Rule = Rule { n_kinds: 5, blocks: BLOCK, ..rule("stuffing", "high", 20, 5 * MINUTE) };
/// One account is tried again and again.
pub static BRUTE_FORCE: Rule = rule("brute_force", "medium", 10, 15 * MINUTE);
/// Keys are guessed from one network.
pub static KEY_GUESSING: Rule = Rule { blocks: BLOCK, ..rule("key_guessing", "high", 20, MINUTE) };
/// A key is used that ended more than an hour ago.
pub static DEAD_CREDENTIAL: Rule = rule("dead_credential", "medium", 1, MINUTE);
/// A key is used that nobody should ever use.
pub static CANARY: Rule = Rule { blocks: BLOCK, ..rule("canary", "critical", 1, MINUTE) };
/// A refresh token is used a second time: two have it.
pub static REFRESH_REUSE: Rule = rule("refresh_reuse", "high", 1, MINUTE);
/// A caller looks for what it may not do and what is not its own.
pub static PROBING: Rule = rule("probing", "high", 20, MINUTE);
/// One caller makes many keys.
pub static BULK_KEYS: Rule = rule("bulk_keys", "medium", 10, 10 * MINUTE);
/// One caller exports again and again.
pub static BULK_EXPORTS: Rule = rule("bulk_exports", "medium", 3, 10 * MINUTE);
/// An audit chain is not what it was.
pub static CHAIN_BROKEN: Rule = rule("chain_broken", "critical", 1, MINUTE);

/// One more sign that a rule counts.
#[derive(Clone, Debug)]
pub struct Sign {
    /// Which rule.
    pub rule: &'static Rule,
    /// Whose incident it would be; None = the house's own.
    pub tenant: Option<TenantId>,
    /// Who or what shows it: a network, a person, a key.
    pub subject: String,
    /// Of which kind it is, where kinds are counted.
    pub kind: String,
    /// What somebody who looks into it wants to know: a network, an operation.
    pub seen: String,
}

impl Sign {
    /// Of a rule about what one caller does, in its tenant.
    pub fn by(rule: &'static Rule, caller: &Principal, seen: &str) -> Self {
        let (tenant, subject) = (Some(caller.tenant), caller.subject.to_string());
        Self { rule, tenant, subject, kind: String::new(), seen: seen.to_owned() }
    }
}

/// Enough signs.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The last of them.
    pub sign: Sign,
    /// How many.
    pub count: usize,
    /// Since when.
    pub first_at: Timestamp,
    /// When the last one was.
    pub at: Timestamp,
}

/// The signs of late.
#[derive(Debug, Default)]
pub struct Counters(HashMap<(&'static str, String), VecDeque<(Timestamp, String)>>);

impl Counters {
    /// Counts a sign. What was counted becomes a finding once: then the count begins anew.
    pub fn see(&mut self, sign: Sign, now: Timestamp) -> Option<Finding> {
        if self.0.len() >= MAX_WATCHED {
            self.forget();
        }
        let key = (sign.rule.name, sign.subject.clone());
        let signs = self.0.entry(key.clone()).or_default();
        while signs.front().is_some_and(|(at, _)| now.since(*at) >= sign.rule.window) {
            signs.pop_front();
        }
        if sign.rule.n_signs == 1 {
            // One is enough, once in a while.
            let first = signs.is_empty();
            if first {
                signs.push_back((now, String::new()));
            }
            return first.then_some(Finding { sign, count: 1, first_at: now, at: now });
        }
        signs.push_back((now, sign.kind.clone()));
        let kinds: BTreeSet<_> = signs.iter().map(|(_, kind)| kind).collect();
        if signs.len() >= sign.rule.n_signs && kinds.len() >= sign.rule.n_kinds {
            let first_at = signs.front().map_or(now, |(at, _)| *at);
            let count = self.0.remove(&key).map_or(1, |signs| signs.len());
            return Some(Finding { sign, count, first_at, at: now });
        }
        // Many tries of few accounts are no stuffing, however many they are.
        if signs.len() > 4 * sign.rule.n_signs {
            signs.pop_front();
        }
        None
    }

    /// Forgets the half that showed nothing for the longest time.
    fn forget(&mut self) {
        let last = |signs: &VecDeque<(Timestamp, String)>| signs.back().map_or(Timestamp::default(), |(at, _)| *at);
        let mut times: Vec<_> = self.0.values().map(last).collect();
        times.sort_unstable();
        let middle = times[times.len() / 2];
        let mut left = MAX_WATCHED / 2;
        self.0.retain(|_, signs| {
            let keep = left > 0 && last(signs) >= middle;
            left -= usize::from(keep);
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sign(rule: &'static Rule, subject: &str, kind: &str) -> Sign {
        Sign { rule, tenant: None, subject: subject.to_owned(), kind: kind.to_owned(), seen: String::new() }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_micros(0).after(Duration::from_secs(seconds))
    }

    #[test]
    fn twenty_bad_keys_of_a_network_in_a_minute_are_guessing_and_then_it_begins_anew() {
        let mut counters = Counters::default();
        for n in 0..60 {
            let found = counters.see(sign(&KEY_GUESSING, "203.0.113.0/24", ""), at(n / 2));
            assert_eq!(found.map(|found| found.count), ((n + 1) % 20 == 0).then_some(20), "{n}");
        }
    }

    #[test]
    fn what_is_slow_or_comes_from_elsewhere_is_not_counted_together() {
        let mut counters = Counters::default();
        for n in 0..200 {
            assert!(counters.see(sign(&KEY_GUESSING, "203.0.113.0/24", ""), at(4 * n)).is_none(), "fifteen a minute");
            assert!(counters.see(sign(&KEY_GUESSING, &format!("10.0.{n}.0/24"), ""), at(4 * n)).is_none());
        }
    }

    #[test]
    fn stuffing_needs_five_accounts() {
        let mut counters = Counters::default();
        let mut tries = |n_accounts: u64| {
            (0..100).filter_map(|n| counters.see(sign(&STUFFING, "net", &(n % n_accounts).to_string()), at(n))).count()
        };

        assert_eq!(tries(4), 0);
        assert!(tries(5) > 0);
    }

    #[test]
    fn where_one_sign_is_enough_it_is_told_once_a_minute() {
        let mut counters = Counters::default();
        let found = (0..120).filter_map(|n| counters.see(sign(&DEAD_CREDENTIAL, "key_1", ""), at(n)));

        assert_eq!(found.count(), 2);
    }

    #[test]
    fn the_number_of_watched_subjects_is_bounded_and_the_latest_stay() {
        let mut counters = Counters::default();
        for n in 0..MAX_WATCHED as u64 + 5 {
            counters.see(sign(&KEY_GUESSING, &n.to_string(), ""), at(n));
        }

        assert!(counters.0.len() <= MAX_WATCHED);
        assert!(counters.0.contains_key(&(KEY_GUESSING.name, (MAX_WATCHED + 4).to_string())));
        assert!(!counters.0.contains_key(&(KEY_GUESSING.name, "0".to_owned())));
    }
}
