//! Settings in layers: defaults, file, environment, command line. Read once, validated as a whole; whatever is wrong is
//! told at once, with where it stands, the key and the remedy.

mod check;
mod layer;
mod names;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use layer::Layers;

/// Where settings come from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The commented defaults that ship with the program, as TOML.
    pub defaults: &'static str,
    /// A TOML file. It has to exist.
    pub file: Option<PathBuf>,
    /// The environment. Only names that begin with `MANIFOLD_` and aliases are read; empty values count as unset.
    pub env: BTreeMap<String, String>,
    /// Customary names: variable and the key it sets. The `MANIFOLD_` name of the same key wins.
    pub aliases: Vec<(String, String)>,
    /// Key and value from the command line.
    pub overrides: Vec<(String, String)>,
}

/// Settings as they are used.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// What we run on.
    pub value: T,
    /// Every key that is set, for `config show`.
    pub settings: BTreeMap<String, Setting>,
}

impl<T> Loaded<T> {
    /// Where the value of `key` comes from.
    pub fn origin(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(|setting| setting.origin.as_str())
    }
}

/// One setting for people to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The value as TOML would show it; `***` for secrets.
    pub value: String,
    /// `the defaults`, a file, an environment variable or the command line.
    pub origin: String,
}

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Never empty.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong. It never tells a value, which may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, `edge.listen`; empty if the file as a whole cannot be read.
    pub key: String,
    /// Where it stands.
    pub origin: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.key.is_empty() {
            write!(formatter, "{} ", self.key)?;
        }
        write!(formatter, "({}): {}; {}", self.origin, self.message, self.remedy)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the configuration cannot be used")?;
        for problem in &self.problems {
            write!(formatter, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Reads all sources and checks them against `T`, whose structs deny unknown fields.
pub fn load<T: DeserializeOwned>(sources: &Sources) -> Result<Loaded<T>, ConfigError> {
    let (layers, mut problems) = Layers::read(sources);
    let settings = layers.settings();
    let (value, mut wrong) = check::extract(layers);
    problems.append(&mut wrong);
    match value {
        Some(value) if problems.is_empty() => Ok(Loaded { value, settings }),
        _ => Err(ConfigError { problems }),
    }
}
