//! All settings as typed, and where they come from. What each section means is checked by the crate that owns it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use manifold_cache::Redis;
use manifold_core::{Error, Result, Secret};
use manifold_identity::{MasterKey, MasterSource};
use manifold_runtime::config::{Loaded, Sources, load};
use manifold_runtime::telemetry::TelemetryConfig;
use serde::Deserialize;

use crate::explain::located;

/// The commented defaults, which are also the documentation of every setting.
pub const DEFAULTS: &str = include_str!("../config.default.toml");

/// The file that is read when none is named.
pub const FILE: &str = "manifold.toml";

const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Everything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where databases and keys are kept.
    pub data_dir: PathBuf,
    /// The public door.
    pub edge: manifold_edge::Config,
    /// Probes and metrics.
    pub management: Listen,
    /// The listener for other processes.
    pub grpc: Listen,
    /// Where services of other processes are.
    pub mesh: MeshSection,
    /// The database.
    pub store: StoreSection,
    /// How events travel.
    pub bus: BusSection,
    /// What several processes share in memory.
    pub cache: CacheSection,
    /// What every process runs on.
    pub runtime: RuntimeSection,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// API keys.
    pub identity: IdentitySection,
    /// The mail server.
    pub mail: manifold_identity::MailConfig,
    /// The first start.
    pub bootstrap: BootstrapSection,
    /// Models and providers.
    pub ai: manifold_ai_router::Config,
}

/// A listener.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port; port 0 = any free one.
    pub listen: SocketAddr,
}

/// `[mesh]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshSection {
    /// What members of the mesh know and nobody else.
    pub secret: Option<Secret<String>>,
    /// Address of ai-router, if it runs elsewhere.
    pub ai_router: Option<String>,
    /// Address of identity, if it runs elsewhere.
    pub identity: Option<String>,
}

/// `[store]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    /// Empty = SQLite in the data folder.
    pub url: Secret<String>,
    /// What a command that succeeded survives, and rows a few milliseconds after they were committed.
    pub durability: DurabilityName,
    /// Work per commit.
    pub batch: usize,
    /// How long the first piece waits for others.
    #[serde(with = "humantime_serde")]
    pub linger: Duration,
}

/// What a command that succeeded survives, and rows a few milliseconds after they were committed.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum DurabilityName {
    /// Power loss.
    Full,
    /// A killed process.
    Normal,
}

/// `[bus]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BusSection {
    /// Empty = consumers read the databases of the services; else through NATS JetStream.
    pub nats_url: Secret<String>,
    /// `[bus.jetstream]`.
    pub jetstream: JetStreamSection,
}

/// `[bus.jetstream]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JetStreamSection {
    /// Copies of the stream.
    pub replicas: usize,
    /// How long it keeps events.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// How much of them it keeps.
    pub max_bytes: bytesize::ByteSize,
    /// For how long it knows an event again.
    #[serde(with = "humantime_serde")]
    pub duplicate_window: Duration,
}

/// `[cache]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheSection {
    /// The Redis in which limits of several processes are counted; empty = none.
    pub redis_url: Secret<String>,
    /// How long a request waits for an answer of Redis.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Processes that count together.
    pub replicas: u32,
}

impl CacheSection {
    /// Redis, if there is one. Not connected yet.
    pub fn redis(&self) -> Result<Option<Redis>> {
        if self.redis_url.expose().is_empty() {
            return Ok(None);
        }
        Redis::new(&self.redis_url, self.timeout).map(Some).map_err(|error| error.at("cache.redis_url"))
    }
}

/// `[runtime]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeSection {
    /// How long to wait for a database at start.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// Pause between "not ready" and the end of accepting.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
    /// Time to connect to a provider.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// What callers may make us fetch.
    pub egress: Egress,
}

/// `[runtime.egress]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Egress {
    /// `host:port` pairs, in a list or with commas between them.
    #[serde(deserialize_with = "list_or_commas")]
    pub allow: Vec<String>,
}

/// `[identity]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdentitySection {
    /// How long known keys work while the database is away.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// The master keys; the first seals on an empty database. None = `master.key` in the data folder.
    #[serde(default)]
    pub master_keys: Vec<MasterKeySection>,
}

/// `[[identity.master_keys]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MasterKeySection {
    /// How the database calls it.
    pub id: String,
    /// Its file, from the data folder if relative.
    pub file: Option<PathBuf>,
    /// The variable that holds it.
    pub env: Option<String>,
    /// What the variable holds.
    #[serde(skip)]
    value: Option<Secret<String>>,
}

/// `[bootstrap]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BootstrapSection {
    /// The first admin key.
    pub admin_key: Option<Secret<String>>,
}

fn list_or_commas<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        List(Vec<String>),
        Text(String),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::List(list) => list,
        Either::Text(text) => {
            text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
    })
}

/// Reads every source once: defaults, file, environment, and `flags` as pairs of key and value.
pub fn read(
    file: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    flags: Vec<(String, String)>,
) -> Result<Loaded<Config>> {
    if let Some(file) = file.as_ref().filter(|file| !file.is_file()) {
        return Err(Error::invalid(
            "CONFIG_INVALID",
            format!("the configuration file {} does not exist", file.display()),
        ));
    }
    let file = file.or_else(|| Some(PathBuf::from(FILE)).filter(|file| file.is_file()));
    let aliases = manifold_ai_router::key_variables()?;
    let sources = Sources { defaults: DEFAULTS, file, env: environment, aliases, overrides: flags };
    let mut loaded: Loaded<Config> =
        load(&sources).map_err(|error| Error::invalid("CONFIG_INVALID", error.to_string()))?;
    for key in &mut loaded.value.identity.master_keys {
        key.value = key.env.as_ref().and_then(|name| sources.env.get(name)).map(|text| Secret::from(text.as_str()));
    }
    let checked = check(&loaded.value).and_then(|()| manifold_ai_router::check(&loaded.value.ai));
    checked.map_err(|error| located(error, &loaded.settings))?;
    Ok(loaded)
}

/// Contradictions between sections, and what this version cannot do.
fn check(config: &Config) -> Result<()> {
    let refuse = |key: &str, message: &str| {
        Err(Error::invalid("CONFIG_INVALID", format!("{key}: {message}")).at(key.to_owned()))
    };
    if !config.bus.nats_url.expose().is_empty() && config.store.url.expose().is_empty() {
        return refuse("bus.nats_url", "NATS needs Postgres: set store.url, or leave bus.nats_url unset");
    }
    if ![1, 3, 5].contains(&config.bus.jetstream.replicas) {
        return refuse("bus.jetstream.replicas", "must be 1, 3 or 5");
    }
    if config.bus.jetstream.max_age > WEEK {
        return refuse("bus.jetstream.max_age", "must be 7d at most: consumers know an event again for 14 days");
    }
    if config.bus.jetstream.duplicate_window > config.bus.jetstream.max_age {
        return refuse("bus.jetstream.duplicate_window", "must not be longer than bus.jetstream.max_age");
    }
    if let Some(message) = refused_master_keys(&config.identity.master_keys) {
        return refuse("identity.master_keys", message);
    }
    let redis = config.cache.redis()?;
    if let Some(key) = config.edge.limits.shared().filter(|_| redis.is_none()) {
        return refuse(&key, "only `local` works without a Redis; set cache.redis_url");
    }
    if config.cache.timeout.is_zero() {
        return refuse("cache.timeout", "must not be zero; 50ms is the default");
    }
    if config.cache.replicas == 0 || config.cache.replicas > 1_000 {
        return refuse("cache.replicas", "must be between 1 and 1000");
    }
    config.mail.validate(&config.edge.public_url)?;
    if config.mesh.secret.as_ref().is_some_and(|secret| secret.expose().len() < 16) {
        return refuse("mesh.secret", "use at least 16 characters");
    }
    if config.store.batch == 0 || config.store.batch > 1_024 {
        return refuse("store.batch", "must be between 1 and 1024");
    }
    Ok(())
}

/// What is wrong with the list of master keys.
fn refused_master_keys(keys: &[MasterKeySection]) -> Option<&'static str> {
    let is_id = |id: &str| {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        (1..=32).contains(&id.len()) && id.bytes().all(fits)
    };
    if !keys.iter().all(|key| is_id(&key.id)) {
        return Some("an id is 1 to 32 of a-z 0-9 _ -");
    }
    if keys.iter().enumerate().any(|(index, key)| keys[..index].iter().any(|other| other.id == key.id)) {
        return Some("two keys have the same id");
    }
    if keys.iter().any(|key| key.file.is_some() == key.env.is_some()) {
        return Some("a key has either a file or the name of a variable (env)");
    }
    let is_setting = |name: &String| name.starts_with("MANIFOLD_");
    if keys.iter().filter_map(|key| key.env.as_ref()).any(is_setting) {
        return Some("the variable must not begin with MANIFOLD_, which is for settings");
    }
    None
}

impl Config {
    /// The master keys, or that of the data folder.
    pub fn master_keys(&self) -> Vec<MasterKey> {
        if self.identity.master_keys.is_empty() {
            return vec![MasterKey::of_folder(&self.data_dir)];
        }
        let source = |key: &MasterKeySection| match (&key.file, &key.env) {
            (Some(file), _) => MasterSource::File(self.data_dir.join(file)),
            (None, name) => MasterSource::Variable(name.clone().unwrap_or_default(), key.value.clone()),
        };
        let keys = self.identity.master_keys.iter();
        keys.map(|key| MasterKey { id: key.id.clone(), source: source(key) }).collect()
    }

    /// The data folder as an absolute path, for messages.
    pub fn data_dir(&self) -> PathBuf {
        std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone())
    }

    /// The file in which the admin key is kept.
    pub fn admin_key_file(&self) -> PathBuf {
        Path::new(&self.data_dir).join("admin.key")
    }
}
