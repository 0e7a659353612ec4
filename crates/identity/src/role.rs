//! Built-in roles: what their holders may do in a tenant. Pure.

use manifold_core::{Code, Error, Principal, Result};

use crate::key::format::Environment;

/// Who made the house: everything.
pub const OWNER: &str = "owner";

/// Permissions of each built-in role, the mightiest first.
pub const BUILT_IN: [(&str, &[&str]); 5] = [
    (OWNER, &["*"]),
    (
        "admin",
        &[
            "ai.*",
            "keys.*",
            "limits.*",
            "roles.*",
            "tenants.tenant.create",
            "tenants.tenant.read",
            "tenants.tenant.suspend",
            "tenants.tenant.write",
            "users.*",
        ],
    ),
    (
        "operator",
        &["ai.*", "keys.key.read", "limits.rule.read", "roles.role.read", "tenants.tenant.read", "users.user.read"],
    ),
    ("developer", &["ai.*", "keys.key.*", "roles.role.read", "tenants.tenant.read"]),
    ("viewer", &["keys.key.read", "roles.role.read", "tenants.tenant.read", "users.user.read"]),
];

/// All that the holder of these roles may do. An unknown role grants nothing.
pub fn grants<'r>(roles: impl Iterator<Item = &'r str>) -> Vec<String> {
    let mut granted: Vec<String> = roles.filter_map(find).flatten().map(ToString::to_string).collect();
    granted.sort();
    granted.dedup();
    granted
}

/// Refuses roles that do not exist, and those that can do what `giver` cannot.
///
/// # Errors
/// `ROLE_UNKNOWN`, `ESCALATION`.
pub fn check_gift(giver: &Principal, roles: &[String]) -> Result<()> {
    check_environment(giver)?;
    for (index, role) in roles.iter().enumerate() {
        let Some(grants) = find(role) else {
            let known = BUILT_IN.map(|(name, _)| name).join(", ");
            return Err(Error::invalid("ROLE_UNKNOWN", format!("the roles are {known}")).at(format!("roles[{index}]")));
        };
        if !grants.iter().all(|grant| giver.allows(grant)) {
            let message = format!("nobody can give the role {role} who cannot do all that it can");
            return Err(Error::new(Code::Denied, "ESCALATION", message).at(format!("roles[{index}]")));
        }
    }
    Ok(())
}

/// Refuses to touch people who can do what `caller` cannot.
///
/// # Errors
/// `ESCALATION`.
pub fn check_power(caller: &Principal, roles: &[String]) -> Result<()> {
    check_environment(caller)?;
    if grants(roles.iter().map(String::as_str)).iter().all(|grant| caller.allows(grant)) {
        return Ok(());
    }
    Err(Error::new(Code::Denied, "ESCALATION", "this person can do what the caller cannot"))
}

/// People are real whatever a key is for.
fn check_environment(caller: &Principal) -> Result<()> {
    if &*caller.environment == Environment::Test.name() {
        return Err(Error::new(Code::Denied, "ESCALATION", "a test key has no power over people"));
    }
    Ok(())
}

fn find(role: &str) -> Option<&'static [&'static str]> {
    BUILT_IN.iter().find(|(name, _)| *name == role).map(|(_, grants)| *grants)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(role: &str) -> Principal {
        Principal { permissions: grants([role].into_iter()).into(), ..Principal::anonymous() }
    }

    #[test]
    fn roles_add_up_and_unknown_ones_grant_nothing() {
        assert_eq!(grants([OWNER, OWNER].into_iter()), ["*"]);
        assert_eq!(grants(["viewer", "developer"].into_iter()).len(), 6);
        assert!(grants(["stranger"].into_iter()).is_empty());
    }

    #[test]
    fn nobody_gives_a_mightier_role_than_the_own() {
        for (giver, role, reason) in [
            ("owner", "owner", None),
            ("owner", "viewer", None),
            ("admin", "admin", None),
            ("admin", "developer", None),
            ("admin", "owner", Some("ESCALATION")),
            ("viewer", "operator", Some("ESCALATION")),
            ("developer", "viewer", Some("ESCALATION")),
            ("owner", "stranger", Some("ROLE_UNKNOWN")),
        ] {
            let refused = check_gift(&holder(giver), &[role.to_owned()]).err();
            assert_eq!(refused.as_ref().map(Error::reason), reason, "{giver} gives {role}");
            let test = Principal { environment: "test".into(), ..holder(giver) };
            assert!(check_gift(&test, &[role.to_owned()]).is_err(), "a test key gives nothing");
            if reason != Some("ROLE_UNKNOWN") {
                assert_eq!(check_power(&holder(giver), &[role.to_owned()]).is_ok(), reason.is_none());
            }
        }
    }
}
