//! What `manifold doctor` asks of the providers: are they configured, do they answer, and does every kind of model have a
//! second provider to fall back to. Only free calls are made.

use std::sync::Arc;
use std::time::Instant;

use manifold_core::{Result, Timestamp};
use manifold_runtime::http::Client;

use crate::catalogue::{Feature, Kind};
use crate::config::Config;
use crate::discover;
use crate::view::{Endpoint, View};

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but could be better.
    Warn,
    /// Does not work.
    Fail,
    /// Not looked at.
    Skip,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Such as `provider.groq`.
    pub id: String,
    /// How serious.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// What mends it; empty = nothing to mend.
    pub remedy: String,
}

impl Finding {
    /// A finding.
    pub fn new(id: impl Into<String>, severity: Severity, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { id: id.into(), severity, found: found.into(), remedy: remedy.into() }
    }
}

/// Looks at every provider. `offline` leaves out what needs the network.
pub async fn examine(config: &Config, http: &Client, now: Timestamp, offline: bool) -> Result<Vec<Finding>> {
    let view = View::build(config)?;
    let looks = view.endpoints.values().map(|endpoint| provider(http, endpoint, now, offline));
    let mut findings = futures::future::join_all(looks).await;
    findings.extend(fallbacks(&view));
    Ok(findings)
}

async fn provider(http: &Client, endpoint: &Endpoint, now: Timestamp, offline: bool) -> Finding {
    let id = format!("provider.{}", endpoint.id);
    if !endpoint.enabled {
        return Finding::new(id, Severity::Skip, "switched off in the configuration", "");
    }
    if let (Some(variable), None) = (&endpoint.key_variable, &endpoint.credential) {
        let signup = endpoint.signup.as_deref().unwrap_or("the provider");
        return Finding::new(id, Severity::Skip, "no key", format!("set {variable}; keys come from {signup}"));
    }
    if offline {
        return Finding::new(id, Severity::Skip, "not asked: offline", "");
    }
    let begun = Instant::now();
    match discover::models(http, endpoint, now).await {
        Ok(names) => {
            let latency = begun.elapsed().as_millis();
            let trains = if endpoint.trains { "; its free tier may train on prompts" } else { "" };
            endpoint
                .discovered
                .store(Arc::new(names.iter().map(|name| Arc::new(discover::discovered(&endpoint.id, name))).collect()));
            Finding::new(id, Severity::Ok, format!("answers in {latency} ms with {} models{trains}", names.len()), "")
        }
        Err(_) if endpoint.key_variable.is_none() && !endpoint.configured => {
            Finding::new(id, Severity::Skip, "not running on this machine", "")
        }
        Err(failure) => {
            let remedy = match failure.class.as_str() {
                "auth" | "forbidden" => "renew its key",
                "connect" | "timeout" => "check its base_url, DNS and the way to the internet",
                _ => "look at the provider's status page",
            };
            Finding::new(id, Severity::Fail, format!("does not answer: {}", failure.message), remedy)
        }
    }
}

/// Which kinds of model have a second provider.
fn fallbacks(view: &View) -> Vec<Finding> {
    let kinds: [(&str, Kind, Option<Feature>); 5] = [
        ("chat", Kind::Chat, None),
        ("tools", Kind::Chat, Some(Feature::Tools)),
        ("json_schema", Kind::Chat, Some(Feature::JsonSchema)),
        ("image", Kind::Chat, Some(Feature::Image)),
        ("embedding", Kind::Embedding, None),
    ];
    kinds.into_iter().map(|(name, kind, feature)| fallback(view, name, kind, feature)).collect()
}

fn fallback(view: &View, name: &str, kind: Kind, feature: Option<Feature>) -> Finding {
    let mut providers: Vec<String> = view
        .candidates()
        .iter()
        .filter(|candidate| candidate.endpoint.usable() && candidate.model.kind == Some(kind))
        .filter(|candidate| {
            feature.is_none_or(|feature| candidate.model.features.as_ref().is_none_or(|known| known.contains(&feature)))
        })
        .map(|candidate| candidate.endpoint.id.to_string())
        .collect();
    providers.sort();
    providers.dedup();
    let id = format!("fallback.{name}");
    match providers.len() {
        0 => Finding::new(id, Severity::Warn, "no provider", "set the key of a provider; see .env.example"),
        1 if kind == Kind::Embedding => {
            Finding::new(id, Severity::Ok, format!("{}; embeddings never fall back", providers[0]), "")
        }
        1 => Finding::new(
            id,
            Severity::Warn,
            format!("only {}", providers[0]),
            "set the key of a second provider, so that one outage stops nobody",
        ),
        _ => Finding::new(id, Severity::Ok, providers.join(" "), ""),
    }
}
