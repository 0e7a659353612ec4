//! Checking a presented access token. One that was seen before costs a hash and a look-up; a new one the check of its
//! signature, and one look whether the session behind it lives and what its holder may do.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Code, Error, Principal, Result, Timestamp};
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use super::{Bearer, MAX_LENGTH};
use crate::key::restriction::Visit;
use crate::remembered::Remembered;
use crate::role::grants::RoleGrant;
use crate::store::session as store;
use crate::verify::{FRESH, LOOKUP_TIMEOUT, TRIES, away};
use crate::{Identity, token};

/// Tokens that are remembered.
const MAX_TOKENS: u64 = 50_000;
/// Longer than any of ours works.
const REMEMBERED: Duration = Duration::from_secs(token::LIFETIME.as_secs() + 60);
/// How long a session is not looked at again while the feed of revocations is heard.
const TRUSTED: Duration = Duration::from_secs(60);

/// A token that held.
pub struct Seen {
    /// What it says.
    pub bearer: Bearer,
    /// Who presents it; with what is permitted, unless that depends on the moment.
    principal: Principal,
    /// What is granted, if some of it depends on the moment.
    grants: Vec<RoleGrant>,
    /// When its session was read.
    read_at: Timestamp,
}

/// Tokens that held, by their SHA-256.
pub type Tokens = Remembered<[u8; 32], Seen>;

/// Nothing was seen yet.
pub fn tokens() -> Tokens {
    Remembered::new(MAX_TOKENS, Some(REMEMBERED))
}

impl Identity {
    /// Who presents this in the header `authorization`: what begins like an API key is one, everything else an access token.
    ///
    /// # Errors
    /// Those of [`Identity::admit`]; `INVALID_TOKEN`; unavailable if the session is not cached and the database is
    /// away.
    pub async fn authenticate_bearer(&self, presented: &str, ip: IpAddr, visit: &Visit<'_>) -> Result<Principal> {
        if presented.starts_with("mfk_") {
            return self.admit(presented, visit).await;
        }
        let seen = self.authenticate_token(presented).await?;
        Ok(match seen.grants.is_empty() {
            true => seen.principal.clone(),
            false => self.permit(seen.principal.clone(), &seen.grants, ip),
        })
    }

    async fn authenticate_token(&self, presented: &str) -> Result<Arc<Seen>> {
        if presented.len() > MAX_LENGTH {
            return Err(invalid());
        }
        let (digest, now) = (Sha256::digest(presented).into(), self.inner.clock.now());
        let Some(seen) = self.inner.tokens.find(&digest) else {
            let bearer = token::read(&self.inner.signing.ring(), &self.inner.issuer, presented, now);
            return self.look(digest, bearer.ok_or_else(invalid)?).await;
        };
        if !seen.bearer.is_in_time(now) {
            return Err(invalid());
        }
        let age = now.since(seen.read_at).max(seen.read_at.since(now));
        if age < TRUSTED && self.inner.pulse.heard_within(FRESH, now) {
            return Ok(seen);
        }
        match self.look(digest, seen.bearer).await {
            Err(error) if error.code() == Code::Unavailable && age <= self.inner.grace => Ok(seen),
            outcome => outcome,
        }
    }

    /// Looks at the session behind a token that is signed and in time.
    async fn look(&self, digest: [u8; 32], bearer: Bearer) -> Result<Arc<Seen>> {
        if self.inner.pulse.is_away() {
            return Err(away("the database is not available, and this access token is not in the cache"));
        }
        let late = || away("the database does not answer in time");
        timeout(LOOKUP_TIMEOUT, self.read_session(digest, bearer)).await.map_err(|_| late()).and_then(|found| found)
    }

    async fn read_session(&self, digest: [u8; 32], bearer: Bearer) -> Result<Arc<Seen>> {
        for _ in 0..TRIES {
            let (epoch, read_at) = (self.inner.tokens.epoch(), self.inner.clock.now());
            let holder = store::find_behind(&self.inner.db, &bearer).await?;
            let Some(holder) = holder.filter(|holder| !holder.span.is_over(&holder.settings, read_at)) else {
                self.inner.tokens.remove(&digest);
                return Err(invalid());
            };
            self.let_in(&holder).inspect_err(|_| self.inner.tokens.remove(&digest))?;
            let (caller, grants) = self.person(&holder).await?;
            // Where nothing depends on the moment, one answer serves all of them.
            let nowhere = Ipv4Addr::UNSPECIFIED.into();
            let (principal, grants) = match grants.iter().any(|grant| grant.when.is_some()) {
                true => (caller, grants),
                false => (self.permit(caller, &grants, nowhere), Vec::new()),
            };
            let seen = Arc::new(Seen { bearer, principal, grants, read_at });
            if self.inner.tokens.remember(digest, &seen, epoch) {
                return Ok(seen);
            }
        }
        Err(away("too much is revoked at once"))
    }
}

fn invalid() -> Error {
    let message = "this is neither an API key nor an access token that works";
    Error::new(Code::Unauthenticated, "INVALID_TOKEN", message)
}
