//! What a person proves beside the password: the code of an authenticator app, or a recovery code in its place. Each works
//! once, and who guesses locks the factor for longer and longer. A recovery code works while it is locked, too, so that nobody
//! who knows the password can lock its owner out.

use manifold_core::{Code, Error, FactorId, Result, Secret, TenantId, Timestamp, UserId};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::factor::RECOVERY_LETTERS;
use crate::origin::Origin;
use crate::store::factor::{self as store, Failed};
use crate::{Identity, base32, login, totp};

/// What a person presents, to be settled inside the transaction that depends on it.
pub(crate) struct Second {
    user: UserId,
    tenant: TenantId,
    presented: Presented,
    identity: Identity,
    origin: Origin,
}

enum Presented {
    /// By who has no factor.
    Nothing,
    /// A code of an app, and of which step it is if it is right.
    Totp(FactorId, Option<i64>),
    /// The hash of a recovery code, in place of the factor.
    Recovery(FactorId, Vec<u8>),
}

impl Identity {
    /// Reads what a person presents. Codes of people without a factor are not looked at.
    ///
    /// # Errors
    /// `CODE_REQUIRED` if there is a factor and no code.
    pub(crate) async fn second(
        &self,
        call: &CallContext,
        tenant: TenantId,
        user: UserId,
        code: Option<&Secret<String>>,
    ) -> Result<Second> {
        let presented = match (store::find_confirmed(&self.inner.db, user).await?, code) {
            (None, _) => Presented::Nothing,
            (Some(_), None) => return Err(code_required()),
            (Some(factor), Some(code)) => {
                let id = FactorId(factor.id);
                let code = Secret::new(code.expose().split_whitespace().collect::<String>());
                match base32::read(code.expose()).filter(|text| text.len() == RECOVERY_LETTERS) {
                    Some(text) => Presented::Recovery(id, recovery_hash(user, &text)),
                    None => {
                        let secret = self.open_factor(id, &factor.secret).await?;
                        Presented::Totp(id, totp::find_step(secret.expose(), code.expose(), self.inner.clock.now()))
                    }
                }
            }
        };
        Ok(Second { user, tenant, presented, identity: self.clone(), origin: Origin::of(call) })
    }
}

impl Second {
    /// What was presented: `totp`, `recovery_code`, or nothing.
    pub fn kind(&self) -> Option<&'static str> {
        match self.presented {
            Presented::Nothing => None,
            Presented::Totp(..) => Some("totp"),
            Presented::Recovery(..) => Some("recovery_code"),
        }
    }

    /// Uses up what was presented, or counts the failure. The account must be held. If the inner result is an error, the
    /// transaction does nothing more and still is written: failures count.
    pub async fn settle(&self, tx: &mut Tx<'_>, now: Timestamp) -> Result<Result<()>> {
        let (factor, used) = match &self.presented {
            Presented::Nothing if store::has_confirmed(tx, self.user).await? => return Ok(Err(code_required())),
            Presented::Nothing => return Ok(Ok(())),
            Presented::Totp(factor, None) => (*factor, false),
            Presented::Totp(factor, Some(step)) => {
                (*factor, store::use_step(tx, self.user, *factor, *step, now).await?)
            }
            Presented::Recovery(factor, hash) => (*factor, store::use_recovery_code(tx, self.user, hash, now).await?),
        };
        if used {
            if let Presented::Recovery(..) = self.presented {
                self.identity.tell_recovery_code_used(tx, self.user, now).await?;
            }
            return Ok(Ok(()));
        }
        match store::fail(tx, self.user, factor, now).await? {
            Failed::Open => {}
            Failed::Locked(until) => {
                let data = json!({ "id": factor.to_string(), "until": until.to_string() });
                let event = login::event("identity.factor.locked", self.tenant, self.user, &data);
                self.identity.inner.outbox.append(tx, &[event], &self.origin.cause()).await?;
            }
            Failed::StillLocked(until) => {
                let message = "too many wrong codes; wait before the next one, or use a recovery code";
                let locked = Error::new(Code::Exhausted, "TOO_MANY_ATTEMPTS", message).retry_after(until.since(now));
                return Ok(Err(locked));
            }
        }
        Ok(Err(wrong_code()))
    }
}

/// What is kept of a recovery code. The person is part of it, so that nobody guesses at those of all people at once.
pub(crate) fn recovery_hash(user: UserId, code: &str) -> Vec<u8> {
    Sha256::new().chain_update(user.0).chain_update(code).finalize().to_vec()
}

pub(crate) fn wrong_code() -> Error {
    let message = "this is not the code that the app shows now, or it was used; each works once";
    Error::new(Code::Unauthenticated, "CODE_INVALID", message).at("code")
}

fn code_required() -> Error {
    let message = "this account has a second factor: send the code of the app, or a recovery code, as code";
    Error::new(Code::Unauthenticated, "CODE_REQUIRED", message).at("code")
}
