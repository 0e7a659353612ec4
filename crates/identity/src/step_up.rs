//! Step-up: what hands out power is for who has just proven to be the person, and not for a browser that was left alone.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Code, Error, Principal, Result, Secret, SubjectKind, Timestamp};
use manifold_runtime::CallContext;
use serde_json::json;

use crate::email::Email;
use crate::origin::Origin;
use crate::session::{self, Entered, Visitor, person};
use crate::store::session::{self as sessions, NewSession, Which};
use crate::store::user as store;
use crate::{Identity, login};

/// How long a proof holds.
const FRESH: Duration = Duration::from_secs(10 * 60);

/// Refuses people who have not proven to be themselves for ten minutes. Keys and services pass: they have nothing else to
/// prove.
///
/// # Errors
/// `STEP_UP_REQUIRED`.
pub fn require(caller: &Principal, now: Timestamp) -> Result<()> {
    let fresh = caller.auth_time.is_some_and(|proven_at| now.since(proven_at) <= FRESH);
    if fresh || caller.kind != SubjectKind::User {
        return Ok(());
    }
    let message = "this needs a proof of the last ten minutes: POST /v1/auth/step-up with the password first";
    Err(Error::new(Code::Denied, "STEP_UP_REQUIRED", message))
}

impl Identity {
    /// Refuses people who have not proven to be themselves for ten minutes.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`.
    pub fn require_step_up(&self, caller: &Principal) -> Result<()> {
        require(caller, self.inner.clock.now())
    }

    /// The caller proves again to be the person, and goes on with a new session; the old one ends.
    ///
    /// # Errors
    /// `INVALID_CREDENTIALS` and the others of [`Identity::log_in`]; `CODE_REQUIRED`, `CODE_INVALID`; `INVALID_SESSION` if the
    /// old session ended meanwhile.
    pub async fn step_up(
        &self,
        caller: &CallContext,
        visitor: Visitor,
        typed: Secret<String>,
        code: Option<Secret<String>>,
    ) -> Result<Entered> {
        let (user, old) = person(&caller.principal)?;
        let seat = self.inner.hasher.seat()?;
        let account = store::find(&self.inner.db, user).await?.ok_or_else(login::refused)?;
        let tries = self.prove(&seat, Some(&account), &Email::parse(&account.email)?, visitor.ip, typed).await?;
        let (tenant, now) = (caller.principal.tenant, self.inner.clock.now());
        let second = self.second(caller, tenant, user, code.as_ref()).await?;
        let (opened, token) = session::new(&self.inner.ids, user, tenant, &visitor, now);
        let opened = NewSession { mfa: second.kind().is_some(), ..opened };
        let data =
            json!({ "session": opened.id.to_string(), "before": old.to_string(), "second_factor": second.kind() });
        let event = login::event("identity.session.renewed", tenant, user, &data);
        let generation = account.generation;
        let work = Arc::new((opened.clone(), event, tries, second, self.inner.outbox.clone(), Origin::of(caller)));
        let renewed = self.inner.db.write("renew a session", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (opened, event, tries, second, outbox, origin) = &*work;
                // The password may have changed while it was compared, and the session may have ended.
                if !store::hold(tx, user, generation).await? {
                    return Err(login::refused());
                }
                if let Err(refused) = second.settle(tx, now).await? {
                    return Ok(Err(refused));
                }
                if sessions::revoke(tx, user, Which::One(old), now).await? == 0 {
                    return Err(session::invalid());
                }
                tries.succeeded(tx, now).await?;
                login::open(tx, opened, event, outbox, origin).await.map(Ok)
            })
        });
        renewed.await??;
        self.forget(&Which::One(old).subject(user));
        self.entered(opened, token, account).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_ten_minutes_and_keys_need_none() {
        let at = |minutes: u64| Timestamp::from_micros(1).after(Duration::from_secs(minutes * 60));
        let caller = |kind, auth_time| Principal { kind, auth_time, ..Principal::anonymous() };
        let later = at(20).after(Duration::from_micros(1));

        for (kind, auth_time, now, passes) in [
            (SubjectKind::User, Some(at(10)), at(20), true),
            (SubjectKind::User, Some(at(10)), later, false),
            (SubjectKind::User, None, at(20), false),
            (SubjectKind::Key, None, at(20), true),
            (SubjectKind::Service, None, at(20), true),
        ] {
            let refused = require(&caller(kind, auth_time), now).err();
            assert_eq!(
                refused.map(|error| error.reason().to_owned()),
                (!passes).then(|| "STEP_UP_REQUIRED".to_owned())
            );
        }
    }
}
