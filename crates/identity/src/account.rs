//! What people do with their own accounts: what they are called and where they live, and another address. How an account ends
//! is in `erase`.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Error, Result, Secret, TenantId};
use manifold_runtime::CallContext;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::email::Email;
use crate::mail::{Errand, letter};
use crate::member::wrong_token;
use crate::origin::Origin;
use crate::session::{Visitor, person};
use crate::store::account;
use crate::store::one_time::{self, Made, Promise};
use crate::store::user::{self as store, Profile};
use crate::user::UserInfo;
use crate::{Identity, login, name, session, step_up};

/// How long one may take to prove another address.
const PROOF: Duration = Duration::from_secs(24 * 3_600);
/// Longest tag of a language (RFC 5646 §4.4.1) and longest name of a time zone that is kept.
const MAX_TAG: usize = 64;

/// What shall change of a person; None = it stays, an empty text removes it.
#[derive(Clone, Debug, Default)]
pub struct ProfileChange {
    /// What the person is called, 1 to 100 characters.
    pub name: Option<String>,
    /// Language, such as `pt-BR` (RFC 5646).
    pub locale: Option<String>,
    /// Time zone, such as `Europe/Lisbon` (IANA).
    pub zone: Option<String>,
}

/// Another address that waits for its proof.
#[derive(Serialize, Deserialize)]
struct Move {
    email: Email,
    /// Of the account when it was asked for: a new password ends it.
    generation: i64,
}

impl Identity {
    /// Changes what the caller is called and where he lives.
    ///
    /// # Errors
    /// `NAME_INVALID`, `PROFILE_INVALID`.
    pub async fn update_me(&self, caller: &CallContext, change: ProfileChange) -> Result<UserInfo> {
        let (user, _) = person(&caller.principal)?;
        let change = ProfileChange {
            name: change.name.as_deref().map(name::read).transpose()?,
            locale: read_tag(change.locale, "locale", '-')?,
            zone: read_tag(change.zone, "zone", '/')?,
        };
        let tenant = caller.principal.tenant;
        let work = Arc::new((change, self.inner.outbox.clone(), Origin::of(caller)));
        let changed = self.inner.db.write("change a profile", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (change, outbox, origin) = &*work;
                let before = store::profile(tx, user).await?.ok_or_else(gone)?;
                let kept = |new: &Option<String>, old: &Option<String>| match new {
                    Some(text) => Some(text.clone()).filter(|text| !text.is_empty()),
                    None => old.clone(),
                };
                let after = Profile {
                    name: change.name.clone().unwrap_or_else(|| before.name.clone()),
                    locale: kept(&change.locale, &before.locale),
                    zone: kept(&change.zone, &before.zone),
                };
                store::set_profile(tx, user, &after).await?;
                let data = json!({ "id": user.to_string(), "profile": after, "before": before });
                outbox.append(tx, &[login::event("identity.user.updated", tenant, user, &data)], &origin.cause()).await
            })
        });
        changed.await?;
        self.me(caller).await
    }

    /// Mails a link to another address of the caller, who proves to be the person by the password. The address changes
    /// when the link is followed.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`, `MAIL_MISSING`, `EMAIL_INVALID`, `INVALID_CREDENTIALS`, `TOO_MANY_ATTEMPTS`.
    pub async fn change_email(
        &self,
        caller: &CallContext,
        visitor: &Visitor,
        email: &str,
        typed: Secret<String>,
    ) -> Result<()> {
        let (user, _) = person(&caller.principal)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        let public_url = self.require_mail()?.to_owned();
        let email = Email::parse(email)?;
        let account = store::find(&self.inner.db, user).await?.ok_or_else(login::refused)?;
        let tries = self
            .prove(&self.inner.hasher.seat()?, Some(&account), &Email::parse(&account.email)?, visitor.ip, typed)
            .await?;
        self.count_mail(&email, visitor).await?;
        let (now, generation) = (self.inner.clock.now(), account.generation);
        let (token, until) = (session::one_time("mfv"), now.after(PROOF));
        let letter = Errand::Letter(letter::proof(&public_url, &email, &token, until));
        let data = json!({ "id": user.to_string(), "email": email.typed });
        let event = login::event("identity.email.requested", caller.principal.tenant, user, &data);
        let data = serde_json::to_value(Move { email, generation });
        let data = data.map_err(|error| Error::internal("write another address").because(error))?;
        let hash = session::hash(token.expose());
        let promise = Promise { purpose: one_time::EMAIL, hash, user: Some(user), data, until };
        let work = Arc::new((self.clone(), tries, promise, letter, event, Origin::of(caller)));
        let asked = self.inner.db.write("ask for another address", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, tries, promise, letter, event, origin) = &*work;
                if !store::hold(tx, user, generation).await? {
                    return Err(login::refused());
                }
                tries.succeeded(tx, now).await?;
                one_time::insert(tx, promise).await?;
                identity.inner.post.send(tx, nobodys(), letter).await?;
                identity.inner.outbox.append(tx, std::slice::from_ref(event), &origin.cause()).await
            })
        });
        asked.await
    }

    /// Changes the address of who followed the link, and tells both.
    pub(crate) async fn confirm_email(&self, call: &CallContext, hash: Vec<u8>, made: Made) -> Result<()> {
        let user = made.user().ok_or_else(wrong_token)?;
        let Move { email, generation } = serde_json::from_value(made.data.0).map_err(|_| wrong_token())?;
        let account = store::find(&self.inner.db, user).await?.ok_or_else(wrong_token)?;
        let tenant = store::home(&self.inner.db, user).await?.unwrap_or_else(nobodys);
        let (now, old) = (self.inner.clock.now(), Email::parse(&account.email)?);
        let public_url = self.require_mail()?;
        let letters = [&old, &email].map(|to| Errand::Letter(letter::moved(public_url, to, &old, &email)));
        let data = json!({ "id": user.to_string(), "email": email.typed, "before": { "email": old.typed } });
        let event = login::event("identity.user.updated", tenant, user, &data);
        let work = Arc::new((self.clone(), hash, email, letters, event, Origin::of(call)));
        let changed = self.inner.db.write("change an address", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, hash, email, letters, event, origin) = &*work;
                if !one_time::use_up(tx, one_time::EMAIL, hash, now).await?
                    || !store::hold(tx, user, generation).await?
                    || !account::set_email(tx, user, email, now).await?
                {
                    return Err(wrong_token());
                }
                // What was mailed to the old address opens nothing any more.
                one_time::end_of(tx, user).await?;
                for letter in letters {
                    identity.inner.post.send(tx, nobodys(), letter).await?;
                }
                identity.inner.outbox.append(tx, std::slice::from_ref(event), &origin.cause()).await
            })
        });
        changed.await
    }
}

/// Of no tenant: mail to persons.
pub(crate) fn nobodys() -> TenantId {
    TenantId(Uuid::nil())
}

fn gone() -> Error {
    Error::not_found("NOT_FOUND", "there is no such account")
}

/// Letters and digits in parts, such as `pt-BR` and `Europe/Lisbon`. Empty stays empty.
fn read_tag(text: Option<String>, field: &'static str, between: char) -> Result<Option<String>> {
    let more = if between == '/' { "_+-" } else { "" };
    let part = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
    let sound = |text: &String| {
        let begins = text.starts_with(|first: char| first.is_ascii_alphabetic());
        text.is_empty() || (text.len() <= MAX_TAG && begins && text.split(between).all(part))
    };
    if text.iter().all(sound) {
        return Ok(text);
    }
    let message = "a locale is such as pt-BR, and a time zone such as Europe/Lisbon";
    Err(Error::invalid("PROFILE_INVALID", message).at(field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_and_time_zones_are_known_by_their_form() {
        let read = |text: &str, field, between| read_tag(Some(text.to_owned()), field, between);
        for locale in ["de", "pt-BR", "zh-Hant-TW", "de-1996", ""] {
            assert!(read(locale, "locale", '-').is_ok(), "{locale}");
        }
        for zone in ["UTC", "Europe/Lisbon", "America/Argentina/Buenos_Aires", "Etc/GMT+1", ""] {
            assert!(read(zone, "zone", '/').is_ok(), "{zone}");
        }
        for (text, field, between) in [
            ("pt_BR", "locale", '-'),
            ("-BR", "locale", '-'),
            ("pt--BR", "locale", '-'),
            ("../../etc", "zone", '/'),
            ("Europe//Lisbon", "zone", '/'),
            ("<b>", "zone", '/'),
        ] {
            let error = read(text, field, between).unwrap_err();
            assert_eq!((error.reason(), error.param()), ("PROFILE_INVALID", Some(field)), "{text}");
        }
    }
}
