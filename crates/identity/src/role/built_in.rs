//! The roles that every tenant has.

use std::sync::LazyLock;

use crate::role::grants::RoleGrant;
use crate::role::{OWNER, RoleInfo};

const GRANTS: [(&str, &[&str]); 5] = [
    (OWNER, &["*"]),
    (
        "admin",
        &[
            "ai.*",
            "audit.*",
            "keys.*",
            "limits.*",
            "roles.*",
            "tenants.tenant.create",
            "tenants.tenant.read",
            "tenants.tenant.suspend",
            "tenants.tenant.write",
            "users.*",
            "vault.key.read",
            "vault.secret.*",
        ],
    ),
    (
        "operator",
        &[
            "ai.*",
            "audit.entry.read",
            "keys.key.read",
            "keys.owner.read",
            "limits.rule.read",
            "roles.role.read",
            "tenants.tenant.read",
            "users.user.read",
            "vault.key.read",
            "vault.secret.read",
        ],
    ),
    ("developer", &["ai.*", "keys.key.*@own", "keys.owner.read", "roles.role.read", "tenants.tenant.read"]),
    ("viewer", &["keys.key.read", "keys.owner.read", "roles.role.read", "tenants.tenant.read", "users.user.read"]),
];

/// The built-in roles, the mightiest first.
pub static ROLES: LazyLock<Vec<RoleInfo>> = LazyLock::new(|| {
    let role = |(name, grants): &(&str, &[&str])| RoleInfo {
        id: (*name).to_owned(),
        name: (*name).to_owned(),
        built_in: true,
        grants: grants.iter().map(|grant| RoleGrant::of(grant)).collect(),
        created_at: None,
    };
    GRANTS.iter().map(role).collect()
});
