//! Access tokens instead of a cookie, and new ones for a refresh token. A session stands behind them: whatever ends it ends
//! them, too. A refresh token works once; whoever uses it again has stolen it or was stolen from, so the session ends.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Error, Result, Secret, SessionId, TenantId, Timestamp, UserId};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde_json::json;

use super::{Claims, LIFETIME, seconds};
use crate::audit::Outbox;
use crate::detect::{REFRESH_REUSE, Sign};
use crate::origin::Origin;
use crate::session::{self, Entered, Visitor};
use crate::store::refresh as store;
use crate::store::session::{self as sessions, Holder, Which};
use crate::{Identity, login, random, revoke, tenant};

/// A session behind tokens that is not renewed for so long is over.
const IDLE: Duration = Duration::from_secs(30 * 24 * 3_600);
/// A session behind tokens is over after this time in any case.
const AT_MOST: Duration = Duration::from_secs(90 * 24 * 3_600);
/// How refresh tokens begin.
const PREFIX: &str = "mfrt";
/// Characters of a refresh token: the prefix, `_` and 32 bytes in base64url.
const LENGTH: usize = PREFIX.len() + 1 + 43;

/// What a program is logged in by.
#[derive(Debug)]
pub struct Tokens {
    /// To be sent as `Authorization: Bearer …`.
    pub access: Secret<String>,
    /// How long that works.
    pub expires_in: Duration,
    /// What new tokens are asked for with, once; shown once.
    pub refresh: Secret<String>,
}

/// What became of a refresh token.
enum Outcome {
    /// It was used, for this session.
    Renewed(Holder),
    /// Somebody uses it again: this session of this person ended.
    Reused(SessionId, TenantId, UserId),
    /// It does not work.
    Refused,
}

impl Identity {
    /// Tokens for somebody who has just logged in, instead of the cookie, which does not work any more.
    pub async fn issue_tokens(&self, entered: Entered) -> Result<Tokens> {
        let (session, now) = (entered.session.id, self.inner.clock.now());
        let refresh = session::one_time(PREFIX);
        let work = Arc::new((random::bytes::<32>(), session::hash(refresh.expose())));
        let turned = self.inner.db.write("give tokens for a session", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (nobodys, hash) = &*work;
                if !sessions::turn_to_tokens(tx, session, nobodys, IDLE, now.after(AT_MOST)).await? {
                    return Ok(None);
                }
                let Some(holder) = sessions::find_in(tx, session).await? else { return Ok(None) };
                store::insert(tx, hash, session, until(&holder, now)).await?;
                Ok(Some(holder))
            })
        });
        let holder = turned.await?.ok_or_else(login::refused)?;
        self.tokens(&holder, refresh, now)
    }

    /// New tokens for a refresh token, which is used up by that.
    ///
    /// # Errors
    /// `INVALID_GRANT` if it does not work, or not any more; if it was used before, its session has ended.
    /// `TENANT_SUSPENDED`.
    pub async fn refresh_tokens(
        &self,
        call: &CallContext,
        visitor: Visitor,
        presented: &Secret<String>,
    ) -> Result<Tokens> {
        let presented = presented.expose();
        if presented.len() != LENGTH || !presented.starts_with(PREFIX) {
            return Err(wrong_grant());
        }
        let (hash, now) = (session::hash(presented), self.inner.clock.now());
        // Guesses never reach the one who writes.
        if !store::is_known(&self.inner.db, &hash).await? {
            return Err(wrong_grant());
        }
        let refresh = session::one_time(PREFIX);
        let work =
            Arc::new((hash, session::hash(refresh.expose()), visitor, self.inner.outbox.clone(), Origin::of(call)));
        let used = self.inner.db.write("use a refresh token", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (hash, next, visitor, outbox, origin) = &*work;
                if let Some(session) = store::take(tx, hash, now).await? {
                    // Whoever is refused here has not used it up.
                    let holder = sessions::find_in(tx, session).await?.ok_or_else(wrong_grant)?;
                    if holder.span.is_over(&holder.settings, now) {
                        return Err(wrong_grant());
                    }
                    if holder.tenant_state != "active" {
                        return Err(tenant::suspended());
                    }
                    sessions::seen(tx, session, now).await?;
                    store::insert(tx, next, session, until(&holder, now)).await?;
                    return Ok(Outcome::Renewed(holder));
                }
                let Some(holder) = store::find_used(tx, hash).await? else { return Ok(Outcome::Refused) };
                end_family(tx, &holder, visitor, outbox, origin, now).await
            })
        });
        match used.await? {
            Outcome::Renewed(holder) => self.tokens(&holder, refresh, now),
            Outcome::Reused(session, tenant, user) => {
                self.forget(&revoke::session_subject(session));
                let (subject, seen) = (user.to_string(), format!("a refresh token of {session}, again"));
                self.note_sign(Sign { rule: &REFRESH_REUSE, tenant: Some(tenant), subject, kind: String::new(), seen });
                Err(wrong_grant())
            }
            Outcome::Refused => Err(wrong_grant()),
        }
    }

    fn tokens(&self, holder: &Holder, refresh: Secret<String>, now: Timestamp) -> Result<Tokens> {
        let issued = seconds(now);
        let claims = Claims {
            iss: self.inner.issuer.clone(),
            sub: UserId(holder.user_id).to_string(),
            aud: self.inner.issuer.clone(),
            exp: issued + LIFETIME.as_secs() as i64,
            iat: issued,
            nbf: issued,
            jti: self.inner.ids.next().to_string(),
            tid: TenantId(holder.tenant_id).to_string(),
            sid: SessionId(holder.id).to_string(),
            generation: holder.generation,
            auth_time: seconds(holder.auth_time),
            amr: methods(holder.mfa).iter().map(ToString::to_string).collect(),
        };
        let payload = serde_json::to_vec(&claims);
        let payload = payload.map_err(|error| Error::internal("print the claims of a token").because(error))?;
        let access = self.inner.signing.ring().sign(&payload);
        Ok(Tokens { access, expires_in: LIFETIME, refresh })
    }
}

/// Ends the session of a refresh token that somebody uses again.
async fn end_family(
    tx: &mut Tx<'_>,
    holder: &Holder,
    visitor: &Visitor,
    outbox: &Outbox,
    origin: &Origin,
    now: Timestamp,
) -> Result<Outcome> {
    let (session, tenant, user) = (SessionId(holder.id), TenantId(holder.tenant_id), UserId(holder.user_id));
    if sessions::revoke(tx, user, Which::One(session), now).await? == 0 {
        return Ok(Outcome::Refused);
    }
    let ip = visitor.ip.to_canonical().to_string();
    let data = json!({ "session": session.to_string(), "reason": "refresh_token_reused", "ip": ip });
    let event = login::event("identity.session.revoked", tenant, user, &data);
    outbox.append(tx, &[event], &origin.cause()).await?;
    Ok(Outcome::Reused(session, tenant, user))
}

/// Until when a refresh token works that is given now.
fn until(holder: &Holder, now: Timestamp) -> Timestamp {
    now.after(IDLE).min(holder.span.expires_at)
}

/// In the words of RFC 8176.
fn methods(mfa: bool) -> &'static [&'static str] {
    if mfa { &["pwd", "otp", "mfa"] } else { &["pwd"] }
}

fn wrong_grant() -> Error {
    let message = "this refresh token was used, is over, or never was one; log in again";
    Error::invalid("INVALID_GRANT", message)
}
