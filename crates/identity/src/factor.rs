//! Second factors: setting one up, removing it, and recovery codes for its loss. How one is proven is in `second`.

use std::sync::Arc;

use manifold_core::{Code, Error, FactorId, Result, Secret, TenantId, Timestamp, UserId};
use manifold_runtime::CallContext;
use serde_json::json;
use url::form_urlencoded;
use uuid::Uuid;

use crate::member::{self, WRITE};
use crate::origin::Origin;
use crate::session::{self, Entered, Visitor, person};
use crate::store::factor::{self as store, FactorRow};
use crate::store::session::{self as sessions, NewSession, Which};
use crate::store::{member as members, user};
use crate::vault::envelope::Place;
use crate::{Identity, base32, login, random, second, step_up, totp};

/// Recovery codes of a person.
const RECOVERY_CODES: usize = 10;
/// Letters of each: 120 bits, so that a plain hash of one tells nobody what it was.
pub(crate) const RECOVERY_LETTERS: usize = 24;

/// A second factor, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactorInfo {
    /// The factor.
    pub id: FactorId,
    /// `totp`.
    pub kind: String,
    /// When it was begun.
    pub created_at: Timestamp,
    /// When it was first proven. Before, it is asked of nobody.
    pub confirmed_at: Option<Timestamp>,
}

/// A second factor that was begun, with its secret for the only time.
#[derive(Debug)]
pub struct NewFactor {
    /// The factor.
    pub factor: FactorInfo,
    /// For typing into an app: 32 letters and digits of base32.
    pub secret: Secret<String>,
    /// The same as an `otpauth:` address, for a QR code.
    pub uri: Secret<String>,
}

impl Identity {
    /// The caller's factors, the oldest first: the one that is asked for, and the one that was begun.
    pub async fn list_factors(&self, caller: &CallContext) -> Result<Vec<FactorInfo>> {
        let (user, _) = person(&caller.principal)?;
        Ok(store::list(&self.inner.db, user).await?.into_iter().map(FactorInfo::from).collect())
    }

    /// Begins a factor of the caller: an app that shows codes. It is asked for once it is confirmed; one that was begun before
    /// ends.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`.
    pub async fn create_factor(&self, caller: &CallContext) -> Result<NewFactor> {
        let (user, _) = person(&caller.principal)?;
        let now = self.inner.clock.now();
        step_up::require(&caller.principal, now)?;
        let account = user::find(&self.inner.db, user).await?.ok_or_else(login::refused)?;
        let id = FactorId(self.inner.ids.next());
        let bytes = Secret::new(random::bytes::<{ totp::SECRET }>());
        let sealed = self.inner.vault.seal(place(id), bytes.expose()).await?;
        let event = event("identity.factor.begun", caller, user, &json!({ "id": id.to_string(), "kind": "totp" }));
        let work = Arc::new((sealed, event, self.inner.outbox.clone(), Origin::of(caller)));
        let begun = self.inner.db.write("begin a factor", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (sealed, event, outbox, origin) = &*work;
                store::begin(tx, user, id, sealed, now).await?;
                outbox.append(tx, std::slice::from_ref(event), &origin.cause()).await.map(|_| ())
            })
        });
        begun.await?;
        let secret = Secret::new(base32::encode(bytes.expose()));
        let uri = uri(&account.email, &secret);
        let factor = FactorInfo { id, kind: "totp".to_owned(), created_at: now, confirmed_at: None };
        Ok(NewFactor { factor, secret, uri })
    }

    /// Confirms the caller's new factor by its first code, in place of the one before. From now on it is asked for; all
    /// sessions of the person end, and the caller goes on with one that has proven it.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`, `FACTOR_NOT_FOUND`, `CODE_INVALID`.
    pub async fn confirm_factor(
        &self,
        caller: &CallContext,
        visitor: Visitor,
        id: FactorId,
        code: &Secret<String>,
    ) -> Result<Entered> {
        let (user, old) = person(&caller.principal)?;
        let now = self.inner.clock.now();
        step_up::require(&caller.principal, now)?;
        let account = user::find(&self.inner.db, user).await?.ok_or_else(login::refused)?;
        let factors = store::list(&self.inner.db, user).await?;
        let begun = factors.iter().find(|row| row.id == id.0 && row.confirmed_at.is_none()).ok_or_else(not_found)?;
        let before = factors.iter().find(|row| row.confirmed_at.is_some()).map(|row| FactorId(row.id).to_string());
        let secret = self.open_factor(id, &begun.secret).await?;
        let step = totp::find_step(secret.expose(), code.expose().trim(), now).ok_or_else(second::wrong_code)?;
        let (new, token) = session::new(&self.inner.ids, user, caller.principal.tenant, &visitor, now);
        let new = NewSession { mfa: true, ..new };
        let data = json!({ "id": id.to_string(), "kind": "totp", "before": before, "session": new.id.to_string() });
        let event = event("identity.factor.added", caller, user, &data);
        let generation = account.generation;
        let work = Arc::new((new.clone(), event, self.clone(), Origin::of(caller)));
        let confirmed = self.inner.db.write("confirm a factor", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (new, event, identity, origin) = &*work;
                if !user::hold(tx, user, generation).await? {
                    return Err(login::refused());
                }
                if !store::confirm(tx, user, id, step, now).await? {
                    return Err(not_found());
                }
                if sessions::revoke(tx, user, Which::One(old), now).await? == 0 {
                    return Err(session::invalid());
                }
                sessions::revoke(tx, user, Which::All, now).await?;
                identity.tell_factor_added(tx, user, now).await?;
                login::open(tx, new, event, &identity.inner.outbox, origin).await
            })
        });
        confirmed.await?;
        self.entered(new, token, account).await
    }

    /// Removes a factor of the caller. Recovery codes end with it.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`, `FACTOR_NOT_FOUND`.
    pub async fn remove_factor(&self, caller: &CallContext, id: FactorId) -> Result<()> {
        let (user, _) = person(&caller.principal)?;
        let now = self.inner.clock.now();
        step_up::require(&caller.principal, now)?;
        let account = user::find(&self.inner.db, user).await?.ok_or_else(login::refused)?;
        let event = event("identity.factor.removed", caller, user, &json!({ "id": id.to_string() }));
        let work = Arc::new((event, self.clone(), Origin::of(caller)));
        let removed = self.inner.db.write("remove a factor", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (event, identity, origin) = &*work;
                if !user::hold(tx, user, account.generation).await? {
                    return Err(login::refused());
                }
                let had = store::has_confirmed(tx, user).await?;
                if !store::remove(tx, user, id).await? {
                    return Err(not_found());
                }
                if !store::has_confirmed(tx, user).await? {
                    store::forget_proofs(tx, user, now).await?;
                    if had {
                        identity.tell_factor_removed(tx, user, now).await?;
                    }
                }
                identity.inner.outbox.append(tx, std::slice::from_ref(event), &origin.cause()).await.map(|_| ())
            })
        });
        removed.await
    }

    /// Ten codes that work once each in place of the caller's factor; earlier ones end. Shown once.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`, `FACTOR_NOT_FOUND` if there is no confirmed factor.
    pub async fn create_recovery_codes(&self, caller: &CallContext) -> Result<Vec<Secret<String>>> {
        let (user, _) = person(&caller.principal)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        let account = user::find(&self.inner.db, user).await?.ok_or_else(login::refused)?;
        let codes: Vec<_> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
        let hashes: Vec<_> = codes.iter().map(|code| second::recovery_hash(user, code.expose())).collect();
        let data = json!({ "count": codes.len() });
        let event = event("identity.recovery_codes.created", caller, user, &data);
        let work = Arc::new((hashes, event, self.inner.outbox.clone(), Origin::of(caller)));
        let made = self.inner.db.write("make recovery codes", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (hashes, event, outbox, origin) = &*work;
                if !user::hold(tx, user, account.generation).await? {
                    return Err(login::refused());
                }
                if !store::has_confirmed(tx, user).await? {
                    return Err(Error::not_found(
                        "FACTOR_NOT_FOUND",
                        "there is no factor yet that they could stand for",
                    ));
                }
                store::set_recovery_codes(tx, user, hashes).await?;
                outbox.append(tx, std::slice::from_ref(event), &origin.cause()).await.map(|_| ())
            })
        });
        made.await?;
        Ok(codes)
    }

    /// Removes all factors and recovery codes of a member who lost them, and ends the person's sessions. Needs
    /// `users.user.write` and power over the person. Repeating it changes nothing.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`, `USER_NOT_FOUND`, `ESCALATION`.
    pub async fn reset_factors(&self, caller: &CallContext, user: UserId) -> Result<()> {
        caller.principal.require(WRITE)?;
        let now = self.inner.clock.now();
        step_up::require(&caller.principal, now)?;
        let work = Arc::new((self.clone(), Origin::of(caller)));
        let reset = self.inner.db.write("remove factors", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, origin) = &*work;
                let tenant = origin.principal.tenant;
                member::govern(tx, &origin.principal, user).await?;
                // They guard every tenant of the person, and the caller has power over one of them.
                if members::is_elsewhere(tx, tenant, user).await? {
                    let message = "this person is a member of another tenant, too, and nobody there asked for it";
                    return Err(Error::new(Code::Denied, "ESCALATION", message));
                }
                let had = store::has_confirmed(tx, user).await?;
                let n = store::remove_all(tx, user).await?;
                if n == 0 {
                    return Ok(());
                }
                store::forget_proofs(tx, user, now).await?;
                sessions::revoke(tx, user, Which::All, now).await?;
                if had {
                    identity.tell_factor_removed(tx, user, now).await?;
                }
                let event = login::event("identity.factor.removed", tenant, user, &json!({ "count": n }));
                identity.inner.outbox.append(tx, &[event], &origin.cause()).await.map(|_| ())
            })
        });
        reset.await
    }

    /// The secret of a factor.
    pub(crate) async fn open_factor(&self, id: FactorId, sealed: &[u8]) -> Result<Secret<Vec<u8>>> {
        self.inner.vault.open(place(id), sealed).await
    }
}

/// Where the secret of a factor stands: factors belong to people, and people to no tenant.
fn place(id: FactorId) -> Place<'static> {
    Place { tenant: TenantId(Uuid::nil()), table: "factor", column: "secret", row: id.0 }
}

fn event(type_: &'static str, caller: &CallContext, user: UserId, data: &serde_json::Value) -> manifold_bus::Draft {
    login::event(type_, caller.principal.tenant, user, data)
}

/// As apps read it: <https://github.com/google/google-authenticator/wiki/Key-Uri-Format>.
fn uri(email: &str, secret: &Secret<String>) -> Secret<String> {
    // Plus means a blank in forms only.
    let email: String = form_urlencoded::byte_serialize(email.as_bytes()).collect::<String>().replace('+', "%20");
    let secret = secret.expose();
    let uri =
        format!("otpauth://totp/Manifold:{email}?secret={secret}&issuer=Manifold&algorithm=SHA1&digits=6&period=30");
    Secret::new(uri)
}

fn recovery_code() -> Secret<String> {
    Secret::new(base32::encode(&random::bytes::<{ RECOVERY_LETTERS * 5 / 8 }>()))
}

impl From<FactorRow> for FactorInfo {
    fn from(row: FactorRow) -> Self {
        let confirmed_at = row.confirmed_at.map(Timestamp::from);
        Self { id: FactorId(row.id), kind: row.kind, created_at: row.created_at, confirmed_at }
    }
}

/// Reads the printed id of a factor. Malformed, unknown and foreign ids are the same error.
pub fn parse_factor_id(text: &str) -> Result<FactorId> {
    FactorId::parse(text).ok_or_else(not_found)
}

fn not_found() -> Error {
    Error::not_found("FACTOR_NOT_FOUND", "no such factor")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn apps_can_read_the_address_of_any_account() {
        let uri = uri("ada+test@example.org", &Secret::from("MZXW6"));

        let expected = "otpauth://totp/Manifold:ada%2Btest%40example.org?secret=MZXW6&issuer=Manifold&algorithm=SHA1&digits=6\
                        &period=30";
        assert_eq!(uri.expose(), expected);
    }

    #[test]
    fn recovery_codes_hold_more_than_112_random_bits_and_are_never_the_same() {
        let codes: BTreeSet<_> = (0..1_000).map(|_| recovery_code().expose().clone()).collect();

        assert_eq!(codes.len(), 1_000);
        assert!(codes.iter().all(|code| 5 * code.len() > 112), "letters of base32 hold five bits each");
        assert!(codes.iter().all(|code| code.len() == RECOVERY_LETTERS && base32::read(code).as_ref() == Some(code)));
        assert_eq!(codes.iter().map(|code| code.as_bytes()[RECOVERY_LETTERS - 1]).collect::<BTreeSet<_>>().len(), 32);
    }
}
