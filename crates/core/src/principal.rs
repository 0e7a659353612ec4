//! Who calls. Made by identity, carried by runtime, asked by every use case.

use std::sync::Arc;

use uuid::Uuid;

use crate::{Code, Error, KeyId, Result, SessionId, TenantId, Timestamp};

/// What kind of caller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// A person with a session.
    User,
    /// An API key.
    Key,
    /// An OAuth2 client.
    Client,
    /// Another service of the house.
    Service,
    /// Nobody in particular.
    Anonymous,
}

/// The authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Every row, cache key and event carries it.
    pub tenant: TenantId,
    /// Who acts: the printed id of a key or user.
    pub subject: Arc<str>,
    /// What kind of caller it is.
    pub kind: SubjectKind,
    /// The API key of the call.
    pub key: Option<KeyId>,
    /// The session of the call.
    pub session: Option<SessionId>,
    /// Granted permissions such as `ai.inference.run`, `keys.*` or `*`.
    pub permissions: Arc<[String]>,
    /// `live` or `test`.
    pub environment: Arc<str>,
    /// Whether a person has proven more than a password.
    pub mfa: bool,
    /// When a person last proved to be one; None of keys and services.
    pub auth_time: Option<Timestamp>,
}

impl Principal {
    /// Nobody in particular, of no tenant, who may do nothing.
    pub fn anonymous() -> Self {
        Self {
            tenant: TenantId(Uuid::nil()),
            subject: "anonymous".into(),
            kind: SubjectKind::Anonymous,
            key: None,
            session: None,
            permissions: [].into(),
            environment: "live".into(),
            mfa: false,
            auth_time: None,
        }
    }

    /// Whether some grant covers `permission`.
    pub fn allows(&self, permission: &str) -> bool {
        self.permissions.iter().any(|grant| permission_matches(grant, permission))
    }

    /// Denies unless some grant covers `permission`.
    pub fn require(&self, permission: &'static str) -> Result<()> {
        if self.allows(permission) {
            return Ok(());
        }
        Err(Error::new(Code::Denied, "INSUFFICIENT_SCOPE", format!("the caller lacks the permission {permission}")))
    }
}

/// Whether `grant` covers `permission`: equal, or equal up to a last part `*`, which stands for everything below.
pub fn permission_matches(grant: &str, permission: &str) -> bool {
    match grant.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => prefix.ends_with('.') && permission.starts_with(prefix),
        None => grant == permission,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_covers_what_is_below_it_and_nothing_else() {
        for (grant, permission, covers) in [
            ("*", "keys.key.read", true),
            ("keys.*", "keys.key.read", true),
            ("keys.key.read", "keys.key.read", true),
            ("keys.key.*", "keys.key.write", true),
            ("keys.*", "keysmith.key.read", false),
            ("key*", "keys.key.read", false),
            ("keys.key.read", "keys.key.write", false),
        ] {
            assert_eq!(permission_matches(grant, permission), covers, "{grant} {permission}");
        }
    }
}
