//! Vectors of texts. Never falls back to another model: vectors of two models cannot be compared.

use std::sync::Arc;

use manifold_contract::ai::v1::{self as ai, embed_input};
use manifold_core::Result;
use manifold_runtime::CallContext;

use crate::Router;
use crate::attempt;
use crate::catalogue::Kind;
use crate::chat::{take_turn, target};
use crate::classify::{Class, Failure};
use crate::ledger::{Asked, Ledger};
use crate::plan::{self, Needs};
use crate::price::estimate_tokens;
use crate::provider::Vectors;
use crate::turns::{Step, Turns};
use crate::view::Candidate;

/// Makes vectors.
pub async fn embed(
    router: &Router,
    context: &Arc<CallContext>,
    request: ai::EmbedRequest,
) -> Result<ai::EmbedResponse> {
    let needs = Needs { input_tokens: input_tokens(&request), ..Default::default() };
    let asked = Asked { operation: "embed", model: &request.model, stream: false, input_tokens: needs.input_tokens };
    let mut ledger = Ledger::open(router, context, asked);
    router.room().await.inspect_err(|error| ledger.refuse(error))?;
    let mut turns = choose(router, &request.model, &needs).inspect_err(|error| ledger.refuse(error))?;
    while let Some(candidate) = take_turn(router, &mut turns) {
        match attempt(router, context, &mut ledger, &candidate, &request).await {
            Ok((vectors, degraded)) => {
                return Ok(ai::EmbedResponse {
                    vectors: vectors.vectors,
                    usage: Some(ledger.settled_usage()),
                    served: Some(ledger.served(&degraded)),
                });
            }
            Err(failure) => {
                let failure = failure.redacted(&target(&candidate));
                ledger.fail(&failure);
                attempt::failed(router, &candidate, &failure, true);
                match turns.failed(failure, router.chance()) {
                    Step::Again(pause) => {
                        tokio::time::sleep_until((tokio::time::Instant::now() + pause).min(context.deadline)).await;
                    }
                    Step::Next => {}
                    Step::GiveUp => break,
                }
            }
        }
    }
    Err(turns.into_error())
}

/// The one model that was named. Several providers of the same weights are fine; other weights are not.
fn choose(router: &Router, model: &str, needs: &Needs) -> Result<Turns> {
    let mut candidates = plan::resolve(&router.view, model, Kind::Embedding)?;
    if let Some(first) = candidates.iter().find(|candidate| candidate.endpoint.usable()).or(candidates.first()).cloned()
    {
        candidates.retain(|candidate| same_weights(candidate, &first));
    }
    let now = router.clock.now();
    let plan = plan::plan(candidates, needs, Kind::Embedding, now);
    if plan.ordered.is_empty() {
        return Err(plan::nothing_left(&plan, now));
    }
    Ok(Turns::new(plan.ordered, router.config.max_attempts))
}

fn same_weights(left: &Candidate, right: &Candidate) -> bool {
    let same = left.name() == right.name();
    same || (!left.model.canonical.is_empty() && left.model.canonical == right.model.canonical)
}

async fn attempt(
    router: &Router,
    context: &CallContext,
    ledger: &mut Ledger,
    candidate: &Candidate,
    request: &ai::EmbedRequest,
) -> Result<(Vectors, Vec<&'static str>), Failure> {
    let encoded = candidate.endpoint.codec.encode_embed(&target(candidate), request)?;
    let degraded = encoded.degraded.clone();
    let inbound = attempt::send(router, context, ledger, candidate, encoded).await?;
    let body = inbound.bytes().await.map_err(attempt::from_send_error)?;
    let vectors = candidate.endpoint.codec.decode_embed(&body)?;
    if vectors.vectors.len() != request.inputs.len() {
        return Err(Failure::new(
            Class::Malformed,
            "the provider returned another number of vectors than there were inputs",
        ));
    }
    ledger.usage(vectors.usage, vectors.reported_cost);
    ledger.succeed();
    attempt::succeeded(router, candidate);
    Ok((vectors, degraded))
}

fn input_tokens(request: &ai::EmbedRequest) -> u64 {
    let count = |input: &ai::EmbedInput| match &input.kind {
        Some(embed_input::Kind::Text(text)) => estimate_tokens(text.len()),
        Some(embed_input::Kind::Tokens(tokens)) => tokens.ids.len() as u64,
        None => 0,
    };
    request.inputs.iter().map(count).sum()
}
