//! Secrets of a tenant by name: written, replaced and deleted, never shown. Services open them through the vault.

use std::sync::Arc;

use manifold_bus::Draft;
use manifold_core::{Code, Error, Page, PageRequest, Result, Secret, SecretId, TenantId, Timestamp};
use manifold_runtime::CallContext;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::origin::Origin;
use crate::store::secret::{self as store, SecretRow, Written};
use crate::vault::{Place, busy};
use crate::{Identity, step_up};

pub(crate) const READ: &str = "vault.secret.read";
const WRITE: &str = "vault.secret.write";

/// Longest value, in bytes.
const MAX_VALUE: usize = 64 * 1024;
const MAX_NAME: usize = 100;
/// The last characters are shown of values of this length: what is left is still far from guessed.
const MIN_SHOWN: usize = 16;
/// How often to try when others write the same secret.
const TRIES: usize = 10;

/// A secret as people see it: everything but the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    /// The secret.
    pub id: SecretId,
    /// How it is called.
    pub name: String,
    /// Its last four characters, if it has at least 16.
    pub last4: Option<String>,
    /// How many values it has had.
    pub version: i32,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Who wrote it last.
    pub updated_by: String,
}

/// Where the value of a secret is sealed.
pub(crate) fn place(tenant: TenantId, id: Uuid) -> Place<'static> {
    Place { tenant, table: "vault_secret", column: "sealed", row: id }
}

impl Identity {
    /// A page of the secrets of the caller's tenant, the newest first. Needs `vault.secret.read`.
    pub async fn list_secrets(&self, caller: &CallContext, page: PageRequest) -> Result<Page<SecretInfo>> {
        caller.principal.require(READ)?;
        let (before, limit) = manifold_store::newest_first(&page);
        let rows = store::list(&self.inner.db, caller.principal.tenant, before, limit).await?;
        Ok(Page::cut(&page, rows.into_iter().map(SecretInfo::from).collect(), |secret: &SecretInfo| secret.id.0))
    }

    /// One secret of the caller's tenant, without its value. Needs `vault.secret.read`.
    ///
    /// # Errors
    /// `SECRET_NOT_FOUND`.
    pub async fn get_secret(&self, caller: &CallContext, name: &str) -> Result<SecretInfo> {
        caller.principal.require(READ)?;
        let row = store::find(&self.inner.db, caller.principal.tenant, name).await?;
        row.map(SecretInfo::from).ok_or_else(not_found)
    }

    /// Writes a secret of the caller's tenant, whether or not there is one of that name. Needs `vault.secret.write`.
    ///
    /// # Errors
    /// `SECRET_INVALID`, `STEP_UP_REQUIRED`.
    pub async fn put_secret(&self, caller: &CallContext, name: &str, value: &Secret<String>) -> Result<SecretInfo> {
        caller.principal.require(WRITE)?;
        check(name, value)?;
        let now = self.inner.clock.now();
        step_up::require(&caller.principal, now)?;
        for _ in 0..TRIES {
            let known = store::find(&self.inner.db, caller.principal.tenant, name).await?;
            let id = known.as_ref().map_or_else(|| self.inner.ids.next(), |row| row.id);
            let place = place(caller.principal.tenant, id);
            let written = Written {
                id,
                tenant: caller.principal.tenant,
                name: name.to_owned(),
                sealed: self.inner.vault.seal(place, value.expose().as_bytes()).await?,
                before: known.as_ref().map_or(0, |row| row.version),
                last4: last4(value.expose()),
                by: caller.principal.subject.to_string(),
                at: now,
            };
            let info = SecretInfo::from(&written);
            let work = Arc::new((written, self.inner.outbox.clone(), Origin::of(caller)));
            let done = self.inner.db.write("write a secret", move |tx| {
                let work = Arc::clone(&work);
                Box::pin(async move {
                    let (written, outbox, origin) = &*work;
                    let done = store::write(tx, written).await?;
                    if done {
                        outbox.append(tx, &[written_event(written)], &origin.cause()).await?;
                    }
                    Ok(done)
                })
            });
            if done.await? {
                return Ok(info);
            }
        }
        Err(busy())
    }

    /// Deletes a secret of the caller's tenant. Needs `vault.secret.write`.
    ///
    /// # Errors
    /// `SECRET_NOT_FOUND`, `STEP_UP_REQUIRED`.
    pub async fn delete_secret(&self, caller: &CallContext, name: &str) -> Result<()> {
        caller.principal.require(WRITE)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        let work = Arc::new((name.to_owned(), self.inner.outbox.clone(), Origin::of(caller)));
        let deleted = self.inner.db.write("delete a secret", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (name, outbox, origin) = &*work;
                let tenant = origin.principal.tenant;
                let Some((id, version)) = store::delete(tx, tenant, name).await? else { return Ok(false) };
                let data = json!({ "name": name, "before": { "version": version }, "after": null });
                let deleted = event("identity.secret.deleted", tenant, id, &data);
                outbox.append(tx, &[deleted], &origin.cause()).await?;
                Ok(true)
            })
        });
        if deleted.await? { Ok(()) } else { Err(not_found()) }
    }
}

fn check(name: &str, value: &Secret<String>) -> Result<()> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let fits = name.bytes().all(|byte| is_letter(byte) || matches!(byte, b'.' | b'_' | b'-'));
    if !fits || !name.bytes().next().is_some_and(is_letter) || name.len() > MAX_NAME {
        let message = "a name is 1 to 100 of a-z 0-9 . _ - and begins with a letter or digit";
        return Err(Error::invalid("SECRET_INVALID", message).at("name"));
    }
    if value.expose().is_empty() || value.expose().len() > MAX_VALUE {
        return Err(Error::invalid("SECRET_INVALID", "a value has 1 to 65536 bytes").at("value"));
    }
    Ok(())
}

fn last4(value: &str) -> Option<String> {
    let length = value.chars().count();
    (length >= MIN_SHOWN).then(|| value.chars().skip(length - 4).collect())
}

fn written_event(written: &Written) -> Draft {
    let (type_, before) = match written.before {
        0 => ("identity.secret.created", Value::Null),
        version => ("identity.secret.updated", json!({ "version": version })),
    };
    let data = json!({ "name": written.name, "before": before, "after": { "version": written.before + 1 } });
    event(type_, written.tenant, written.id, &data)
}

/// What happened to a secret.
pub(crate) fn event(type_: &'static str, tenant: TenantId, id: Uuid, data: &Value) -> Draft {
    Draft { type_, subject: SecretId(id).to_string(), tenant, data: data.to_string().into() }
}

impl From<SecretRow> for SecretInfo {
    fn from(row: SecretRow) -> Self {
        Self {
            id: SecretId(row.id),
            name: row.name,
            last4: row.last4,
            version: row.version,
            updated_at: row.updated_at,
            updated_by: row.updated_by,
        }
    }
}

impl From<&Written> for SecretInfo {
    fn from(written: &Written) -> Self {
        Self {
            id: SecretId(written.id),
            name: written.name.clone(),
            last4: written.last4.clone(),
            version: written.before + 1,
            updated_at: written.at,
            updated_by: written.by.clone(),
        }
    }
}

/// Unknown, malformed and foreign names are the same error.
pub(crate) fn not_found() -> Error {
    Error::new(Code::NotFound, "SECRET_NOT_FOUND", "no such secret")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_checked() {
        let value = Secret::from("x");
        for name in ["a", "0", "stripe.live_key-2", &"a".repeat(100)] {
            assert!(check(name, &value).is_ok(), "{name}");
        }
        for name in ["", ".a", "-a", "_a", "A", "a b", "a/b", "a|b", "é", &"a".repeat(101)] {
            let error = check(name, &value).unwrap_err();
            assert_eq!((error.reason(), error.param()), ("SECRET_INVALID", Some("name")), "{name}");
        }
        assert!(check("a", &Secret::new("x".repeat(65_536))).is_ok());
        for value in [String::new(), "x".repeat(65_537)] {
            assert_eq!(check("a", &Secret::new(value)).unwrap_err().param(), Some("value"));
        }
    }

    #[test]
    fn the_end_of_a_long_value_is_shown_and_nothing_of_a_short_one() {
        assert_eq!(last4("sk-canary-12345"), None);
        assert_eq!(last4("sk-canary-123456").as_deref(), Some("3456"));
        assert_eq!(last4("ééééééééééééééé€").as_deref(), Some("ééé€"));
    }
}
