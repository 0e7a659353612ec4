//! The vault: seals secrets under keys of their tenants, which are sealed under a master key. Keys of the installation are
//! sealed under it, too.

pub mod envelope;
mod held;
pub mod master;
pub mod reseal;
pub mod ring;
pub mod rotate;
pub mod serve;
pub mod tenant;

use std::sync::atomic::{AtomicI64, Ordering};

use manifold_core::{Clock, Code, Error, Result, Secret, TenantId};
use manifold_store::Db;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::store::system::{self, SystemKey};
use crate::store::vault::{self as store, KeyRow};
use crate::{Identity, random};
pub use envelope::Place;
use envelope::{KeyBytes, Label};
use held::Held;
use master::{MasterKey, Masters};

/// Most values under one key: random nonces of 96 bits are safe for four times as many (NIST SP 800-38D, 8.3).
const MAX_SEALS: i64 = 1 << 30;
/// Seals that a process takes out of a key at a time. Those it does not use are lost.
const SEALS: i64 = 64;
/// How often to try when another process changes the same key.
const TRIES: usize = 10;

/// Sweeps opened keys away, and seals anew what needs a replaced key, until it is dropped.
pub async fn run(identity: Identity) {
    let mut ticks = interval(held::FOR);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => identity.inner.vault.sweep(),
            () = identity.inner.vault.wake.notified() => {}
        }
        if let Err(error) = reseal::pass(&identity).await {
            warn!(error = error.chain(), "cannot seal anew what needs a replaced key, trying again");
        }
    }
}

/// Seals and opens.
pub struct Vault {
    db: Db,
    clock: Clock,
    masters: Masters,
    sealing: Held<TenantId, Sealing>,
    opening: Held<(TenantId, i32), KeyBytes>,
    /// Tables of other services that are known to need a tenant's key.
    holders: Held<(TenantId, String), ()>,
    /// A key was replaced.
    wake: Notify,
}

/// The active key of a tenant.
struct Sealing {
    version: i32,
    key: KeyBytes,
    /// Seals that this process may still make.
    left: AtomicI64,
}

impl Vault {
    /// Reads the master keys and checks that they are those of this database; on an empty one the first is made.
    pub async fn start(db: Db, clock: Clock, configured: &[MasterKey]) -> Result<Self> {
        let sealed = system::list_system_keys(&db).await?;
        let masters = Masters::open(&db, configured, &sealed, clock.now()).await?;
        let (sealing, opening, holders) = (Held::new(), Held::new(), Held::new());
        Ok(Self { db, clock, masters, sealing, opening, holders, wake: Notify::new() })
    }

    /// All versions of the system key `name`, opened; the first is made when it is missing.
    pub async fn system_key(&self, name: &'static str) -> Result<Vec<(i32, KeyBytes)>> {
        for _ in 0..TRIES {
            let stored = system::list_system_keys(&self.db).await?;
            let versions: Vec<_> = stored.iter().filter(|key| key.name == name).collect();
            if !versions.is_empty() {
                let open = |key: &SystemKey| Ok((key.version, self.masters.unwrap(&key.wrapped, Label::of(key))?));
                return versions.into_iter().map(open).collect();
            }
            self.create_system_key(name).await?;
        }
        Err(busy())
    }

    /// Seals a new system key, unless another process was faster.
    async fn create_system_key(&self, name: &'static str) -> Result<()> {
        let master_id = self.sealing_master().await?;
        let label = Label { owner: name, version: 1, master_id: &master_id };
        let wrapped = self.masters.wrap(&Secret::new(random::bytes()), label)?;
        let key = SystemKey { name: name.to_owned(), version: 1, wrapped, master_id };
        let created = self.db.write("create a system key", move |tx| {
            let key = key.clone();
            Box::pin(async move {
                match store::hold_master(tx, &key.master_id).await? {
                    true => system::insert_system_key(tx, &key).await,
                    false => Ok(()),
                }
            })
        });
        created.await
    }

    /// Seals what is to stand at `place`. Call it before the transaction that writes it. A table of this crate must be among
    /// [`reseal::COLUMNS`]; those of other services begin with the name of the service and a dot.
    pub async fn seal(&self, place: Place<'_>, text: &[u8]) -> Result<Vec<u8>> {
        if !reseal::is_known(place) {
            return Err(Error::internal("a column is sealed that would not be sealed anew"));
        }
        for _ in 0..TRIES {
            let now = self.clock.now();
            let key = match self.sealing.get(&place.tenant, now) {
                Some(key) => key,
                None => match self.take_seals(place.tenant).await? {
                    Some(key) => self.sealing.put(place.tenant, key, now),
                    None => {
                        self.renew_key(place.tenant).await?;
                        continue;
                    }
                },
            };
            if key.left.fetch_sub(1, Ordering::Relaxed) > 0 {
                return Ok(envelope::seal_value(&key.key, key.version, text, random::bytes(), place));
            }
            self.sealing.forget(&place.tenant);
        }
        Err(busy())
    }

    /// Opens what [`Vault::seal`] sealed for this place.
    ///
    /// # Errors
    /// `INTERNAL` if it was altered or stood elsewhere, or if its key is gone.
    pub async fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret<Vec<u8>>> {
        let spoilt = || Error::internal("a sealed value does not open in its place");
        let version = envelope::version_of(sealed).ok_or_else(spoilt)?;
        let (id, now) = ((place.tenant, version), self.clock.now());
        let key = match self.opening.get(&id, now) {
            Some(key) => key,
            None => {
                let row = store::find_key(&self.db, place.tenant, version).await?;
                let row = row.ok_or_else(|| Error::internal("the key of a sealed value is gone"))?;
                self.opening.put(id, self.unwrap(place.tenant, &row)?, now)
            }
        };
        envelope::open_value(&key, sealed, place).ok_or_else(spoilt)
    }

    /// Lets go of opened keys that were not used for a while.
    pub fn sweep(&self) {
        let now = self.clock.now();
        self.sealing.sweep(now);
        self.opening.sweep(now);
        self.holders.sweep(now);
    }

    /// The active key of a tenant, with some seals; None if there is none, or it has made too many.
    async fn take_seals(&self, tenant: TenantId) -> Result<Option<Sealing>> {
        let taken = self.db.write_repeatable("take seals out of a key", move |tx| {
            Box::pin(async move { store::take_seals(tx, tenant, SEALS, MAX_SEALS).await })
        });
        let Some(row) = taken.await? else { return Ok(None) };
        Ok(Some(Sealing { version: row.version, key: self.unwrap(tenant, &row)?, left: AtomicI64::new(SEALS) }))
    }

    /// Makes a tenant's first key, or the next one if the active one has made too many seals.
    async fn renew_key(&self, tenant: TenantId) -> Result<bool> {
        match store::active_version(&self.db, tenant).await? {
            Some((_, seals)) if seals + SEALS <= MAX_SEALS => Ok(false),
            active => self.replace_key(tenant, active.map_or(0, |(version, _)| version)).await,
        }
    }

    /// The master key that seals new keys. It may have become that after the start, so it is checked again: what another key
    /// of the same name seals nobody else opens.
    async fn sealing_master(&self) -> Result<String> {
        let master = store::active_master(&self.db).await?;
        self.masters.check(std::slice::from_ref(&master))?;
        Ok(master.id)
    }

    /// What the version after `active` of a tenant's key shall be.
    async fn next_key(&self, tenant: TenantId, active: i32) -> Result<KeyRow> {
        let (version, master_id) = (active + 1, self.sealing_master().await?);
        let owner = tenant.0.to_string();
        let label = Label { owner: &owner, version, master_id: &master_id };
        Ok(KeyRow { version, wrapped: self.masters.wrap(&Secret::new(random::bytes()), label)?, master_id })
    }

    /// A tenant's key was replaced: uses the new one, and seals anew what needs the old one.
    fn replaced(&self, tenant: TenantId) {
        self.sealing.forget(&tenant);
        self.wake.notify_one();
    }

    /// Makes the version after `active` of a tenant's key. False if another process did so, or the master key changed.
    async fn replace_key(&self, tenant: TenantId, active: i32) -> Result<bool> {
        let (next, now) = (self.next_key(tenant, active).await?, self.clock.now());
        let replaced = self.db.write("make a tenant's key", move |tx| {
            let next = next.clone();
            Box::pin(async move {
                Ok(store::hold_master(tx, &next.master_id).await? && store::replace_key(tx, tenant, &next, now).await?)
            })
        });
        replaced.await
    }

    fn unwrap(&self, tenant: TenantId, row: &KeyRow) -> Result<KeyBytes> {
        let owner = tenant.0.to_string();
        self.masters.unwrap(&row.wrapped, Label { owner: &owner, version: row.version, master_id: &row.master_id })
    }
}

pub(crate) fn busy() -> Error {
    Error::new(Code::Unavailable, "STORE_UNAVAILABLE", "other processes keep changing the keys of the vault")
}
