//! Limits as typed, one section each, and the list of them that we run on.

use std::collections::BTreeMap;

use manifold_cache::{Algorithm, Mode, OnStoreFailure, Policy, Window};
use manifold_core::{Error, Result};
use serde::Deserialize;

use super::wrong;
use crate::openapi;

/// Longest name of a limit.
const MAX_NAME: usize = 40;

/// Limits that callers meet, beside those that were given to single ones of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests of one API key; absent = no limit. The same as a policy of the name `key`.
    pub per_key: Option<Limit>,
    /// Further limits by name: lower-case letters, digits, `-` and `_`. Clients see the name.
    pub policies: BTreeMap<String, Limit>,
}

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Those from one IPv4 address or one IPv6 /64, counted before anything is looked up.
    Ip,
    /// Those with one API key.
    #[default]
    Key,
    /// Those of one person who is logged in.
    User,
    /// Those of one tenant.
    Tenant,
    /// Those of one caller, each operation by itself. Who needs no key to call it is known by address.
    Route,
}

/// Requests that are counted together: so many in so much time, so many at once, or both.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limit {
    /// Whose requests are counted together.
    pub per: Per,
    /// Operations that are counted, by the `operationId` of the contract; empty = all.
    pub routes: Vec<String>,
    /// Requests per window; absent = any number.
    pub quota: Option<u64>,
    /// Length of the window; `day` and `month` are those of the calendar, in UTC. What was spent in it is known to each
    /// process until that ends, and to Redis if the limit is shared: not to the database.
    pub window: Option<Window>,
    /// Requests that may come within a moment; absent = the quota.
    pub burst: Option<u64>,
    /// How requests are counted; absent = `gcra`, and `fixed` for a day or month of the calendar.
    pub algorithm: Option<Algorithm>,
    /// Requests that may be answered at once, from their admission to the last byte of their answers; absent = any number.
    pub concurrent: Option<u64>,
    /// Who counts together; all but `local` need `cache.redis_url`. Requests at once are counted without stocks: `leased`
    /// is `strict` for them.
    pub mode: Mode,
    /// What happens to a shared limit while Redis is away.
    pub on_store_failure: OnStoreFailure,
}

/// One limit, checked.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) per: Per,
    pub(crate) routes: Vec<String>,
    pub(crate) count: Count,
}

/// What is counted.
#[derive(Clone, Debug)]
pub(crate) enum Count {
    /// Requests in time.
    Rate(Policy),
    /// Requests at once.
    AtOnce(AtOnce),
}

/// Requests at once.
#[derive(Clone, Debug)]
pub(crate) struct AtOnce {
    pub(crate) name: String,
    pub(crate) max: u64,
    pub(crate) shared: bool,
    pub(crate) on_store_failure: OnStoreFailure,
}

impl Limits {
    /// The setting of the first limit that several processes count together.
    pub fn shared(&self) -> Option<String> {
        let mut all = self.all();
        all.find_map(|(section, _, limit)| (limit.mode != Mode::Local).then(|| format!("{section}.mode")))
    }

    /// Whether nobody is limited.
    pub fn is_empty(&self) -> bool {
        self.per_key.is_none() && self.policies.is_empty()
    }

    /// The list that is worked through from first to last.
    pub(super) fn check(&self) -> Result<Vec<Checked>> {
        let mut checked = Vec::new();
        for (section, name, limit) in self.all() {
            if section == "edge.limits.per_key" && limit.per != Per::Key {
                return Err(wrong(
                    "edge.limits.per_key.per",
                    "is always `key`; other limits are in edge.limits.policies",
                ));
            }
            let named = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
            if !named || name.is_empty() || name.len() > MAX_NAME {
                return Err(wrong(section, "its name is up to 40 lower-case letters, digits, - and _"));
            }
            checked.extend(limit.check(&section, name).map_err(|error| at(error, &section))?);
        }
        let mut names: Vec<_> = checked.iter().map(Checked::name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(wrong("edge.limits", format_args!("two limits are called {}", twice[0])));
        }
        checked.sort_by_key(|limit| (limit.per, matches!(limit.count, Count::AtOnce(_))));
        Ok(checked)
    }

    /// Section, name and limit of each.
    fn all(&self) -> impl Iterator<Item = (String, &str, &Limit)> {
        let per_key = self.per_key.iter().map(|limit| ("edge.limits.per_key".to_owned(), "key", limit));
        let policies = self.policies.iter();
        per_key.chain(policies.map(|(name, limit)| (format!("edge.limits.policies.{name}"), name.as_str(), limit)))
    }
}

impl Checked {
    /// What clients see.
    pub(crate) fn name(&self) -> &str {
        match &self.count {
            Count::Rate(policy) => policy.name(),
            Count::AtOnce(at_once) => &at_once.name,
        }
    }
}

impl Limit {
    fn check(&self, section: &str, name: &str) -> Result<Vec<Checked>> {
        let setting = |name: &str| format!("{section}.{name}");
        if let Some(unknown) = self.routes.iter().find(|route| !openapi::has_operation(route)) {
            let message = format!("`{unknown}` is no operation; /openapi.json names them as operationId");
            return Err(wrong(setting("routes"), message));
        }
        let rate = match (self.quota, self.window) {
            (Some(quota), Some(window)) => {
                let policy = Policy::new(name, quota, window, self.burst)?.shared(self.mode, self.on_store_failure);
                Some(self.algorithm.map_or(Ok(policy.clone()), |algorithm| policy.counted(algorithm))?)
            }
            (None, None) if self.burst.is_some() || self.algorithm.is_some() || self.concurrent.is_none() => {
                return Err(wrong(section, "set quota and window, or concurrent, or all of them"));
            }
            (None, None) => None,
            (None, Some(_)) => return Err(wrong(setting("quota"), "must be set where window is")),
            (Some(_), None) => return Err(wrong(setting("window"), "must be set where quota is")),
        };
        if self.concurrent == Some(0) {
            return Err(wrong(setting("concurrent"), "must be at least 1; leave it out for no limit"));
        }
        let at_once = self.concurrent.map(|max| AtOnce {
            name: format!("{name}-concurrent"),
            max,
            shared: self.mode != Mode::Local,
            on_store_failure: self.on_store_failure,
        });
        let counts = rate.map(Count::Rate).into_iter().chain(at_once.map(Count::AtOnce));
        Ok(counts.map(|count| Checked { per: self.per, routes: self.routes.clone(), count }).collect())
    }
}

fn at(error: Error, section: &str) -> Error {
    if error.param().is_some() { error } else { error.at(section) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reason(limits: &Limits) -> Option<String> {
        limits.check().err().and_then(|error| error.param().map(str::to_owned))
    }

    fn minute() -> Limit {
        Limit { quota: Some(1), window: Some(Window::Lasting(Duration::from_secs(60))), ..Limit::default() }
    }

    #[test]
    fn a_key_is_limited_in_time_at_once_or_both() {
        let window = Some(Window::Lasting(Duration::from_secs(60)));
        let limit = |quota, window, concurrent| Limit { quota, window, concurrent, ..Limit::default() };
        for (limit, refused) in [
            (limit(Some(1), window, None), None),
            (limit(None, None, Some(1)), None),
            (limit(Some(1), window, Some(1)), None),
            (limit(None, None, None), Some("edge.limits.per_key")),
            (limit(Some(1), None, Some(1)), Some("edge.limits.per_key.window")),
            (limit(None, window, Some(1)), Some("edge.limits.per_key.quota")),
            (limit(None, None, Some(0)), Some("edge.limits.per_key.concurrent")),
            (Limit { burst: Some(1), ..limit(None, None, Some(1)) }, Some("edge.limits.per_key")),
            (limit(Some(0), window, None), Some("edge.limits.per_key")),
            (Limit { per: Per::Ip, ..minute() }, Some("edge.limits.per_key.per")),
        ] {
            let shown = format!("{limit:?}");

            assert_eq!(reason(&Limits { per_key: Some(limit), ..Limits::default() }).as_deref(), refused, "{shown}");
        }
    }

    #[test]
    fn policies_have_names_of_their_own_and_count_operations_that_there_are() {
        let route = |name: &str| Limit { routes: vec![name.to_owned()], ..minute() };
        let at_once = Limit { concurrent: Some(1), ..Limit::default() };
        for (name, limit, refused) in [
            ("daily", minute(), None),
            ("daily", route("createKey"), None),
            ("daily", route("POST /v1/keys"), Some("edge.limits.policies.daily.routes")),
            ("daily", Limit { quota: None, ..minute() }, Some("edge.limits.policies.daily.quota")),
            ("Daily", minute(), Some("edge.limits.policies.Daily")),
            ("a\"b", minute(), Some("edge.limits.policies.a\"b")),
            ("key", minute(), Some("edge.limits")),
        ] {
            let policies = BTreeMap::from([(name.to_owned(), limit)]);

            assert_eq!(reason(&Limits { per_key: Some(minute()), policies }).as_deref(), refused, "{name}");
        }
        let policies = BTreeMap::from([("a".to_owned(), at_once), ("a-concurrent".to_owned(), minute())]);
        assert_eq!(reason(&Limits { per_key: None, policies }).as_deref(), Some("edge.limits"));
    }

    #[test]
    fn what_needs_no_look_up_is_counted_first_and_places_last() {
        let limit = |per, concurrent| Limit { per, concurrent, ..minute() };
        let policies =
            [("a", limit(Per::Route, None)), ("b", limit(Per::Tenant, Some(1))), ("c", limit(Per::Ip, None))];
        let policies = policies.map(|(name, limit)| (name.to_owned(), limit)).into();

        let checked = Limits { per_key: Some(minute()), policies }.check().unwrap();

        let names: Vec<_> = checked.iter().map(Checked::name).collect();
        assert_eq!(names, ["c", "key", "b", "b-concurrent", "a"]);
    }

    #[test]
    fn a_window_is_a_length_of_time_or_a_day_or_month_of_the_calendar() {
        let read = |text: &str| serde_json::from_value::<Limit>(serde_json::json!({"quota": 1, "window": text}));
        for (text, expected) in [
            ("90s", Window::Lasting(Duration::from_secs(90))),
            ("1day", Window::Lasting(Duration::from_secs(86_400))),
            ("day", Window::Day),
            ("month", Window::Month),
        ] {
            let limit = read(text).unwrap();

            assert!(limit.check("edge.limits.per_key", "key").is_ok());
            assert_eq!(limit.window, Some(expected), "{text}");
        }
        for text in ["week", "60", ""] {
            assert!(read(text).unwrap_err().to_string().contains("a duration such as 60s, or day, or month"), "{text}");
        }
        let steady = Limit { algorithm: Some(Algorithm::Gcra), ..read("month").unwrap() };
        let error = steady.check("edge.limits.per_key", "key").err();
        assert_eq!(error.map(|error| error.reason().to_owned()).as_deref(), Some("LIMIT_INVALID"));
    }
}
