//! Metrics of one model, with handles that are made once.

use std::time::Duration;

use manifold_contract::ai::v1::Usage;
use manifold_core::Nanos;
use metrics::{Counter, Histogram, counter, histogram};

use crate::classify::Class;

/// Handles of one model at one provider. A model outside the catalogue counts as `other`, so that callers cannot make series.
pub struct Meters {
    provider: String,
    answered: Counter,
    duration: Histogram,
    input: Histogram,
    output: Histogram,
    cost: Counter,
}

impl Meters {
    /// Handles for `model` of `provider`.
    pub fn new(provider: &str, model: &str) -> Self {
        let (provider, model) = (provider.to_owned(), model.to_owned());
        let tokens = |kind: &'static str| histogram!("gen_ai_client_token_usage", "gen_ai_provider_name" => provider.clone(), "gen_ai_request_model" => model.clone(), "gen_ai_token_type" => kind);
        Self {
            answered: counter!("manifold_upstream_attempts_total", "provider" => provider.clone(), "outcome" => "ok"),
            duration: histogram!("gen_ai_client_operation_duration_seconds", "gen_ai_provider_name" => provider.clone(), "gen_ai_request_model" => model.clone()),
            input: tokens("input"),
            output: tokens("output"),
            cost: counter!("manifold_ai_cost_nanos_total", "gen_ai_provider_name" => provider.clone(), "gen_ai_request_model" => model.clone()),
            provider,
        }
    }

    /// Counts one closed attempt.
    pub fn count(&self, failed: Option<Class>, duration: Duration, usage: &Usage, cost: Option<Nanos>) {
        match failed {
            None => self.answered.increment(1),
            Some(class) => counter!("manifold_upstream_attempts_total", "provider" => self.provider.clone(), "outcome" => class.as_str()).increment(1),
        }
        self.duration.record(duration.as_secs_f64());
        self.input.record(usage.input_tokens as f64);
        self.output.record(usage.output_tokens as f64);
        self.cost.increment(cost.map_or(0, |nanos| nanos.0.unsigned_abs()));
    }
}
