//! What a role grants: permissions, for which things, and under which condition. Pure.

use std::net::IpAddr;
use std::sync::Arc;

use manifold_core::{Error, NOW, Principal, Result, Timestamp};
use manifold_expr::{Condition, Fact, Facts};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::permission;

/// Most grants of a role.
pub const MAX_GRANTS: usize = 100;
/// Compiled conditions that are kept.
const MAX_CONDITIONS: u64 = 10_000;
/// What a condition is asked about.
const THINGS: [&str; 2] = ["principal", "request"];

/// One grant of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleGrant {
    /// Such as `keys.key.read`, `keys.*` or `*`.
    pub permission: String,
    /// For things with these labels: `own`, `env:live`, `env:test`, `api:<name>`. None = for all.
    #[serde(default)]
    pub on: Vec<String>,
    /// In which moments, in CEL, such as `request.hour < 18`. None = always.
    #[serde(default)]
    pub when: Option<String>,
}

impl RoleGrant {
    /// Always, for all things.
    pub fn of(permission: &str) -> Self {
        let (permission, labels) = permission.split_once('@').unwrap_or((permission, ""));
        let on = labels.split(',').filter(|label| !label.is_empty()).map(str::to_owned).collect();
        Self { permission: permission.to_owned(), on, when: None }
    }

    /// As principals hold it.
    pub fn text(&self) -> String {
        if self.on.is_empty() { self.permission.clone() } else { format!("{}@{}", self.permission, self.on.join(",")) }
    }

    fn met_now(&self) -> String {
        let labels = self.on.iter().map(String::as_str).chain([NOW]).collect::<Vec<_>>().join(",");
        format!("{}@{labels}", self.permission)
    }
}

/// Refuses grants that are none.
///
/// # Errors
/// `PERMISSION_INVALID`, `EXPRESSION_INVALID`; each names the grant.
pub fn check(grants: &[RoleGrant]) -> Result<()> {
    if grants.is_empty() || grants.len() > MAX_GRANTS {
        let message = format!("a role has 1 to {MAX_GRANTS} grants");
        return Err(Error::invalid("PERMISSION_INVALID", message).at("grants"));
    }
    for (index, grant) in grants.iter().enumerate() {
        permission::check_form(&grant.permission).map_err(|error| error.at(format!("grants[{index}].permission")))?;
        permission::check_labels(&grant.on).map_err(|error| error.at(format!("grants[{index}].on")))?;
        if let Some(when) = &grant.when {
            Condition::parse(when, &THINGS).map_err(|error| error.at(format!("grants[{index}].when")))?;
        }
    }
    Ok(())
}

/// Conditions that were asked before, compiled.
pub struct Conditions(Cache<String, Arc<Option<Condition>>>);

impl Default for Conditions {
    fn default() -> Self {
        Self(Cache::new(MAX_CONDITIONS))
    }
}

/// Of what a condition is asked.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'m> {
    /// Who calls; its permissions are not known yet.
    pub caller: &'m Principal,
    /// From where.
    pub ip: IpAddr,
    /// When.
    pub now: Timestamp,
}

impl Conditions {
    /// What of the grants works in this moment, each once, in order.
    pub fn resolve<'g>(&self, grants: impl Iterator<Item = &'g RoleGrant>, moment: Moment<'_>) -> Vec<String> {
        let mut held: Vec<_> = grants
            .filter_map(|grant| match &grant.when {
                None => Some(grant.text()),
                Some(when) => self.holds(when, moment).then(|| grant.met_now()),
            })
            .collect();
        held.sort();
        held.dedup();
        held
    }

    fn holds(&self, when: &str, moment: Moment<'_>) -> bool {
        let compiled = self.0.get_with_by_ref(when, || Arc::new(Condition::parse(when, &THINGS).ok()));
        compiled.as_ref().as_ref().is_some_and(|condition| condition.holds(&facts(moment)))
    }
}

/// `principal.{id, kind, mfa}` and `request.{ip, time, hour, weekday}`: seconds since 1970, the hour of the day and the day
/// of the week, 1 = Monday, all in UTC.
fn facts(moment: Moment<'_>) -> Facts {
    let seconds = moment.now.micros().div_euclid(1_000_000);
    let (hours, days) = (seconds.div_euclid(3_600), seconds.div_euclid(86_400));
    let principal = [
        ("id", Fact::Text(moment.caller.subject.to_string())),
        ("kind", Fact::Text(format!("{:?}", moment.caller.kind).to_lowercase())),
        ("mfa", Fact::Flag(moment.caller.mfa)),
    ];
    let request = [
        ("ip", Fact::Text(moment.ip.to_canonical().to_string())),
        ("time", Fact::Number(seconds)),
        ("hour", Fact::Number(hours.rem_euclid(24))),
        // 1970 began on a Thursday.
        ("weekday", Fact::Number((days + 3).rem_euclid(7) + 1)),
    ];
    Facts::from([("principal", principal.into_iter().collect()), ("request", request.into_iter().collect())])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(permission: &str, on: &[&str], when: Option<&str>) -> RoleGrant {
        let on = on.iter().map(ToString::to_string).collect();
        RoleGrant { permission: permission.to_owned(), on, when: when.map(str::to_owned) }
    }

    #[test]
    fn grants_are_read_as_they_are_printed() {
        for text in ["*", "keys.key.read", "keys.key.*@own", "keys.*@own,env:test"] {
            assert_eq!(RoleGrant::of(text).text(), text);
        }
    }

    #[test]
    fn what_is_no_grant_is_named() {
        for (bad, param) in [
            (grant("keys", &[], None), "grants[1].permission"),
            (grant("keys.key.read", &["now"], None), "grants[1].on"),
            (grant("keys.key.read", &["mine"], None), "grants[1].on"),
            (grant("keys.key.read", &["own,own"], None), "grants[1].on"),
            (grant("keys.key.read", &["own"; 11], None), "grants[1].on"),
            (grant("keys.key.read", &[], Some("request.hour <")), "grants[1].when"),
            (grant("keys.key.read", &[], Some("secret.x == 1")), "grants[1].when"),
        ] {
            let error = check(&[grant("ai.*", &[], None), bad]).unwrap_err();
            assert_eq!(error.param(), Some(param), "{error}");
        }
        let longest = format!("a.b.{}", "c".repeat(96));
        assert!(
            check(&[grant(&longest, &["own", "env:live", "api:weather"], None)]).is_ok(),
            "labels take nothing from it"
        );
        assert!(check(&[]).is_err());
        assert!(check(&vec![grant("ai.*", &[], None); MAX_GRANTS + 1]).is_err());
    }

    #[test]
    fn a_condition_is_asked_in_each_moment() {
        let conditions = Conditions::default();
        let caller = Principal { mfa: true, ..Principal::anonymous() };
        // 2026-11-30T08:59:59Z, a Monday.
        let morning = Timestamp::parse("2026-11-30T08:59:59Z").unwrap();
        let work = "principal.mfa && request.weekday == 1 && request.hour >= 9 && inNetwork(request.ip, '10.0.0.0/8')";
        let grants =
            [grant("ai.*", &[], None), grant("keys.*", &["own"], Some(work)), grant("users.*", &[], Some("broken("))];
        let held = |ip: &str, now: Timestamp| {
            conditions.resolve(grants.iter(), Moment { caller: &caller, ip: ip.parse().unwrap(), now })
        };

        assert_eq!(held("10.0.0.1", morning), ["ai.*"]);
        assert_eq!(held("10.0.0.1", morning.after(std::time::Duration::from_secs(1))), ["ai.*", "keys.*@own,now"]);
        assert_eq!(held("192.0.2.1", morning.after(std::time::Duration::from_secs(1))), ["ai.*"]);
    }
}
