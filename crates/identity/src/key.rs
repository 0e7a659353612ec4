//! API keys: making, listing, showing and revoking them. How a presented key is checked is in `verify`.

pub(crate) mod access;
pub mod again;
pub mod change;
pub mod credit;
pub mod format;
pub mod pepper;
pub mod reminder;
pub mod restriction;
pub mod rotation;
pub mod terms;

use std::sync::Arc;
use std::time::Duration;

use manifold_core::{
    Code, Error, IdempotencyKey, KeyId, Page, PageRequest, Principal, Result, Secret, TenantId, Timestamp,
};
use manifold_runtime::CallContext;
use manifold_store::Tx;

use crate::audit::Outbox;
use crate::detect::{BULK_KEYS, Sign};
use crate::key::access::{check_restrictions, check_sight, label};
use crate::key::format::{Environment, Lookup};
use crate::key::rotation::Rotation;
use crate::key::terms::{Terms, check_expiry};
use crate::origin::Origin;
use crate::store::key::{KeyRow, NewRow, NewSecret};
use crate::store::{key as store, member as members, revocation};
use crate::{Identity, events, name, owner, permission, random, revoke, step_up};

pub(crate) const READ: &str = "keys.key.read";
/// How secrets age.
pub(crate) const DAY: Duration = Duration::from_secs(24 * 3_600);
pub(crate) const WRITE: &str = "keys.key.write";

/// What a new key shall be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What a person calls it, 1 to 100 characters.
    pub name: String,
    /// Whether it works on real things.
    pub environment: Environment,
    /// Granted permissions; empty = `ai.inference.run`. Never more than its maker holds.
    pub permissions: Vec<String>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// On which terms it works.
    pub terms: Terms,
    /// Whether nobody should ever use it: whoever does is refused as with an unknown key, and is an incident.
    pub canary: bool,
    /// Who asks again with the same one within 24 hours gets the same key.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// A key as people see it. The secret is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// The key.
    pub id: KeyId,
    /// What a person calls it.
    pub name: String,
    /// `live` or `test`.
    pub environment: String,
    /// Granted permissions.
    pub permissions: Vec<String>,
    /// Whether it works.
    pub state: KeyState,
    /// Enough of the secret to recognise it.
    pub prefix: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, a few seconds late.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// What replaces its secret now.
    pub rotation: Option<Rotation>,
    /// On which terms it works.
    pub terms: Terms,
    /// When credits are filled up next.
    pub refill_at: Option<Timestamp>,
    /// When its secret should be replaced.
    pub rotation_due_at: Option<Timestamp>,
    /// Whether nobody should ever use it.
    pub canary: bool,
}

/// Whether a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It works.
    Active,
    /// Somebody made it pause.
    Disabled,
    /// Somebody ended it.
    Revoked,
    /// Its time is over.
    Expired,
}

impl KeyState {
    /// `active`, `disabled`, `revoked` or `expired`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Disabled => "disabled",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }
}

/// A key with a new secret, which is shown for the only time, unless the maker of the key asks again.
#[derive(Debug)]
pub struct Created {
    /// The key.
    pub key: KeyInfo,
    /// All of it; shown once.
    pub secret: Secret<String>,
    /// It was made before, for the same idempotency key.
    pub replayed: bool,
}

/// Reads the printed id of a key. Malformed, unknown and foreign ids are the same error.
pub fn parse_key_id(text: &str) -> Result<KeyId> {
    KeyId::parse(text).ok_or_else(not_found)
}

/// A random key that no database knows yet, such as the first admin key.
pub fn generate_key(environment: Environment) -> Secret<String> {
    format::format_key(environment, Lookup::from_random(random::bytes()), Secret::new(random::bytes()).expose())
}

impl Identity {
    /// Makes a key of the caller's tenant, or finds the one that was made for the same idempotency key. Needs
    /// `keys.key.write`.
    pub async fn create_key(&self, caller: &CallContext, new: NewKey) -> Result<Created> {
        let now = self.inner.clock.now();
        let new = check_new(&caller.principal, new, now)?;
        step_up::require(&caller.principal, now)?;
        let secret = generate_key(new.environment);
        let asked = again::asked(&caller.principal, &new);
        let made = Maker { tenant: caller.principal.tenant, name: caller.principal.subject.to_string(), at: now };
        let row = self.new_row(new, &secret, made)?;
        let key = describe_new(&row);
        let again = asked.map(|asked| (asked, self.inner.answers.seal(key.id, &secret)));
        let work = Arc::new((row, key.prefix.clone(), self.inner.outbox.clone(), Origin::of(caller), again));
        let before = self
            .inner
            .db
            .write("create an API key", move |tx| {
                let work = Arc::clone(&work);
                Box::pin(async move {
                    let (row, prefix, outbox, origin, again) = &*work;
                    check_restrictions(tx, &origin.principal, &row.terms).await?;
                    if let Some((asked, answer)) = again {
                        if let Some(before) = asked.claim(tx, row.created_at).await? {
                            return Ok(Some(before));
                        }
                        asked.keep(tx, answer).await?;
                    }
                    owner::require(tx, row.tenant, row.terms.owner).await?;
                    store::insert_key(tx, row).await?;
                    outbox.append(tx, &[events::key_created(row, prefix)], &origin.cause()).await?;
                    Ok(None)
                })
            })
            .await?;
        match before {
            Some(before) => self.created_before(caller.principal.tenant, &before).await,
            None => {
                self.note_sign(Sign::by(&BULK_KEYS, &caller.principal, "POST /v1/keys"));
                Ok(Created { key, secret, replayed: false })
            }
        }
    }

    /// The key that an earlier request made, as it was answered then.
    async fn created_before(&self, tenant: TenantId, answer: &[u8]) -> Result<Created> {
        let (id, secret) = self.inner.answers.open(answer)?;
        let row = store::find_key(&self.inner.db, tenant, id).await?.ok_or_else(not_found)?;
        let now = row.created_at;
        let key = KeyInfo {
            state: KeyState::Active,
            last_used_at: None,
            revoked_at: None,
            rotation: None,
            ..describe(row, now)
        };
        Ok(Created { key, secret, replayed: true })
    }

    /// A page of the keys of the caller's tenant, newest first; fewer where the caller sees some of them only. Needs
    /// `keys.key.read`.
    pub async fn list_keys(&self, caller: &CallContext, page: PageRequest) -> Result<Page<KeyInfo>> {
        caller.principal.require_some(READ)?;
        let (before, limit) = manifold_store::newest_first(&page);
        let rows = store::list_keys(&self.inner.db, caller.principal.tenant, before, limit).await?;
        let now = self.inner.clock.now();
        let Page { data, next } = Page::cut(&page, rows, |row: &KeyRow| row.id);
        let seen = data.into_iter().filter(|row| check_sight(&caller.principal, row, READ).is_ok());
        Ok(Page { data: seen.map(|row| describe(row, now)).collect(), next })
    }

    /// One key of the caller's tenant. Needs `keys.key.read`.
    pub async fn get_key(&self, caller: &CallContext, id: KeyId) -> Result<KeyInfo> {
        Ok(describe(self.seen_key(caller, id).await?, self.inner.clock.now()))
    }

    /// One key that the caller sees.
    pub(crate) async fn seen_key(&self, caller: &CallContext, id: KeyId) -> Result<KeyRow> {
        caller.principal.require_some(READ)?;
        let row = store::find_key(&self.inner.db, caller.principal.tenant, id).await?.ok_or_else(not_found)?;
        check_sight(&caller.principal, &row, READ)?;
        Ok(row)
    }

    /// Ends a key of the caller's tenant for good; repeating it changes nothing. Needs `keys.key.write`.
    pub async fn revoke_key(&self, caller: &CallContext, id: KeyId) -> Result<KeyInfo> {
        caller.principal.require_some(WRITE)?;
        let now = self.inner.clock.now();
        step_up::require(&caller.principal, now)?;
        let work = Arc::new((id, self.inner.outbox.clone(), Origin::of(caller)));
        let row = self
            .inner
            .db
            .write("revoke an API key", move |tx| {
                let work = Arc::clone(&work);
                Box::pin(async move { revoke(tx, &work.1, work.0, &work.2, now).await })
            })
            .await?;
        self.inner.cache.forget(|known| known.principal.key == Some(id));
        Ok(describe(row, now))
    }

    /// The row of a new key, from the text that its holder gets.
    pub(crate) fn new_row(&self, new: NewKey, secret: &Secret<String>, maker: Maker) -> Result<NewRow> {
        Ok(NewRow {
            id: KeyId(self.inner.ids.next()),
            tenant: maker.tenant,
            name: new.name,
            environment: new.environment.name(),
            grants: new.permissions,
            expires_at: new.expires_at,
            refill_at: new.terms.refill.and_then(|refill| refill.next(maker.at)),
            terms: new.terms,
            canary: new.canary,
            created_by: maker.name,
            created_at: maker.at,
            secret: self.new_secret(secret)?,
        })
    }

    /// What is kept of a new secret.
    pub(crate) fn new_secret(&self, secret: &Secret<String>) -> Result<NewSecret> {
        let parsed = format::parse_key(secret.expose()).ok_or_else(|| Error::internal("a new key is malformed"))?;
        let peppers = &self.inner.peppers;
        Ok(NewSecret { lookup: parsed.lookup, hash: peppers.hash_new(parsed.secret), pepper_id: peppers.current() })
    }
}

/// Who makes a key, and when.
pub(crate) struct Maker {
    /// Whose key it will be.
    pub tenant: TenantId,
    /// Printed id of the maker.
    pub name: String,
    /// Now.
    pub at: Timestamp,
}

/// Checks everything about a new key that needs no database, and fills in what was left open.
fn check_new(maker: &Principal, mut new: NewKey, now: Timestamp) -> Result<NewKey> {
    maker.require_on(WRITE, &["own", label(new.environment.name())])?;
    new.name = name::read(&new.name)?;
    check_expiry(new.expires_at, now)?;
    new.terms = new.terms.read()?;
    new.terms.owner = new.terms.owner.or(maker.owner);
    if new.environment == Environment::Live && &*maker.environment == Environment::Test.name() {
        let message = "a test key cannot make a live key";
        return Err(Error::new(Code::Denied, "ESCALATION", message).at("environment"));
    }
    if new.permissions.is_empty() {
        new.permissions.push(permission::DEFAULT.to_owned());
    }
    permission::check_grants(maker, &new.permissions)?;
    Ok(new)
}

/// Revokes the key, tells the other processes and the bus, and reads what became of it.
async fn revoke(tx: &mut Tx<'_>, outbox: &Outbox, id: KeyId, origin: &Origin, at: Timestamp) -> Result<KeyRow> {
    let tenant = origin.principal.tenant;
    let row = store::find_key_in(tx, tenant, id).await?.ok_or_else(not_found)?;
    check_sight(&origin.principal, &row, WRITE)?;
    if store::revoke_key(tx, tenant, id, at).await? {
        members::end_invitations_by(tx, tenant, &id.to_string()).await?;
        revocation::append(tx, &revoke::key_subject(id), at).await?;
        let event = events::key_revoked(tenant, id, &origin.principal.subject, at);
        outbox.append(tx, &[event], &origin.cause()).await?;
    }
    store::find_key_in(tx, tenant, id).await?.ok_or_else(not_found)
}

fn describe(row: KeyRow, now: Timestamp) -> KeyInfo {
    let expires_at = row.expires_at.map(Timestamp::from);
    let state = match row.state.as_str() {
        "active" if expires_at.is_some_and(|expires_at| expires_at <= now) => KeyState::Expired,
        "active" => KeyState::Active,
        "disabled" => KeyState::Disabled,
        _ => KeyState::Revoked,
    };
    let rotation = Rotation::of(&row).filter(|rotation| rotation.old_ends_at > now);
    KeyInfo {
        id: KeyId(row.id),
        prefix: format!("mfk_{}_{}", row.environment, row.lookup),
        terms: row.terms(),
        refill_at: row.refill_at.map(Timestamp::from),
        rotation_due_at: row.due_at(),
        canary: row.canary,
        name: row.name,
        environment: row.environment,
        permissions: row.grants.0,
        state,
        created_at: row.created_at,
        expires_at,
        last_used_at: row.last_used_at.map(Timestamp::from),
        revoked_at: row.revoked_at.map(Timestamp::from),
        rotation,
    }
}

fn describe_new(row: &NewRow) -> KeyInfo {
    KeyInfo {
        id: row.id,
        name: row.name.clone(),
        environment: row.environment.to_owned(),
        permissions: row.grants.clone(),
        state: KeyState::Active,
        prefix: format!("mfk_{}_{}", row.environment, row.secret.lookup.as_str()),
        created_at: row.created_at,
        expires_at: row.expires_at,
        last_used_at: None,
        revoked_at: None,
        rotation: None,
        terms: row.terms.clone(),
        refill_at: row.refill_at,
        rotation_due_at: row.terms.rotate_every.map(|days| row.created_at.after(DAY * days.into())),
        canary: row.canary,
    }
}

pub(crate) fn not_found() -> Error {
    Error::not_found("KEY_NOT_FOUND", "no such key")
}
