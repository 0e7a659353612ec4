//! How signing keys take turns. A key waits in the public document for at least an hour before it signs, so that everybody
//! who keeps the document knows it by then; it signs for 30 days; and it verifies until the last token that it signed is over.
//! There is always one that waits. Every process learns of a change by the feed of revocations.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use manifold_bus::Draft;
use manifold_core::{Code, Error, Ids, Result, Secret, TenantId, Timestamp};
use manifold_runtime::CallContext;
use manifold_store::Db;
use serde_json::json;
use sqlx::types::Json;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Jwk, Keyring, public_of};
use crate::origin::Origin;
use crate::store::revocation;
use crate::store::signing::{self as store, SigningKey};
use crate::vault::Vault;
use crate::vault::envelope::{KeyBytes, Place};
use crate::{Identity, random, revoke, step_up};

const ROTATE: &str = "system.signing.write";
/// How often it is looked whether a turn is over.
const EVERY: Duration = Duration::from_secs(600);
/// How long a key signs.
const TURN: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long a key is published before it signs.
const PUBLISHED: Duration = Duration::from_secs(3_600);
/// How long a key verifies after its turn: longer than any token that it may have signed.
const VERIFIES: Duration = Duration::from_secs(3_600 + 60);

/// The keys as this process knows them.
pub struct Signing(ArcSwap<Keyring>);

impl Signing {
    /// Reads the keys; on an empty database makes the first ones. Nobody knows a key yet then, so one may sign at once.
    pub async fn open(db: &Db, vault: &Vault, ids: &Ids, now: Timestamp) -> Result<Self> {
        let mut keys = store::list(db).await?;
        if !keys.iter().any(|key| key.state == "active") {
            let first = Arc::new([new(vault, ids, "active", now).await?, new(vault, ids, "next", now).await?]);
            let made = db.write("make the first signing keys", move |tx| {
                let first = Arc::clone(&first);
                Box::pin(async move {
                    for key in &*first {
                        store::insert(tx, key).await?;
                    }
                    Ok(())
                })
            });
            made.await?;
            keys = store::list(db).await?;
        }
        Ok(Self(ArcSwap::from_pointee(keyring(vault, &keys).await?)))
    }

    /// The keys.
    pub fn ring(&self) -> arc_swap::Guard<Arc<Keyring>> {
        self.0.load()
    }

    /// Reads the keys again.
    pub async fn read(&self, db: &Db, vault: &Vault) -> Result<()> {
        self.0.store(Arc::new(keyring(vault, &store::list(db).await?).await?));
        Ok(())
    }
}

impl Identity {
    /// The public parts of the keys that sign access tokens, as a JSON Web Key Set (RFC 7517).
    pub fn jwks(&self) -> String {
        self.inner.signing.ring().document().to_owned()
    }

    /// Ends the turn of the key that signs; the name of the one that signs from now on. Needs `system.signing.write`.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`; `SIGNING_KEY_TOO_NEW`, with the time to wait, if the next one is not known to everybody yet.
    pub async fn rotate_signing_key(&self, caller: &CallContext) -> Result<String> {
        self.require_host(&caller.principal, ROTATE)?;
        step_up::require(&caller.principal, self.inner.clock.now())?;
        let keys = store::list(&self.inner.db).await?;
        let next = in_state(&keys, "next")?;
        let known_at = next.since.after(PUBLISHED);
        let now = self.inner.clock.now();
        if known_at > now {
            let message =
                "the next signing key was published less than an hour ago: who verifies tokens may not know it yet";
            return Err(Error::new(Code::Conflict, "SIGNING_KEY_TOO_NEW", message).retry_after(known_at.since(now)));
        }
        self.rotate(in_state(&keys, "active")?.id, next.id, Origin::of(caller)).await?;
        let keys = store::list(&self.inner.db).await?;
        Ok(in_state(&keys, "active")?.kid())
    }

    /// The turn goes from one key to another, unless it already has.
    async fn rotate(&self, from: Uuid, to: Uuid, origin: Origin) -> Result<()> {
        let now = self.inner.clock.now();
        let spare = new(&self.inner.vault, &self.inner.ids, "next", now).await?;
        let work = Arc::new((spare, self.inner.outbox.clone(), origin));
        let rotated = self.inner.db.write("rotate the signing key", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (spare, outbox, origin) = &*work;
                if !store::retire(tx, from, now).await? {
                    return Ok(false);
                }
                if !store::activate(tx, to, now).await? || !store::insert(tx, spare).await? {
                    return Err(Error::internal("the next signing key has changed"));
                }
                revocation::append(tx, revoke::SIGNING, now).await?;
                let data = json!({ "active": store::kid(to), "next": spare.kid(), "before": store::kid(from) });
                let event = Draft {
                    type_: "identity.signing_key.rotated",
                    subject: store::kid(to),
                    tenant: origin.principal.tenant,
                    data: data.to_string().into(),
                };
                outbox.append(tx, &[event], &origin.cause()).await?;
                Ok(true)
            })
        });
        if rotated.await? {
            info!("another key signs access tokens from now on");
        }
        self.inner.signing.read(&self.inner.db, &self.inner.vault).await
    }

    /// Rotates if the turn is over, and forgets keys whose last token is.
    async fn take_turns(&self) -> Result<()> {
        let now = self.inner.clock.now();
        let keys = store::list(&self.inner.db).await?;
        let (active, next) = (in_state(&keys, "active")?, in_state(&keys, "next")?);
        if active.since.after(TURN) <= now && next.since.after(PUBLISHED) <= now {
            self.rotate(active.id, next.id, Origin::of_house(&self.inner.ids, TenantId(Uuid::nil()))).await?;
        }
        let removed = self.inner.db.write("remove signing keys", move |tx| {
            Box::pin(async move {
                let n = store::remove(tx, now.before(VERIFIES)).await?;
                if n > 0 {
                    revocation::append(tx, revoke::SIGNING, now).await?;
                }
                Ok(n)
            })
        });
        if removed.await? > 0 {
            self.inner.signing.read(&self.inner.db, &self.inner.vault).await?;
        }
        Ok(())
    }
}

/// Lets the keys take turns until shutdown.
pub async fn run(identity: Identity) {
    let stop = identity.inner.tasks.token();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = identity.take_turns().await {
            warn!(%error, "cannot look after the signing keys");
        }
    }
}

async fn keyring(vault: &Vault, keys: &[SigningKey]) -> Result<Keyring> {
    let broken = || Error::internal("the signing key is not what it was");
    let active = in_state(keys, "active")?;
    let seed = vault.open(place(active.id), active.private.as_deref().unwrap_or_default()).await?;
    let seed = seed.expose().as_slice().try_into().map(Secret::new).map_err(|_| broken())?;
    let public: Vec<_> = keys.iter().map(|key| key.public.0.clone()).collect();
    Keyring::new(&public, &active.kid(), &seed)
}

/// A key that nobody knows yet.
async fn new(vault: &Vault, ids: &Ids, state: &str, at: Timestamp) -> Result<SigningKey> {
    let (id, seed): (_, KeyBytes) = (ids.next(), Secret::new(random::bytes()));
    let public = Json(Jwk::new(&store::kid(id), &public_of(&seed)?));
    let private = vault.seal(place(id), seed.expose()).await?;
    Ok(SigningKey { id, private: Some(private), public, state: state.to_owned(), since: at })
}

/// Where a private part stands. It is no tenant's.
fn place(id: Uuid) -> Place<'static> {
    Place { tenant: TenantId(Uuid::nil()), table: "signing_key", column: "private", row: id }
}

fn in_state<'k>(keys: &'k [SigningKey], state: &str) -> Result<&'k SigningKey> {
    keys.iter().find(|key| key.state == state).ok_or_else(|| Error::internal("a signing key is missing"))
}
