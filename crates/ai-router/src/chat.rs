//! A whole answer: plan, then attempts until one succeeds or nothing is left.

use std::sync::Arc;

use manifold_contract::ai::v1 as ai;
use manifold_core::{Code, Error, Result};
use manifold_runtime::CallContext;
use tokio::time::Instant;

use crate::Router;
use crate::attempt;
use crate::breaker::Admission;
use crate::catalogue::Kind;
use crate::classify::{Class, Failure};
use crate::echo;
use crate::ledger::{Asked, Ledger};
use crate::media;
use crate::plan::{self, Needs};
use crate::provider::{Answer, Mode, Target};
use crate::quirk;
use crate::turns::{Step, Turns};
use crate::view::Candidate;

/// Answers a chat.
pub async fn chat(
    router: &Router,
    context: &Arc<CallContext>,
    request: &mut ai::ChatRequest,
) -> Result<ai::ChatResponse> {
    if echo::is_echo(&request.model) {
        return Ok(echo::whole(router, context, request));
    }
    let needs = plan::needs(request);
    let mut ledger = Ledger::open(router, context, Asked::chat(request, &needs, Mode::Whole));
    router.room().await.inspect_err(|error| ledger.refuse(error))?;
    let mut turns = choose(router, request, &needs).inspect_err(|error| ledger.refuse(error))?;
    loop {
        let Some(candidate) = take_turn(router, &mut turns) else {
            return Err(turns.into_error());
        };
        match whole(router, context, &mut ledger, &candidate, request).await {
            Ok((answer, degraded)) => return Ok(respond(router, &ledger, answer, &degraded)),
            Err(failure) => Box::pin(recover(router, context, &mut ledger, &mut turns, request, failure)).await?,
        }
    }
}

/// The candidates of a chat, or why there are none.
pub fn choose(router: &Router, request: &ai::ChatRequest, needs: &Needs) -> Result<Turns> {
    let mut candidates = plan::resolve(&router.view, &request.model, Kind::Chat)?;
    for name in request.routing.iter().flat_map(|routing| &routing.fallback_models) {
        candidates.extend(plan::resolve(&router.view, name, Kind::Chat)?);
    }
    let now = router.clock.now();
    let plan = plan::plan(candidates, needs, Kind::Chat, now);
    if plan.ordered.is_empty() {
        return Err(plan::nothing_left(&plan, now));
    }
    Ok(Turns::new(plan.ordered, router.config.max_attempts))
}

/// The next candidate that its breakers admit.
pub fn take_turn(router: &Router, turns: &mut Turns) -> Option<Candidate> {
    while let Some(candidate) = turns.current() {
        if candidate.model.breaker.admit(router.clock.now()) == Admission::Open {
            return Some(candidate);
        }
        turns.skip();
    }
    None
}

async fn whole(
    router: &Router,
    context: &CallContext,
    ledger: &mut Ledger,
    candidate: &Candidate,
    request: &ai::ChatRequest,
) -> Result<(Answer, Vec<&'static str>), Failure> {
    let request = media::inlined(router, context, candidate, request).await?;
    let encoded = candidate.endpoint.codec.encode(&target(candidate), &request, Mode::Whole)?;
    let degraded = check_degraded(&request, &encoded.degraded)?;
    let inbound = attempt::send(router, context, ledger, candidate, encoded).await?;
    let body = inbound.bytes().await.map_err(attempt::from_send_error)?;
    let answer = candidate.endpoint.codec.decode(&body)?;
    ledger.usage(answer.usage, answer.reported_cost);
    ledger.whole(&answer.choices);
    ledger.succeed();
    attempt::succeeded(router, candidate);
    Ok((answer, degraded))
}

/// Where a candidate is reached.
pub fn target(candidate: &Candidate) -> Target<'_> {
    Target {
        base_url: &candidate.endpoint.base_url,
        model: &candidate.model.name,
        credential: candidate.endpoint.credential.as_ref(),
        context_length: candidate.model.context,
    }
}

/// Dropped wishes are declared, or refused where the caller is strict.
pub fn check_degraded(request: &ai::ChatRequest, degraded: &[&'static str]) -> Result<Vec<&'static str>, Failure> {
    let strict = request.routing.as_ref().is_some_and(|routing| routing.strict);
    if strict && let Some(wish) = degraded.first() {
        let mut failure =
            Failure::new(Class::Invalid, format!("the provider cannot fulfil {wish}, and the request is strict"));
        failure.param = Some((*wish).to_owned());
        return Err(failure);
    }
    Ok(degraded.to_vec())
}

/// Books a failure and prepares the next attempt: drops a refused wish, waits, or gives up.
pub async fn recover(
    router: &Router,
    context: &CallContext,
    ledger: &mut Ledger,
    turns: &mut Turns,
    request: &mut ai::ChatRequest,
    failure: Failure,
) -> Result<()> {
    let Some(candidate) = turns.current() else {
        return Err(give_up(turns));
    };
    let failure = failure.redacted(&target(&candidate));
    ledger.fail(&failure);
    attempt::failed(router, &candidate, &failure, turns.only_one());
    let quirk = failure.quirk.clone();
    let mut step = turns.failed(failure, router.chance());
    if let (Step::Again(_), Some(field)) = (step, quirk)
        && !quirk::drop_wish(request, &field)
    {
        turns.skip();
        step = Step::Next;
    }
    match step {
        Step::GiveUp => Err(give_up(turns)),
        Step::Next if Instant::now() < context.deadline => Ok(()),
        Step::Again(pause) if Instant::now() + pause < context.deadline => {
            tokio::time::sleep(pause).await;
            ledger.paused(pause);
            Ok(())
        }
        _ => Err(Error::new(
            Code::Timeout,
            "UPSTREAM_TIMEOUT",
            "the deadline of the request passed before a provider answered",
        )),
    }
}

fn give_up(turns: &mut Turns) -> Error {
    std::mem::replace(turns, Turns::new(Vec::new(), 0)).into_error()
}

fn respond(router: &Router, ledger: &Ledger, answer: Answer, degraded: &[&'static str]) -> ai::ChatResponse {
    ai::ChatResponse {
        id: router.answer_id(answer.id),
        created: router.answer_time(answer.created),
        choices: answer.choices,
        usage: Some(ledger.settled_usage()),
        served: Some(ledger.served(degraded)),
    }
}
