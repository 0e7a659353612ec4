//! The models that can be called: catalogue, configuration, discovery, aliases and the diagnostic one.

use manifold_contract::ai::v1 as ai;
use manifold_core::{Result, Timestamp};

use crate::Router;
use crate::catalogue::{Feature, Kind};
use crate::echo;
use crate::plan::{self, Needs};
use crate::view::Candidate;

/// Every model with a usable provider, in the order of `auto`; then aliases, `auto` and the diagnostic model.
pub fn list(router: &Router) -> Vec<ai::Model> {
    let now = router.clock.now();
    let mut models: Vec<_> = router
        .view
        .candidates()
        .iter()
        .filter(|candidate| candidate.endpoint.usable())
        .map(|candidate| describe(candidate, now))
        .collect();
    let mut aliases: Vec<_> = router.view.aliases.keys().collect();
    aliases.sort();
    models.extend(aliases.into_iter().map(|name| own(name)));
    models.push(own("auto"));
    models.push(own(echo::NAME));
    models
}

/// One model by any of its names.
pub fn get(router: &Router, name: &str) -> Result<ai::Model> {
    if echo::is_echo(name) || name == "auto" || router.view.aliases.contains_key(name) {
        return Ok(own(name));
    }
    let now = router.clock.now();
    let candidates = match plan::resolve(&router.view, name, Kind::Chat) {
        Ok(candidates) => candidates,
        Err(_) => plan::resolve(&router.view, name, Kind::Embedding)?,
    };
    let usable = candidates.iter().find(|candidate| candidate.endpoint.usable());
    match usable.or(candidates.first()) {
        Some(candidate) => Ok(describe(candidate, now)),
        None => Err(plan::nothing_left(&plan::plan(candidates, &Needs::default(), Kind::Chat, now), now)),
    }
}

fn own(name: &str) -> ai::Model {
    let modalities = vec!["text".to_owned()];
    ai::Model {
        id: name.to_owned(),
        owned_by: "manifold".to_owned(),
        kind: "chat".to_owned(),
        input_modalities: modalities,
        ..Default::default()
    }
}

fn describe(candidate: &Candidate, now: Timestamp) -> ai::Model {
    let model = &candidate.model;
    let features = model.features.as_deref().unwrap_or_default();
    let mut modalities = vec!["text".to_owned()];
    modalities.extend(
        [Feature::Image, Feature::Audio]
            .into_iter()
            .filter(|feature| features.contains(feature))
            .map(|feature| feature.as_str().to_owned()),
    );
    ai::Model {
        id: candidate.name(),
        owned_by: candidate.endpoint.id.to_string(),
        created: 0,
        context_length: model.context,
        max_output_tokens: model.max_output,
        input_modalities: modalities,
        kind: if model.kind == Some(Kind::Embedding) { "embedding" } else { "chat" }.to_owned(),
        features: features.iter().map(|feature| feature.as_str().to_owned()).collect(),
        input_price_pico: model.prices.input.map(|price| price.0),
        output_price_pico: model.prices.output.map(|price| price.0),
        unavailable_reason: plan::unavailable(candidate, now).to_owned(),
    }
}
