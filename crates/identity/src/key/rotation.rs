//! Rotation in two phases: a key gets a second secret, and the first one works on until somebody finishes the rotation or its
//! grace is over. Both secrets belong to one key, so that what it may do cannot differ between them.

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{Code, Error, KeyId, Result, Timestamp};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde_json::{Value, json};

use super::access::govern;
use super::format::Environment;
use super::{Created, KeyInfo, WRITE, describe, generate_key, not_found};
use crate::origin::Origin;
use crate::store::key::{self as store, KeyRow, NewSecret};
use crate::store::revocation;
use crate::store::rotation::{self, Change};
use crate::verify::used;
use crate::{Identity, events, revoke, step_up};

/// How long an old secret goes on at most.
pub const MAX_GRACE: Duration = Duration::from_secs(30 * 24 * 3_600);

/// A secret that is being replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Enough of the old secret to recognise it.
    pub old_prefix: String,
    /// When the old secret ends by itself.
    pub old_ends_at: Timestamp,
    /// When the old secret was last used, a few seconds late.
    pub old_used_at: Option<Timestamp>,
    /// When the new secret was first used, a few seconds late.
    pub new_used_at: Option<Timestamp>,
}

impl Rotation {
    /// That of a key, over or not.
    pub(super) fn of(row: &KeyRow) -> Option<Self> {
        Some(Self {
            old_prefix: format!("mfk_{}_{}", row.environment, row.old_lookup.as_ref()?),
            old_ends_at: row.old_expires_at?.into(),
            old_used_at: row.old_used_at.map(Timestamp::from),
            new_used_at: row.secret_used_at.map(Timestamp::from),
        })
    }

    /// That of a key, unless it is over.
    fn open(row: &KeyRow, now: Timestamp) -> Result<Self> {
        Self::of(row).filter(|rotation| rotation.old_ends_at > now).ok_or_else(|| {
            Error::new(
                Code::Conflict,
                "ROTATION_NOT_FOUND",
                "this key is not being rotated, or its old secret has ended",
            )
        })
    }
}

/// When a rotation may be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// After the new secret was used.
    WhenUsed,
    /// In any case.
    Now,
}

/// What is done to a rotation.
enum Step {
    Begin { secret: NewSecret, grace: Duration },
    Finish(Finish),
    Cancel,
}

impl Identity {
    /// Gives a key of the caller's tenant a new secret. The old one works for `grace` longer, at most 30 days, and never longer
    /// than the key. Needs `keys.key.write` and all that the key may do.
    ///
    /// # Errors
    /// `GRACE_INVALID`, `KEY_NOT_FOUND`, `KEY_REVOKED`, `ESCALATION`, `ROTATION_IN_PROGRESS`.
    pub async fn rotate_key(&self, caller: &CallContext, id: KeyId, grace: Duration) -> Result<Created> {
        caller.principal.require_some(WRITE)?;
        if grace > MAX_GRACE {
            return Err(Error::invalid("GRACE_INVALID", "an old secret goes on for at most 30 days").at("grace"));
        }
        let row = store::find_key(&self.inner.db, caller.principal.tenant, id).await?.ok_or_else(not_found)?;
        let environment = Environment::parse(&row.environment);
        let secret = generate_key(environment.ok_or_else(|| Error::internal("an API key has an unknown environment"))?);
        let step = Step::Begin { secret: self.new_secret(&secret)?, grace };
        let key = self.step(caller, id, step).await?;
        Ok(Created { key, secret, replayed: false })
    }

    /// Ends the old secret of a key that is being rotated, everywhere and within seconds. Needs `keys.key.write` and all that
    /// the key may do.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `KEY_REVOKED`, `ESCALATION`, `ROTATION_NOT_FOUND`, `NEW_SECRET_UNUSED`.
    pub async fn finish_rotation(&self, caller: &CallContext, id: KeyId, finish: Finish) -> Result<KeyInfo> {
        caller.principal.require_some(WRITE)?;
        // Uses are noted every few seconds; those of this process are known at once.
        used::flush(self).await;
        self.step(caller, id, Step::Finish(finish)).await
    }

    /// Ends the new secret of a key that is being rotated; the old one goes on as before. Needs `keys.key.write` and all that
    /// the key may do.
    ///
    /// # Errors
    /// `KEY_NOT_FOUND`, `KEY_REVOKED`, `ESCALATION`, `ROTATION_NOT_FOUND`.
    pub async fn cancel_rotation(&self, caller: &CallContext, id: KeyId) -> Result<KeyInfo> {
        caller.principal.require_some(WRITE)?;
        self.step(caller, id, Step::Cancel).await
    }

    async fn step(&self, caller: &CallContext, id: KeyId, step: Step) -> Result<KeyInfo> {
        let now = self.inner.clock.now();
        step_up::require(&caller.principal, now)?;
        let work = Arc::new((step, self.inner.outbox.clone(), Origin::of(caller)));
        let changed = self.inner.db.write("rotate an API key", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (step, outbox, origin) = &*work;
                let tenant = origin.principal.tenant;
                let before = govern(tx, &origin.principal, id).await?;
                let (type_, mut data) = take(tx, origin, &before, step, now).await?;
                rotation::schedule(tx, tenant, id).await?;
                revocation::append(tx, &revoke::key_subject(id), now).await?;
                let row = store::find_key_in(tx, tenant, id).await?.ok_or_else(not_found)?;
                data["id"] = json!(id.to_string());
                data["by"] = json!(&*origin.principal.subject);
                let event = events::key(type_, tenant, id, &data);
                outbox.append(tx, &[event], &origin.cause()).await?;
                Ok(row)
            })
        });
        let row = changed.await?;
        self.inner.cache.forget(|known| known.principal.key == Some(id));
        Ok(describe(row, now))
    }
}

/// Takes the step; type and data of its event.
async fn take(
    tx: &mut Tx<'_>,
    origin: &Origin,
    key: &KeyRow,
    step: &Step,
    now: Timestamp,
) -> Result<(&'static str, Value)> {
    let (tenant, id) = (origin.principal.tenant, KeyId(key.id));
    let named = |lookup: &str| format!("mfk_{}_{lookup}", key.environment);
    match step {
        Step::Begin { secret, grace } => {
            if Rotation::open(key, now).is_ok() {
                let message = "this key is being rotated: finish that or cancel it first";
                return Err(Error::new(Code::Conflict, "ROTATION_IN_PROGRESS", message));
            }
            let ends_at = now.after(*grace);
            let ends_at = key.expires_at.map_or(ends_at, |expires_at| ends_at.min(expires_at.into()));
            let warn_at = now.after(ends_at.since(now) / 2);
            rotation::change_secrets(tx, tenant, id, Change::DropOld(now)).await?;
            rotation::change_secrets(tx, tenant, id, Change::Replace { ends_at, warn_at }).await?;
            store::insert_secret(tx, tenant, id, secret, now).await?;
            let new = named(secret.lookup.as_str());
            let data = json!({ "prefix": new, "old_prefix": named(&key.lookup), "old_ends_at": ends_at.to_string() });
            Ok(("identity.key.rotated", data))
        }
        Step::Finish(finish) => {
            let open = Rotation::open(key, now)?;
            if *finish == Finish::WhenUsed && open.new_used_at.is_none() {
                let message = "nobody has used the new secret yet; finish with `force` if the old one must end now";
                return Err(Error::new(Code::Precondition, "NEW_SECRET_UNUSED", message));
            }
            rotation::change_secrets(tx, tenant, id, Change::DropOld(now)).await?;
            let data = json!({ "prefix": named(&key.lookup), "old_prefix": open.old_prefix,
                "new_used_at": open.new_used_at.map(|time| time.to_string()) });
            Ok(("identity.key.rotation_finished", data))
        }
        Step::Cancel => {
            let open = Rotation::open(key, now)?;
            rotation::change_secrets(tx, tenant, id, Change::DropNew(now)).await?;
            rotation::change_secrets(tx, tenant, id, Change::Restore).await?;
            let data = json!({ "prefix": open.old_prefix, "dropped_prefix": named(&key.lookup) });
            Ok(("identity.key.rotation_cancelled", data))
        }
    }
}
