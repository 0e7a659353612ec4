//! Which candidates a request may use, in which order, and why not the others. Pure: no IO, no clock.

use std::time::Duration;

use manifold_contract::ai::v1::{self as ai, part};
use manifold_core::{Code, Error, Result, Timestamp};

use crate::breaker::Admission;
use crate::catalogue::{Feature, Kind};
use crate::price::estimate_tokens;
use crate::view::{Candidate, View};

/// What a request needs from a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Features without which it cannot be answered.
    pub features: Vec<Feature>,
    /// Its prompt in tokens, estimated.
    pub input_tokens: u64,
    /// Whether its labels forbid providers that train on prompts.
    pub no_training: bool,
}

/// Why a candidate is left out. The first reason that applies is the one recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Switched off.
    Disabled,
    /// No key is set.
    NoCredential,
    /// Its tier may train on prompts and the request must not be trained on.
    TrainsOnData,
    /// It cannot do what the request needs.
    Capability(Feature),
    /// It does something else: chat against embeddings.
    Kind,
    /// The prompt does not fit.
    ContextWindow,
    /// It failed lately.
    Cooldown(Timestamp),
    /// Its limit is used up until then.
    Limited(Timestamp),
}

/// Candidates in the order to try them.
pub struct Plan {
    /// May be empty.
    pub ordered: Vec<Candidate>,
    /// The others, with the reason.
    pub rejected: Vec<(Candidate, Reason)>,
}

/// Reads the needs of a chat from its content.
pub fn needs(request: &ai::ChatRequest) -> Needs {
    let mut features = Vec::new();
    let mut need = |feature: Feature| {
        if !features.contains(&feature) {
            features.push(feature);
        }
    };
    if !request.tools.is_empty() {
        need(Feature::Tools);
    }
    if request.format.as_ref().is_some_and(|format| format.kind() == ai::format::Kind::JsonSchema) {
        need(Feature::JsonSchema);
    }
    let sampling = request.sampling.as_ref();
    if sampling.is_some_and(|sampling| sampling.n.unwrap_or(1) > 1) {
        need(Feature::N);
    }
    if sampling.is_some_and(|sampling| sampling.logprobs == Some(true)) {
        need(Feature::Logprobs);
    }
    let mut bytes = 0;
    for part in request.messages.iter().flat_map(|message| &message.parts) {
        match &part.kind {
            Some(part::Kind::Image(_)) => need(Feature::Image),
            Some(part::Kind::Audio(_)) => need(Feature::Audio),
            Some(part::Kind::File(_)) => need(Feature::File),
            kind => bytes += text_length(kind.as_ref()),
        }
    }
    bytes += request.tools.iter().map(|tool| tool.description.len() + tool.parameters_json.len()).sum::<usize>();
    let labels = request.routing.iter().flat_map(|routing| &routing.labels);
    Needs {
        features,
        input_tokens: estimate_tokens(bytes) + 4 * request.messages.len() as u64,
        no_training: labels
            .into_iter()
            .any(|label| matches!(label.as_str(), "confidential" | "personal" | "no_training")),
    }
}

fn text_length(kind: Option<&part::Kind>) -> usize {
    match kind {
        Some(part::Kind::Text(text) | part::Kind::Thinking(text) | part::Kind::Refusal(text)) => text.len(),
        Some(part::Kind::ToolCall(call)) => call.name.len() + call.arguments_json.len(),
        Some(part::Kind::ToolResult(result)) => result.text.len(),
        _ => 0,
    }
}

/// Candidates that `name` stands for, in order: alias, `auto`, `provider/model`, canonical name, unique name at a provider.
pub fn resolve(view: &View, name: &str, kind: Kind) -> Result<Vec<Candidate>> {
    if let Some(names) = view.aliases.get(name) {
        let mut all = Vec::new();
        for name in names {
            all.extend(resolve(view, name, kind)?);
        }
        return Ok(all);
    }
    if name == "auto" {
        return Ok(view.candidates().into_iter().filter(|candidate| candidate.model.kind == Some(kind)).collect());
    }
    if let Some(candidate) = view.find(name) {
        return Ok(vec![candidate]);
    }
    let shared: Vec<_> = view.listed.iter().filter(|candidate| candidate.model.canonical == name).cloned().collect();
    if !shared.is_empty() {
        return Ok(shared);
    }
    let same_name: Vec<_> = view.candidates().into_iter().filter(|candidate| *candidate.model.name == *name).collect();
    if same_name.len() == 1 {
        return Ok(same_name);
    }
    Err(unknown_model(view, name))
}

fn unknown_model(view: &View, name: &str) -> Error {
    let mut near: Vec<_> = view
        .candidates()
        .iter()
        .flat_map(|candidate| [candidate.name(), candidate.model.canonical.clone()])
        .chain(view.aliases.keys().cloned())
        .filter(|known| !known.is_empty())
        .map(|known| (distance(name, &known), known))
        .collect();
    near.sort();
    near.dedup();
    let near: Vec<_> = near.into_iter().take(3).map(|(_, known)| known).collect();
    let shown: String = name.chars().take(100).collect();
    let hint = near.join(", ");
    Error::not_found("MODEL_NOT_FOUND", format!("the model `{shown}` does not exist; the nearest names are {hint}; GET /v1/models lists all, and ai.aliases adds names"))
        .at("model")
}

/// Edits between two names (Levenshtein), on at most 64 characters each.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<_>, Vec<_>) = (left.chars().take(64).collect(), right.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// Sorts candidates into those that may be tried and those that may not.
pub fn plan(candidates: Vec<Candidate>, needs: &Needs, kind: Kind, now: Timestamp) -> Plan {
    let mut plan = Plan { ordered: Vec::new(), rejected: Vec::new() };
    for candidate in candidates {
        match reject(&candidate, needs, kind, now) {
            Some(reason) => plan.rejected.push((candidate, reason)),
            None => plan.ordered.push(candidate),
        }
    }
    plan
}

fn reject(candidate: &Candidate, needs: &Needs, kind: Kind, now: Timestamp) -> Option<Reason> {
    let (endpoint, model) = (&candidate.endpoint, &candidate.model);
    if !endpoint.enabled {
        return Some(Reason::Disabled);
    }
    if !endpoint.usable() {
        return Some(Reason::NoCredential);
    }
    if needs.no_training && endpoint.trains {
        return Some(Reason::TrainsOnData);
    }
    if model.kind.is_some_and(|known| known != kind) {
        return Some(Reason::Kind);
    }
    if let Some(known) = &model.features
        && let Some(missing) = needs.features.iter().find(|feature| !known.contains(feature))
    {
        return Some(Reason::Capability(*missing));
    }
    if model.context > 0 && needs.input_tokens > u64::from(model.context) {
        return Some(Reason::ContextWindow);
    }
    [&endpoint.breaker, &model.breaker].into_iter().find_map(|breaker| match breaker.peek(now) {
        Admission::Failing(until) => Some(Reason::Cooldown(until)),
        Admission::Told(until) => Some(Reason::Limited(until)),
        Admission::Open => None,
    })
}

/// Why a candidate cannot be called now, as one word; empty if it can.
pub fn unavailable(candidate: &Candidate, now: Timestamp) -> &'static str {
    let kind = candidate.model.kind.unwrap_or_default();
    match reject(candidate, &Needs::default(), kind, now) {
        None => "",
        Some(Reason::Disabled) => "DISABLED",
        Some(Reason::NoCredential) => "NO_CREDENTIAL",
        Some(Reason::TrainsOnData) => "TRAINS_ON_DATA",
        Some(Reason::Capability(_) | Reason::Kind) => "CAPABILITY",
        Some(Reason::ContextWindow) => "CONTEXT_WINDOW",
        Some(Reason::Cooldown(_)) => "COOLDOWN",
        Some(Reason::Limited(_)) => "QUOTA",
    }
}

/// Why nothing is left, in the words of the caller's remedy.
pub fn nothing_left(plan: &Plan, now: Timestamp) -> Error {
    let reasons = || plan.rejected.iter().map(|(_, reason)| reason);
    if let Some(until) =
        soonest(reasons(), |reason| if let Reason::Cooldown(until) = reason { Some(until) } else { None })
    {
        let wait = until.since(now).max(Duration::from_secs(1));
        return Error::new(
            Code::Unavailable,
            "NO_PROVIDER_LEFT",
            "every provider that could answer is cooling down after failures",
        )
        .retry_after(wait);
    }
    if let Some(until) =
        soonest(reasons(), |reason| if let Reason::Limited(until) = reason { Some(until) } else { None })
    {
        let wait = until.since(now).max(Duration::from_secs(1));
        return Error::new(
            Code::Exhausted,
            "RATE_LIMIT_EXCEEDED",
            "every provider that could answer has used up its limit",
        )
        .retry_after(wait);
    }
    if reasons().any(|reason| *reason == Reason::ContextWindow) {
        return Error::invalid(
            "CONTEXT_LENGTH_EXCEEDED",
            "the prompt is longer than the context of every model that could answer",
        )
        .at("messages");
    }
    let missing = reasons()
        .find_map(|reason| if let Reason::Capability(feature) = reason { Some(feature.as_str()) } else { None });
    if let Some(feature) = missing {
        return Error::invalid(
            "UNSUPPORTED",
            format!("no model that was named can do what the request needs: {feature}"),
        )
        .at("model");
    }
    if reasons().any(|reason| *reason == Reason::Kind) {
        return Error::invalid(
            "UNSUPPORTED",
            "the model does not do this operation; GET /v1/models shows what each is for",
        )
        .at("model");
    }
    if reasons().any(|reason| *reason == Reason::TrainsOnData) {
        return Error::new(
            Code::Unavailable,
            "NO_PROVIDER_LEFT",
            "the labels of the request exclude providers that train on prompts, and no other is configured",
        );
    }
    let keys = plan.rejected.iter().filter_map(|(candidate, _)| candidate.endpoint.key_variable.as_deref());
    Error::new(Code::Unavailable, "NO_PROVIDER_CONFIGURED", no_credential(keys))
}

fn soonest<'a>(
    reasons: impl Iterator<Item = &'a Reason>,
    until: impl Fn(Reason) -> Option<Timestamp>,
) -> Option<Timestamp> {
    reasons.filter_map(|reason| until(*reason)).min()
}

fn no_credential<'a>(variables: impl Iterator<Item = &'a str>) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in variables {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let names = if names.is_empty() { "a provider under [ai.providers]".to_owned() } else { names.join(" or ") };
    format!(
        "no provider is configured for this model: set {names}, or start Ollama on this machine, then restart; the model manifold/echo answers without any key"
    )
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
