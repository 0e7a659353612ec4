//! Who calls: tenants and API keys, the vault's master key, revocation. A library of the edge process: no HTTP and no
//! public JSON. Its rpc is mounted on the mesh.

mod account;
mod audit;
mod base32;
mod bootstrap;
mod cursor;
mod detect;
mod email;
mod erase;
mod events;
mod factor;
mod grpc;
mod hex;
mod incident;
mod invitation;
mod jwks;
mod key;
mod limit;
mod login;
mod mail;
mod member;
mod name;
mod network;
mod notice;
mod origin;
mod owner;
mod password;
mod permission;
mod random;
mod registration;
mod remembered;
mod repeat;
mod revoke;
mod role;
mod second;
mod secret;
mod secret_file;
mod session;
mod setup;
mod step_up;
mod store;
mod tenant;
mod tidy;
mod token;
mod totp;
mod usage;
mod user;
mod vault;
mod verify;
mod watch;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use manifold_bus::{Bus, Jobs};
use manifold_cache::{Limiter, Shared};
use manifold_contract::identity::v1::{audit as audits, directory, keys, vault as vaults};
use manifold_core::{Clock, Error, Ids, Result, Secret, TenantId};
use manifold_runtime::{Health, Routes, Tasks};
use manifold_store::{Db, Migrations};
use tokio::sync::Semaphore;

use crate::audit::Outbox;
use crate::audit::checkpoint::{self, Signer};
use crate::audit::patrol;
use crate::audit::refused::{self, Refused};
use crate::cursor::CursorKey;
use crate::jwks::turn::{self, Signing};
use crate::key::again::Answers;
use crate::key::pepper::Peppers;
use crate::key::reminder;
use crate::limit::given::Given;
use crate::mail::Post;
use crate::password::Hasher;
use crate::revoke::Pulse;
use crate::role::grants::Conditions;
use crate::session::CsrfKey;
use crate::tenant::origins::Origins;
use crate::vault::envelope::KeyBytes;
use crate::vault::ring::Ring;
use crate::verify::Outcomes;
use crate::verify::cache::Cache;
use crate::verify::used::{self, Used};
use crate::watch::Watch;

pub use crate::account::ProfileChange;
pub use crate::audit::chain::Entry as AuditEntry;
pub use crate::audit::file::{Format as AuditFormat, verify as verify_audit_file};
pub use crate::audit::read::{AuditKey, AuditPage};
pub use crate::audit::verify::{Broken, Fault as AuditFault, Verdict};
pub use crate::factor::{FactorInfo, NewFactor, parse_factor_id};
pub use crate::incident::{Block, Incident, parse_block_id, parse_incident_id};
pub use crate::invitation::{Invitation, Newcomer, parse_invitation_id};
pub use crate::key::change::KeyChange;
pub use crate::key::credit::{Every, Refill};
pub use crate::key::format::{Environment, Parsed, parse_key};
pub use crate::key::restriction::{Restrictions, Visit};
pub use crate::key::rotation::{Finish, MAX_GRACE, Rotation};
pub use crate::key::terms::Terms;
pub use crate::key::{Created, KeyInfo, KeyState, NewKey, generate_key, parse_key_id};
pub use crate::limit::charge::LimitState;
pub use crate::limit::given::Own as OwnLimits;
pub use crate::limit::{Limited, Rule, Rules};
pub use crate::login::Login;
pub use crate::mail::{MailConfig, MailTls};
pub use crate::member::{Member, OneTime, parse_user_id};
pub use crate::owner::{NewKeyOwner, Owner, OwnerChange, parse_owner_id, read as read_owner_of_key};
pub use crate::registration::{NewAccount, is_open};
pub use crate::repeat::{Promise, Repeat, Repeatable};
pub use crate::role::RoleInfo;
pub use crate::role::grants::RoleGrant;
pub use crate::secret::SecretInfo;
pub use crate::session::{Entered, LIFETIME as SESSION_LIFETIME, Present, SessionInfo, Visitor, parse_session_id};
pub use crate::store::audit::AuditFilter;
pub use crate::store::usage::Sums;
pub use crate::tenant::purge::{KEPT as KEPT_TABLES, TABLES as TENANT_TABLES};
pub use crate::tenant::settings::{Registration, Settings};
pub use crate::tenant::{NewTenantInfo, TenantChange, TenantInfo, parse_tenant_id};
pub use crate::token::issue::Tokens;
pub use crate::usage::{DEFAULT_WINDOW, UsageRow};
pub use crate::user::{NewOwner, UserInfo};
pub use crate::vault::master::{MasterKey, MasterSource};
pub use crate::vault::rotate::{MasterStatus, Rotated, master_status, rotate_master};
pub use crate::vault::tenant::{ReplacedKey, VaultInfo};
pub use crate::vault::{Place, Vault};
pub use crate::verify::question::{Question, Verified, VerifyCode, parse_ip};

/// The tables of this crate.
pub fn migrations() -> Migrations {
    manifold_store::migrations!()
}

/// What an operator decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where `admin.key` is.
    pub data_dir: PathBuf,
    /// The master keys, at least one; the first seals on an empty database.
    pub master_keys: Vec<MasterKey>,
    /// The admin key to make on an empty database; None = a random one.
    pub admin_key: Option<Secret<String>>,
    /// How long cached keys and access tokens go on while the database is away.
    pub grace: Duration,
    /// The mail server.
    pub mail: MailConfig,
    /// Where clients reach the house, for links in mails and as the issuer of access tokens; empty if it is not told.
    pub public_url: String,
}

/// What the service stands on.
pub struct Deps {
    /// The database `identity`, with the migrations of the bus and of this crate.
    pub db: Db,
    /// Time.
    pub clock: Clock,
    /// Ids.
    pub ids: Ids,
    /// From where events come that tell what keys are used for.
    pub bus: Bus,
    /// Where limits of several processes are counted; None = each counts alone.
    pub limits: Option<Shared>,
    /// Where it tells how it is.
    pub health: Health,
    /// Where its tasks run.
    pub tasks: Tasks,
}

/// A running service.
pub struct Started {
    /// For the edge process.
    pub identity: Identity,
    /// For the mesh.
    pub routes: Routes,
    /// The admin key, if this start made it. Show it once.
    pub first_admin_key: Option<Secret<String>>,
    /// The token for the first account, if this start made it. Show it once.
    pub setup_token: Option<Secret<String>>,
}

/// Checks and manages API keys. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

/// What all clones share.
struct Inner {
    db: Db,
    clock: Clock,
    ids: Ids,
    tasks: Tasks,
    outbox: Outbox,
    peppers: Peppers,
    answers: Answers,
    post: Post,
    grace: Duration,
    cache: Cache,
    tokens: token::check::Tokens,
    pulse: Pulse,
    lookups: Semaphore,
    used: Used,
    outcomes: Outcomes,
    refused: Refused,
    signer: Signer,
    watch: Watch,
    hasher: Hasher,
    csrf: CsrfKey,
    cursor: CursorKey,
    /// Of what is kept of requests with an idempotency key.
    repeat_key: KeyBytes,
    limiter: Arc<Limiter>,
    limits: Given,
    origins: Origins,
    conditions: Conditions,
    signing: Signing,
    /// Who issues access tokens, and for whom they are.
    issuer: String,
    data_dir: PathBuf,
    vault: Vault,
    /// The tenant that was made first: the house's own.
    host: OnceLock<TenantId>,
    /// Whether anybody is known to have an account.
    has_users: AtomicBool,
}

impl Identity {
    /// What counts the limits that were given to somebody; see [`Identity::limits_of`].
    pub fn limiter(&self) -> &Arc<Limiter> {
        &self.inner.limiter
    }

    /// Where secrets are sealed and opened.
    pub fn vault(&self) -> &Vault {
        &self.inner.vault
    }
}

/// Opens the vault, makes the first key if the database is empty, and starts following revocations.
pub async fn start(config: Config, deps: Deps) -> Result<Started> {
    let health = deps.health.component("identity");
    let vault = Vault::start(deps.db.clone(), deps.clock.clone(), &config.master_keys).await?;
    let peppers = vault.system_key("key-pepper").await?;
    let peppers = Peppers::new(peppers).ok_or_else(|| Error::internal("there is no pepper"))?;
    let seals = vault.system_key("answer-seal").await?;
    let answers = Ring::new(seals).map(Answers).ok_or_else(|| Error::internal("there is no seal for answers"))?;
    let seals = vault.system_key("mail-seal").await?;
    let seals = Ring::new(seals).ok_or_else(|| Error::internal("there is no seal for mail"))?;
    let jobs = Jobs::new(deps.db.clone(), deps.clock.clone());
    let post = Post::new(&config.mail, &config.public_url, jobs, seals)?;
    let csrf = vault.system_key("csrf").await?;
    let newest = csrf.iter().max_by_key(|(version, _)| *version);
    let csrf = CsrfKey(*newest.ok_or_else(|| Error::internal("there is no key against forged requests"))?.1.expose());
    let repeat = vault.system_key("repeat").await?.into_iter().max_by_key(|(version, _)| *version);
    let (_, repeat_key) = repeat.ok_or_else(|| Error::internal("there is no key of repeated requests"))?;
    let cursor = vault.system_key("cursor").await?;
    let cursor = CursorKey::newest(cursor).ok_or_else(|| Error::internal("there is no key of cursors"))?;
    let seeds = vault.system_key("audit-checkpoint").await?;
    let newest = seeds.iter().max_by_key(|(version, _)| *version);
    let (version, seed) = newest.ok_or_else(|| Error::internal("there is no key for audit checkpoints"))?;
    let signer = Signer::new(*version, seed.expose())?;
    let signing = Signing::open(&deps.db, &vault, &deps.ids, deps.clock.now()).await?;
    let identity = Identity {
        inner: Arc::new(Inner {
            outbox: Outbox::new(deps.clock.clone(), deps.ids.clone()),
            pulse: Pulse::new(deps.clock.now()),
            db: deps.db,
            clock: deps.clock,
            ids: deps.ids,
            tasks: deps.tasks,
            peppers,
            answers,
            post,
            grace: config.grace,
            cache: Cache::new(),
            tokens: token::check::tokens(),
            lookups: Semaphore::new(verify::LOOKUPS),
            used: Used::default(),
            outcomes: Outcomes::new(),
            refused: Refused::default(),
            signer,
            watch: Watch::default(),
            hasher: Hasher::start()?,
            csrf,
            cursor,
            repeat_key,
            limiter: Arc::new(Limiter::new(limit::MAX_COUNTERS, deps.limits)),
            limits: Given::default(),
            origins: Origins::default(),
            conditions: Conditions::default(),
            signing,
            issuer: issuer(&config.public_url),
            data_dir: config.data_dir.clone(),
            vault,
            host: OnceLock::new(),
            has_users: AtomicBool::new(false),
        }),
    };
    let first_admin_key = bootstrap::run(&identity, &config.data_dir, config.admin_key.as_ref()).await?;
    let host = store::tenant::first(&identity.inner.db).await?.ok_or_else(|| Error::internal("there is no tenant"))?;
    identity.inner.host.get_or_init(|| host);
    identity.load_origins().await?;
    identity.check_registration(store::tenant::settings(&identity.inner.db, host).await?.registration)?;
    let setup_token = setup::run(&identity, &config.data_dir).await?;
    watch::read_blocks(&identity).await?;
    // The number first: what changes while limits are read is read again.
    let seq = store::revocation::head(&identity.inner.db).await?;
    identity.load_limits().await?;
    health.ready();
    identity.inner.tasks.spawn("identity revocations", revoke::run(identity.clone(), seq, health));
    identity.inner.tasks.spawn("identity key uses", used::run(identity.clone()));
    identity.inner.tasks.spawn("identity key reminders", reminder::run(identity.clone()));
    identity.inner.tasks.spawn("identity refusals", refused::run(identity.clone()));
    identity.inner.tasks.spawn("identity audit checkpoints", checkpoint::run(identity.clone()));
    identity.inner.tasks.spawn("identity audit patrol", patrol::run(identity.clone()));
    identity.inner.tasks.spawn("identity watch", watch::run(identity.clone()));
    identity.inner.tasks.spawn("identity signing keys", turn::run(identity.clone()));
    identity.inner.tasks.spawn("identity tidy", tidy::run(identity.clone()));
    identity.inner.tasks.spawn_until_stop("identity vault", vault::run(identity.clone()));
    if identity.inner.post.public_url().is_some() {
        identity.inner.tasks.spawn_until_stop("identity mail", mail::run(identity.clone()));
    }
    let (db, clock) = (identity.inner.db.clone(), identity.inner.clock.clone());
    let roll_up = manifold_bus::consume(usage::consumer(), deps.bus, db, clock, usage::RollUp);
    identity.inner.tasks.spawn_until_stop("identity usage", roll_up);
    let routes = Routes::new(keys::offer(grpc::Service(identity.clone())));
    let routes = routes.and(Routes::new(vaults::offer(grpc::vault::Service(identity.clone()))));
    let routes = routes.and(Routes::new(directory::offer(grpc::directory::Service(identity.clone()))));
    let routes = routes.and(Routes::new(audits::offer(grpc::audit::Service(identity.clone()))));
    Ok(Started { identity, routes, first_admin_key, setup_token })
}

/// How the installation is called in access tokens. Without an address of its own it has a name that stays the same.
fn issuer(public_url: &str) -> String {
    match public_url.trim_end_matches('/') {
        "" => "urn:manifold".to_owned(),
        url => url.to_owned(),
    }
}
