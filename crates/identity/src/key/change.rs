//! Changing a key: what it is called, what it may do, on which terms, and until when.

use std::sync::Arc;

use manifold_core::{Code, Error, KeyId, OwnerId, Principal, Result, Timestamp};
use manifold_runtime::CallContext;
use serde_json::{Map, Value, json};

use super::access::{check_restrictions, govern};
use super::credit::{Refill, check_credits};
use super::restriction::Restrictions;
use super::terms::{check_expiry, check_metadata, check_rotate_every};
use super::{KeyInfo, WRITE, describe, not_found};
use crate::origin::Origin;
use crate::store::key::{self as store, Changed, KeyRow};
use crate::store::{member as members, revocation, rotation};
use crate::{Identity, events, name, owner, permission, revoke, step_up};

/// What shall be different; None leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct KeyChange {
    /// What a person calls it, 1 to 100 characters.
    pub name: Option<String>,
    /// Granted permissions, never more than the caller holds.
    pub permissions: Option<Vec<String>>,
    /// When it ends by itself; `Some(None)` = never.
    pub expires_at: Option<Option<Timestamp>>,
    /// Whether it works.
    pub enabled: Option<bool>,
    /// From where and for what it may be used.
    pub restrictions: Option<Restrictions>,
    /// What its holder wants to remember with it, up to 4 KiB of JSON.
    pub metadata: Option<Map<String, Value>>,
    /// How many calls it has left; `Some(None)` = as many as it wants, and no refill.
    pub credits: Option<Option<i64>>,
    /// How credits are filled up; `Some(None)` = not.
    pub refill: Option<Option<Refill>>,
    /// How many days a secret of it shall live at most; `Some(None)` = no matter.
    pub rotate_every: Option<Option<u16>>,
    /// For whom it is; `Some(None)` = nobody in particular.
    pub owner: Option<Option<OwnerId>>,
}

impl Identity {
    /// Changes a key of the caller's tenant, everywhere and within seconds. Needs `keys.key.write`, and all that the key may do
    /// before and after. A key does not change itself.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `KEY_REVOKED`, `ESCALATION`, and those of malformed wishes.
    pub async fn update_key(&self, caller: &CallContext, id: KeyId, change: KeyChange) -> Result<KeyInfo> {
        let now = self.inner.clock.now();
        let change = check(&caller.principal, id, change, now)?;
        step_up::require(&caller.principal, now)?;
        let work = Arc::new((change, self.inner.outbox.clone(), Origin::of(caller)));
        let changed = self.inner.db.write("change an API key", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (change, outbox, origin) = &*work;
                let tenant = origin.principal.tenant;
                let row = govern(tx, &origin.principal, id).await?;
                let (before, after) = (state(&row), change.apply(&row, now));
                if before == after {
                    return Ok(row);
                }
                check_restrictions(tx, &origin.principal, &after.terms).await?;
                owner::require(tx, tenant, change.owner.flatten()).await?;
                store::update_key(tx, tenant, id, &after).await?;
                // It may have given away what it has no more.
                members::end_invitations_by(tx, tenant, &id.to_string()).await?;
                if before.terms.rotate_every != after.terms.rotate_every {
                    rotation::schedule(tx, tenant, id).await?;
                }
                revocation::append(tx, &revoke::key_subject(id), now).await?;
                let row = store::find_key_in(tx, tenant, id).await?.ok_or_else(not_found)?;
                let (before, after) = differences(print(&before), print(&after));
                let by = &*origin.principal.subject;
                let data = json!({ "id": id.to_string(), "by": by, "before": before, "after": after });
                let event = events::key("identity.key.updated", tenant, id, &data);
                outbox.append(tx, &[event], &origin.cause()).await?;
                Ok(row)
            })
        });
        let row = changed.await?;
        self.inner.cache.forget(|known| known.principal.key == Some(id));
        Ok(describe(row, now))
    }
}

impl KeyChange {
    /// What becomes of a key.
    fn apply(&self, row: &KeyRow, now: Timestamp) -> Changed {
        let mut after = state(row);
        if let Some(name) = &self.name {
            after.name.clone_from(name);
        }
        if let Some(permissions) = &self.permissions {
            after.permissions.clone_from(permissions);
        }
        if let Some(expires_at) = self.expires_at {
            after.expires_at = expires_at;
        }
        if let Some(enabled) = self.enabled {
            after.state = if enabled { "active" } else { "disabled" };
        }
        let terms = &mut after.terms;
        if let Some(restrictions) = &self.restrictions {
            terms.restrictions.clone_from(restrictions);
        }
        if let Some(metadata) = &self.metadata {
            terms.metadata.clone_from(metadata);
        }
        if let Some(credits) = self.credits {
            terms.credits = credits;
            terms.refill = terms.refill.filter(|_| credits.is_some());
        }
        if let Some(refill) = self.refill {
            terms.refill = refill;
            terms.credits = terms.credits.or(refill.map(|refill| refill.amount));
        }
        if let Some(owner) = self.owner {
            terms.owner = owner;
        }
        if let Some(days) = self.rotate_every {
            terms.rotate_every = days;
        }
        if terms.refill != row.refill.as_ref().map(|refill| refill.0) {
            after.refill_at = terms.refill.and_then(|refill| refill.next(now));
        }
        after
    }
}

/// What of a key can be changed, as it is.
fn state(row: &KeyRow) -> Changed {
    Changed {
        name: row.name.clone(),
        permissions: row.grants.0.clone(),
        state: if row.state == "active" { "active" } else { "disabled" },
        expires_at: row.expires_at.map(Timestamp::from),
        terms: row.terms(),
        refill_at: row.refill_at.map(Timestamp::from),
    }
}

/// Checks everything that needs no database.
fn check(caller: &Principal, id: KeyId, mut change: KeyChange, now: Timestamp) -> Result<KeyChange> {
    caller.require_some(WRITE)?;
    if caller.key == Some(id) {
        return Err(Error::new(Code::Denied, "ESCALATION", "a key does not change itself"));
    }
    change.name = change.name.map(|text| name::read(&text)).transpose()?;
    if let Some(permissions) = &change.permissions {
        if permissions.is_empty() {
            return Err(Error::invalid("PERMISSION_INVALID", "a key has at least one permission").at("permissions"));
        }
        permission::check_grants(caller, permissions)?;
    }
    check_expiry(change.expires_at.flatten(), now)?;
    change.restrictions = change.restrictions.map(Restrictions::read).transpose()?;
    change.metadata.as_ref().map_or(Ok(()), check_metadata)?;
    change.credits.flatten().map_or(Ok(()), check_credits)?;
    change.refill.flatten().map_or(Ok(()), |refill| refill.check())?;
    change.rotate_every.flatten().map_or(Ok(()), check_rotate_every)?;
    Ok(change)
}

fn print(state: &Changed) -> Map<String, Value> {
    let fields = [
        ("name", json!(state.name)),
        ("permissions", json!(state.permissions)),
        ("state", json!(state.state)),
        ("expires_at", json!(state.expires_at.map(|time| time.to_string()))),
    ];
    let terms = state.terms.to_json().as_object().cloned().unwrap_or_default();
    fields.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(terms).collect()
}

/// The fields that differ, before and after.
fn differences(mut before: Map<String, Value>, mut after: Map<String, Value>) -> (Value, Value) {
    before.retain(|name, value| {
        let same = after.get(name) == Some(value);
        if same {
            after.remove(name);
        }
        !same
    });
    (Value::Object(before), Value::Object(after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_tells_what_differs_and_nothing_else() {
        let object = |value: Value| value.as_object().cloned().unwrap();

        let (before, after) =
            differences(object(json!({"name": "a", "credits": 1})), object(json!({"name": "b", "credits": 1})));

        assert_eq!((before, after), (json!({"name": "a"}), json!({"name": "b"})));
    }
}
