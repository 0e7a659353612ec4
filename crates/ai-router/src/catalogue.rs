//! The embedded catalogue: providers and models known by name. Facts only; which of them can be called is [`crate::view`].

use manifold_core::{Code, Error, Result};
use serde::Deserialize;

use crate::config::Tier;
use crate::price::{Pico, Prices};

const PROVIDERS: &str = include_str!("../catalog/providers.toml");
const MODELS: &str = include_str!("../catalog/models.toml");

/// One provider. The columns are explained at the top of `catalog/providers.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderRow {
    /// What stands before the slash.
    pub id: String,
    /// Where its API begins.
    pub base_url: String,
    /// Environment variable of its credential; None = needs none.
    pub key: Option<String>,
    /// Where to get a key.
    pub signup: Option<String>,
    /// What a credential is assumed to be.
    pub tier: Tier,
    /// Whether its free tier may train on prompts.
    pub trains: bool,
    /// Patience for the first byte, where it differs from the default.
    pub first_token_seconds: Option<u64>,
    #[expect(dead_code, reason = "evidence for the reader of the catalogue")]
    source: String,
}

/// What a model is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Answers messages.
    #[default]
    Chat,
    /// Makes vectors.
    Embedding,
}

/// Something a request may need from a model.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Calls tools.
    Tools,
    /// Answers by a JSON schema.
    JsonSchema,
    /// Sees images.
    Image,
    /// Hears audio.
    Audio,
    /// Reads documents.
    File,
    /// Gives several answers.
    N,
    /// Tells token probabilities.
    Logprobs,
    /// Thinks first.
    Reasoning,
}

impl Feature {
    /// The feature word that callers see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::JsonSchema => "json_schema",
            Self::Image => "image",
            Self::Audio => "audio",
            Self::File => "file",
            Self::N => "n",
            Self::Logprobs => "logprobs",
            Self::Reasoning => "reasoning",
        }
    }
}

/// One model. The columns are explained at the top of `catalog/models.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRow {
    /// Id of its provider.
    pub provider: String,
    /// The provider's own name.
    pub name: String,
    /// The name that several providers share.
    pub canonical: String,
    /// What it is for.
    #[serde(default)]
    pub kind: Kind,
    /// Tokens it holds; 0 = unknown.
    #[serde(default)]
    pub context: u32,
    /// Tokens it answers at most; 0 = unknown.
    #[serde(default)]
    pub max_output: u32,
    /// What it can do.
    #[serde(default)]
    pub features: Vec<Feature>,
    input: Option<Pico>,
    cached: Option<Pico>,
    output: Option<Pico>,
    #[expect(dead_code, reason = "evidence for the reader of the catalogue")]
    as_of: String,
}

impl ModelRow {
    /// Its prices.
    pub fn prices(&self) -> Prices {
        Prices { input: self.input, cached: self.cached, output: self.output }
    }
}

/// The providers, in catalogue order.
pub fn providers() -> Result<Vec<ProviderRow>> {
    #[derive(Deserialize)]
    struct File {
        provider: Vec<ProviderRow>,
    }
    Ok(parse::<File>(PROVIDERS, "providers.toml")?.provider)
}

/// The models, in catalogue order.
pub fn models() -> Result<Vec<ModelRow>> {
    #[derive(Deserialize)]
    struct File {
        model: Vec<ModelRow>,
    }
    Ok(parse::<File>(MODELS, "models.toml")?.model)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, name: &str) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        Error::new(Code::Internal, "INTERNAL", format!("the embedded {name} is broken")).because(error)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_model_belongs_to_a_provider_and_stands_once() {
        let providers: HashSet<_> = providers().unwrap().into_iter().map(|row| row.id).collect();
        let models = models().unwrap();

        let names: HashSet<_> = models.iter().map(|row| (row.provider.clone(), row.name.clone())).collect();

        assert!(models.iter().all(|row| providers.contains(&row.provider)));
        assert_eq!(names.len(), models.len());
    }
}
