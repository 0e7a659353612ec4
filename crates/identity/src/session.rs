//! Sessions: what a person is logged in by. The token is in a cookie; only its hash is kept.

mod manage;

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use manifold_core::{Code, Error, Ids, Principal, Result, Secret, SessionId, SubjectKind, TenantId, Timestamp, UserId};
use manifold_runtime::CallContext;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::role::grants::{Moment, RoleGrant};
use crate::store::session::{self as store, Holder, NewSession, Span};
use crate::store::tenant as tenants;
use crate::store::user::{self, Account};
use crate::user::UserInfo;
use crate::{Identity, random, tenant};

pub use manage::SessionInfo;

/// A session in a browser that is not used for so long is over.
pub const IDLE: Duration = Duration::from_secs(30 * 60);
/// A session in a browser is over after this time in any case.
pub const LIFETIME: Duration = Duration::from_secs(12 * 3_600);
/// How exactly is known when a session was last used.
const SEEN: Duration = Duration::from_secs(60);
/// Characters of a token: 32 bytes in base64url.
const TOKEN: usize = 43;
/// Longest name of a browser that is kept.
const MAX_AGENT: usize = 200;

/// Where somebody comes from.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// Address.
    pub ip: IpAddr,
    /// What the browser calls itself.
    pub agent: String,
}

/// Somebody who has just logged in.
#[derive(Debug)]
pub struct Entered {
    /// What the cookie holds; shown once.
    pub token: Secret<String>,
    /// The session.
    pub session: Present,
}

/// The session of the caller.
#[derive(Clone, Debug)]
pub struct Present {
    /// The session.
    pub id: SessionId,
    /// Who is logged in.
    pub user: UserInfo,
    /// Where.
    pub tenant: TenantId,
    /// Names of roles there.
    pub roles: Vec<String>,
    /// What they grant.
    pub permissions: Vec<String>,
    /// To be sent as `manifold-csrf` with whatever changes something.
    pub csrf: String,
    /// When it ends in any case.
    pub expires_at: Timestamp,
}

/// Key of the tokens against forged requests.
pub(crate) struct CsrfKey(pub(crate) [u8; 32]);

impl CsrfKey {
    /// The token of a session.
    fn token(&self, session: SessionId) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("any length of key will do");
        mac.update(session.0.as_bytes());
        URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
    }
}

impl Drop for CsrfKey {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// A new session and its token.
pub(crate) fn new(
    ids: &Ids,
    user: UserId,
    tenant: TenantId,
    visitor: &Visitor,
    at: Timestamp,
) -> (NewSession, Secret<String>) {
    let token = Secret::new(random_text());
    let agent = visitor.agent.chars().filter(|letter| !letter.is_control()).take(MAX_AGENT).collect();
    let new = NewSession {
        id: SessionId(ids.next()),
        hash: hash(token.expose()),
        user,
        tenant,
        ip: visitor.ip.to_canonical().to_string(),
        agent,
        mfa: false,
        at,
        expires_at: at.after(LIFETIME),
    };
    (new, token)
}

/// What nobody guesses, in 43 characters.
fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(random::bytes::<32>())
}

/// A token that works once, recognised by its beginning.
pub(crate) fn one_time(prefix: &str) -> Secret<String> {
    Secret::new(format!("{prefix}_{}", random_text()))
}

/// What is kept of a token.
pub(crate) fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}

impl Identity {
    /// Who presents this token.
    ///
    /// # Errors
    /// `INVALID_SESSION` if it is over, was ended, or never was.
    pub async fn authenticate_session(&self, token: &str, ip: IpAddr) -> Result<Principal> {
        if token.len() != TOKEN {
            return Err(invalid());
        }
        let holder = store::find(&self.inner.db, &hash(token)).await?.ok_or_else(invalid)?;
        self.let_in(&holder)?;
        let (caller, grants) = self.person(&holder).await?;
        Ok(self.permit(caller, &grants, ip))
    }

    /// Refuses sessions that are over, and those in tenants that are suspended.
    ///
    /// # Errors
    /// `INVALID_SESSION`, `TENANT_SUSPENDED`.
    pub(crate) fn let_in(&self, holder: &Holder) -> Result<()> {
        if holder.span.is_over(&holder.settings, self.inner.clock.now()) {
            return Err(invalid());
        }
        match holder.tenant_state.as_str() {
            "active" => Ok(()),
            _ => Err(tenant::suspended()),
        }
    }

    /// Who holds a session, and what the roles grant. That it is used is noted.
    pub(crate) async fn person(&self, holder: &Holder) -> Result<(Principal, Vec<RoleGrant>)> {
        let (session, user, tenant) = (SessionId(holder.id), UserId(holder.user_id), TenantId(holder.tenant_id));
        let now = self.inner.clock.now();
        if now.since(holder.span.seen_at) >= SEEN {
            self.note_seen(session, now);
        }
        let lacks_factor = !holder.mfa && holder.settings.mfa_required;
        let caller = Principal {
            tenant,
            subject: user.to_string().into(),
            kind: SubjectKind::User,
            session: Some(session),
            mfa: holder.mfa,
            auth_time: Some(holder.auth_time),
            lacks_factor,
            ..Principal::anonymous()
        };
        let roles = if lacks_factor { Vec::new() } else { user::roles(&self.inner.db, tenant, user).await? };
        Ok((caller, self.grants_of(tenant, &roles).await?))
    }

    /// The caller with what the grants permit in this moment.
    pub(crate) fn permit(&self, caller: Principal, grants: &[RoleGrant], ip: IpAddr) -> Principal {
        let moment = Moment { caller: &caller, ip, now: self.inner.clock.now() };
        let permissions = self.inner.conditions.resolve(grants.iter(), moment).into();
        Principal { permissions, ..caller }
    }

    /// Whether this is the token against forged requests of the caller's session.
    pub fn is_csrf_token(&self, session: SessionId, presented: &str) -> bool {
        bool::from(self.inner.csrf.token(session).as_bytes().ct_eq(presented.as_bytes()))
    }

    /// The caller's own session.
    pub async fn session(&self, caller: &CallContext) -> Result<Present> {
        let (user, session) = person(&caller.principal)?;
        let account = user::find(&self.inner.db, user).await?.ok_or_else(invalid)?;
        let tenant = caller.principal.tenant;
        let span = store::span(&self.inner.db, tenant, user, session).await?.ok_or_else(invalid)?;
        self.present(session, account, &caller.principal, span).await
    }

    pub(crate) async fn entered(&self, new: NewSession, token: Secret<String>, account: Account) -> Result<Entered> {
        let ip = new.ip.parse().map_err(|error| Error::internal("read an address").because(error))?;
        let caller = self.authenticate_session(token.expose(), ip).await?;
        let span = Span { created_at: new.at, seen_at: new.at, idle: None, expires_at: new.expires_at };
        let session = self.present(new.id, account, &caller, span).await?;
        Ok(Entered { token, session })
    }

    pub(crate) async fn present(
        &self,
        id: SessionId,
        account: Account,
        caller: &Principal,
        span: Span,
    ) -> Result<Present> {
        let (user, tenant, permissions) = (UserInfo::from(account), caller.tenant, caller.permissions.to_vec());
        let roles = user::roles(&self.inner.db, tenant, user.id).await?;
        let expires_at = span.end(&tenants::settings(&self.inner.db, tenant).await?);
        Ok(Present { id, user, tenant, roles, permissions, csrf: self.inner.csrf.token(id), expires_at })
    }

    /// Without making anybody wait: it is known to the minute.
    fn note_seen(&self, session: SessionId, now: Timestamp) {
        let identity = self.clone();
        self.inner.tasks.spawn("identity session seen", async move {
            let noted = identity.inner.db.write("note that a session was used", move |tx| {
                Box::pin(async move { store::seen(tx, session, now).await })
            });
            if let Err(error) = noted.await {
                tracing::debug!(%error, "cannot note that a session was used");
            }
        });
    }
}

/// The person who calls, and by which session.
///
/// # Errors
/// `SESSION_REQUIRED` for keys and services.
pub(crate) fn person(caller: &Principal) -> Result<(UserId, SessionId)> {
    let user = UserId::parse(&caller.subject).filter(|_| caller.kind == SubjectKind::User);
    user.zip(caller.session)
        .ok_or_else(|| Error::new(Code::Denied, "SESSION_REQUIRED", "only a person who is logged in can do this"))
}

/// Reads the printed id of a session. Malformed, unknown and foreign ids are the same error.
pub fn parse_session_id(text: &str) -> Result<SessionId> {
    SessionId::parse(text).ok_or_else(not_found)
}

pub(crate) fn invalid() -> Error {
    Error::new(Code::Unauthenticated, "INVALID_SESSION", "nobody is logged in by this session, or not any more")
}

fn not_found() -> Error {
    Error::not_found("SESSION_NOT_FOUND", "no such session")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn tokens_are_256_random_bits_and_never_the_same() {
        let tokens: BTreeSet<_> = (0..1_000).map(|_| one_time("mfr").expose().clone()).collect();

        assert_eq!(tokens.len(), 1_000);
        let bytes: Vec<_> =
            tokens.iter().map(|token| URL_SAFE_NO_PAD.decode(&token["mfr_".len()..]).unwrap()).collect();
        assert!(bytes.iter().all(|bytes| bytes.len() == 32));
        let at = |place: usize| bytes.iter().map(|bytes| bytes[place]).collect::<BTreeSet<_>>().len();
        assert!((0..32).all(|place| at(place) > 200), "of a thousand random bytes nearly all 256 are different");
    }
}
