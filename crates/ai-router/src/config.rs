//! Settings of `[ai]` as they are typed. [`crate::view`] turns them into what the service runs on.

use std::collections::BTreeMap;
use std::time::Duration;

use manifold_core::Secret;
use serde::Deserialize;

/// `[ai]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// HTTP requests to providers for one call, at most.
    pub max_attempts: u32,
    /// How long to wait for the first byte of an answer.
    #[serde(with = "humantime_serde")]
    pub first_token: Duration,
    /// Longest silence inside an answer.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// How long usage rows are kept.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// Our own names for models: a name, or a list of names that is tried in order.
    #[serde(default)]
    pub aliases: BTreeMap<String, Alias>,
    /// Providers by name. Known names need only a key; others need a `base_url` and speak OpenAI's dialect.
    #[serde(default)]
    pub providers: BTreeMap<String, ProviderConfig>,
}

/// What an alias stands for.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Alias {
    /// One name.
    One(String),
    /// Several, in order.
    Many(Vec<String>),
}

impl Alias {
    /// The names, in order.
    pub fn names(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// `[ai.providers.<name>]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderConfig {
    /// Where its API begins. The exact host and port are allowed, http and loopback too.
    pub base_url: Option<String>,
    /// Its credential.
    pub api_key: Option<Secret<String>>,
    /// False = do not use it, even with a key.
    pub enabled: Option<bool>,
    /// What the credential is: decides cost and whether prompts may be trained on.
    pub tier: Option<Tier>,
    /// Names of its models to list beside those of the catalogue.
    #[serde(default)]
    pub models: Vec<String>,
}

/// What kind of account a credential belongs to.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Costs nothing; the provider may train on prompts.
    Free,
    /// Costs the list price.
    Paid,
    /// Runs on our own machine.
    Local,
}

impl Tier {
    /// As it stands in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Paid => "paid",
            Self::Local => "local",
        }
    }
}
