//! Who calls. Made by identity, carried by runtime, asked by every use case.

use std::sync::Arc;

use uuid::Uuid;

use crate::grant::{Grant, permission_matches};
use crate::{Code, Error, KeyId, OwnerId, Result, SessionId, TenantId, Timestamp};

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
    /// The tenant asks people for more than a password, and this one has not proven it: nothing may be done but setting a
    /// second factor up. Such a caller has no permissions and gets no further than the public door.
    pub lacks_factor: bool,
    /// For whom the key of the call is.
    pub owner: Option<OwnerId>,
    /// Whether each call costs the key a credit. Paid at the door, so services do not learn it.
    pub metered: bool,
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
            lacks_factor: false,
            owner: None,
            metered: false,
        }
    }

    /// Whether some grant permits it for everything.
    pub fn allows(&self, permission: &str) -> bool {
        self.grants_of(permission).any(Grant::is_for_all)
    }

    /// Whether some grant permits it for some things at least.
    pub fn allows_some(&self, permission: &str) -> bool {
        self.grants_of(permission).next().is_some()
    }

    /// Whether some grant permits it for a thing with these labels, such as `own` or `env:test`.
    pub fn allows_on(&self, permission: &str, thing: &[&str]) -> bool {
        self.grants_of(permission).any(|grant| grant.is_for(thing))
    }

    /// Whether it may pass on this grant: some own one covers all of it, at any time.
    pub fn covers(&self, grant: &str) -> bool {
        self.permissions.iter().any(|own| Grant::read(own).covers(Grant::read(grant)))
    }

    /// Denies unless some grant permits it for everything.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`.
    pub fn require(&self, permission: &'static str) -> Result<()> {
        if self.allows(permission) { Ok(()) } else { Err(lacking(permission)) }
    }

    /// Denies unless some grant permits it for some things at least. Whoever asks this looks at the things next.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`.
    pub fn require_some(&self, permission: &'static str) -> Result<()> {
        if self.allows_some(permission) { Ok(()) } else { Err(lacking(permission)) }
    }

    /// Denies unless some grant permits it for a thing with these labels.
    ///
    /// # Errors
    /// `INSUFFICIENT_SCOPE`.
    pub fn require_on(&self, permission: &'static str, thing: &[&str]) -> Result<()> {
        if self.allows_on(permission, thing) { Ok(()) } else { Err(lacking(permission)) }
    }

    fn grants_of(&self, permission: &str) -> impl Iterator<Item = Grant<'_>> {
        let grants = self.permissions.iter().map(|text| Grant::read(text));
        grants.filter(move |grant| permission_matches(grant.permission, permission))
    }
}

fn lacking(permission: &str) -> Error {
    Error::new(Code::Denied, "INSUFFICIENT_SCOPE", format!("the caller lacks the permission {permission}"))
}
