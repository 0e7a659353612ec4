//! What can be called: configuration and catalogue, checked and joined once at start. The hot path only reads it.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use manifold_core::{Code, Error, Result, Secret};

use crate::breaker::Breaker;
use crate::catalogue::{self, Feature, Kind, ModelRow, ProviderRow};
use crate::config::{Config, ProviderConfig, Tier};
use crate::meters::Meters;
use crate::price::Prices;
use crate::provider::{self, Provider};

/// A provider with the credential it is called with.
pub struct Endpoint {
    /// What stands before the slash.
    pub id: Arc<str>,
    /// Its dialect.
    pub codec: &'static dyn Provider,
    /// Without trailing slash.
    pub base_url: String,
    /// None = it needs none, or none is set.
    pub credential: Option<Secret<String>>,
    /// Variable that would set the credential; None = it needs none.
    pub key_variable: Option<String>,
    /// Where to get a key.
    pub signup: Option<String>,
    /// What the credential is.
    pub tier: Tier,
    /// Whether prompts may be trained on with this credential.
    pub trains: bool,
    /// Patience for the first byte.
    pub first_token: Duration,
    /// False = the configuration switched it off.
    pub enabled: bool,
    /// True = its address stands in the configuration.
    pub configured: bool,
    /// State of the credential: one refused key closes all of its models.
    pub breaker: Breaker,
    /// Models it told us about, beside the catalogue's.
    pub discovered: ArcSwap<Vec<Arc<Model>>>,
}

impl Endpoint {
    /// Whether it can be called at all.
    pub fn usable(&self) -> bool {
        let has_credential = match &self.key_variable {
            Some(_) => self.credential.is_some(),
            None => self.configured || !self.discovered.load().is_empty(),
        };
        self.enabled && has_credential
    }
}

/// One model of one endpoint.
pub struct Model {
    /// The provider's own name.
    pub name: Arc<str>,
    /// The name that several providers share; empty = none.
    pub canonical: String,
    /// What it is for; None = unknown, may be tried for both.
    pub kind: Option<Kind>,
    /// Tokens it holds; 0 = unknown.
    pub context: u32,
    /// Tokens it answers at most; 0 = unknown.
    pub max_output: u32,
    /// What it can do; None = unknown, nothing is ruled out.
    pub features: Option<Vec<Feature>>,
    /// What it costs.
    pub prices: Prices,
    /// Its cooldown.
    pub breaker: Breaker,
    /// Its metrics.
    pub meters: Meters,
}

impl Model {
    /// A model of which only the name is known.
    pub fn unknown(provider: &str, name: &str) -> Self {
        Self {
            name: name.into(),
            canonical: String::new(),
            kind: None,
            context: 0,
            max_output: 0,
            features: None,
            prices: Prices::default(),
            breaker: Breaker::default(),
            meters: Meters::new(provider, "other"),
        }
    }

    fn from_row(row: &ModelRow) -> Self {
        Self {
            name: row.name.as_str().into(),
            canonical: row.canonical.clone(),
            kind: Some(row.kind),
            context: row.context,
            max_output: row.max_output,
            features: Some(row.features.clone()),
            prices: row.prices(),
            breaker: Breaker::default(),
            meters: Meters::new(&row.provider, &row.name),
        }
    }
}

/// A model at an endpoint: what a request may be sent to. Cheap to clone.
#[derive(Clone)]
pub struct Candidate(Arc<Pair>);

/// What [`Candidate`] stands for.
pub struct Pair {
    /// Who.
    pub endpoint: Arc<Endpoint>,
    /// What.
    pub model: Arc<Model>,
}

impl Deref for Candidate {
    type Target = Pair;

    fn deref(&self) -> &Pair {
        &self.0
    }
}

impl Candidate {
    /// This model at this endpoint.
    pub fn new(endpoint: Arc<Endpoint>, model: Arc<Model>) -> Self {
        Self(Arc::new(Pair { endpoint, model }))
    }

    /// `provider/model`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.endpoint.id, self.model.name)
    }
}

/// Everything that names can mean.
pub struct View {
    /// By id.
    pub endpoints: BTreeMap<String, Arc<Endpoint>>,
    /// Models of the catalogue and the configuration, in the order of `auto`.
    pub listed: Vec<Candidate>,
    /// Our own names, each with at least one name.
    pub aliases: HashMap<String, Vec<String>>,
    by_name: HashMap<String, usize>,
    /// Models that callers named and nobody listed. Bounded, because callers choose the names.
    unlisted: moka::sync::Cache<String, Candidate>,
}

impl View {
    /// Joins configuration and catalogue. Every contradiction is an error that names the key.
    pub fn build(config: &Config) -> Result<Self> {
        let rows = catalogue::providers()?;
        let mut endpoints = BTreeMap::new();
        for row in &rows {
            let settings = config.providers.get(&row.id).cloned().unwrap_or_default();
            endpoints.insert(row.id.clone(), Arc::new(known(row, settings, config)?));
        }
        for (id, settings) in config.providers.iter().filter(|(id, _)| !endpoints.contains_key(*id)).collect::<Vec<_>>()
        {
            endpoints.insert(id.clone(), Arc::new(vendor(id, settings.clone(), config)?));
        }
        let mut listed: Vec<Candidate> = catalogue::models()?
            .iter()
            .filter_map(|row| {
                Some(Candidate::new(endpoints.get(&row.provider)?.clone(), Arc::new(Model::from_row(row))))
            })
            .collect();
        for (id, settings) in &config.providers {
            for name in &settings.models {
                let known =
                    listed.iter().any(|candidate| *candidate.endpoint.id == **id && *candidate.model.name == **name);
                if !known && let Some(endpoint) = endpoints.get(id) {
                    listed.push(Candidate::new(endpoint.clone(), Arc::new(Model::unknown(id, name))));
                }
            }
        }
        let by_name = listed.iter().enumerate().map(|(index, candidate)| (candidate.name(), index)).collect();
        let aliases = check_aliases(config)?;
        Ok(Self { endpoints, listed, aliases, by_name, unlisted: moka::sync::Cache::new(10_000) })
    }

    /// The candidate called `provider/model`; None if there is no such provider.
    pub fn find(&self, name: &str) -> Option<Candidate> {
        if let Some(index) = self.by_name.get(name) {
            return Some(self.listed[*index].clone());
        }
        if let Some(candidate) = self.unlisted.get(name) {
            return Some(candidate);
        }
        let (provider, model) = name.split_once('/')?;
        let endpoint = self.endpoints.get(provider)?;
        if model.is_empty() {
            return None;
        }
        let discovered = endpoint.discovered.load().iter().find(|known| *known.name == *model).cloned();
        let model = discovered.unwrap_or_else(|| Arc::new(Model::unknown(provider, model)));
        let candidate = Candidate::new(endpoint.clone(), model);
        self.unlisted.insert(name.to_owned(), candidate.clone());
        Some(candidate)
    }

    /// Everything listed, then everything discovered.
    pub fn candidates(&self) -> Vec<Candidate> {
        let mut all = self.listed.clone();
        for endpoint in self.endpoints.values() {
            for model in endpoint.discovered.load().iter() {
                if !self.by_name.contains_key(&format!("{}/{}", endpoint.id, model.name)) {
                    all.push(Candidate::new(endpoint.clone(), model.clone()));
                }
            }
        }
        all
    }
}

fn known(row: &ProviderRow, settings: ProviderConfig, config: &Config) -> Result<Endpoint> {
    let base_url = settings.base_url.clone().unwrap_or_else(|| row.base_url.clone());
    let tier = settings.tier.unwrap_or(row.tier);
    Ok(Endpoint {
        id: row.id.as_str().into(),
        codec: provider::builtin(&row.id).unwrap_or_else(provider::generic),
        base_url: check_url(&row.id, &base_url)?,
        credential: settings.api_key,
        key_variable: row.key.clone(),
        signup: row.signup.clone(),
        tier,
        trains: tier == Tier::Free && row.trains,
        first_token: row.first_token_seconds.map_or(config.first_token, Duration::from_secs),
        enabled: settings.enabled.unwrap_or(true),
        configured: settings.base_url.is_some(),
        breaker: Breaker::default(),
        discovered: ArcSwap::default(),
    })
}

fn vendor(id: &str, settings: ProviderConfig, config: &Config) -> Result<Endpoint> {
    let valid = !id.is_empty()
        && id.len() <= 64
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !valid || id == "manifold" || id == "auto" {
        return Err(setting(
            id,
            "the name of a provider is 1 to 64 letters, digits, - _ . and neither manifold nor auto",
        ));
    }
    let Some(base_url) = &settings.base_url else {
        return Err(setting(id, "this provider is not known by name: set its base_url, or correct the name"));
    };
    let tier = settings.tier.unwrap_or(Tier::Paid);
    Ok(Endpoint {
        id: id.into(),
        codec: provider::generic(),
        base_url: check_url(id, base_url)?,
        credential: settings.api_key,
        key_variable: None,
        signup: None,
        tier,
        trains: tier == Tier::Free,
        first_token: config.first_token,
        enabled: settings.enabled.unwrap_or(true),
        configured: true,
        breaker: Breaker::default(),
        discovered: ArcSwap::default(),
    })
}

/// The diagnostic model as a candidate of its own, which no name resolves to.
pub fn echo(config: &Config) -> Candidate {
    let endpoint = Endpoint {
        id: "manifold".into(),
        codec: provider::generic(),
        base_url: String::new(),
        credential: None,
        key_variable: None,
        signup: None,
        tier: Tier::Local,
        trains: false,
        first_token: config.first_token,
        enabled: true,
        configured: true,
        breaker: Breaker::default(),
        discovered: ArcSwap::default(),
    };
    Candidate::new(Arc::new(endpoint), Arc::new(Model::unknown("manifold", "echo")))
}

fn check_url(id: &str, text: &str) -> Result<String> {
    let url = url::Url::parse(text).map_err(|error| setting(id, "base_url is no URL").because(error))?;
    if !matches!(url.scheme(), "http" | "https")
        || url.host().is_none()
        || !url.username().is_empty()
        || url.query().is_some()
    {
        return Err(setting(id, "base_url must be http or https, with a host and without user or query"));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn setting(id: &str, message: &str) -> Error {
    Error::new(Code::Invalid, "CONFIG_INVALID", format!("ai.providers.{id}: {message}"))
        .at(format!("ai.providers.{id}"))
}

/// Aliases may point to aliases, but not in a circle, and not be called like something that exists.
fn check_aliases(config: &Config) -> Result<HashMap<String, Vec<String>>> {
    let aliases: HashMap<String, Vec<String>> =
        config.aliases.iter().map(|(name, alias)| (name.clone(), alias.names().to_vec())).collect();
    for (name, targets) in &aliases {
        let fail = |message: String| {
            Err(Error::new(Code::Invalid, "CONFIG_INVALID", message).at(format!("ai.aliases.{name}")))
        };
        if name == "auto" || name.contains('/') || name.is_empty() || name.len() > 256 {
            return fail(format!(
                "ai.aliases.{name}: an alias has 1 to 256 characters, no slash, and is not called auto"
            ));
        }
        if targets.is_empty() {
            return fail(format!("ai.aliases.{name}: name at least one model"));
        }
        if reaches(&aliases, targets, name, 0) {
            return fail(format!("ai.aliases.{name}: the alias leads back to itself"));
        }
    }
    Ok(aliases)
}

fn reaches(aliases: &HashMap<String, Vec<String>>, targets: &[String], name: &str, depth: usize) -> bool {
    depth > aliases.len()
        || targets.iter().any(|target| {
            target == name || aliases.get(target).is_some_and(|next| reaches(aliases, next, name, depth + 1))
        })
}
