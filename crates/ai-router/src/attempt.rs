//! One HTTP request to a provider: sent, classified, reported to the breakers. Repeating it is the caller's decision.

use std::time::Duration;

use manifold_runtime::CallContext;
use manifold_runtime::http::{Inbound, Outbound, SendError, Sent, Trust};
use tracing::{debug, warn};

use crate::Router;
use crate::classify::{Class, Failure};
use crate::ledger::Ledger;
use crate::provider::Encoded;
use crate::turns::WORTH_WAITING;
use crate::view::Candidate;

/// The largest answer of a provider.
const MAX_ANSWER: u64 = 64 << 20;
/// The most that is read of an error body.
const MAX_ERROR: usize = 1 << 20;
/// How long a limit without a told end keeps a model away.
const UNTOLD_LIMIT: Duration = Duration::from_secs(15);
/// How long a refused credential or an empty account keeps a provider away.
const REFUSED: Duration = Duration::from_secs(300);
/// How long a model that a provider does not offer is left out of lists of several.
const NOT_OFFERED: Duration = Duration::from_secs(3600);

/// Sends one attempt and returns its 2xx answer, body unread.
pub async fn send(
    router: &Router,
    context: &CallContext,
    ledger: &mut Ledger,
    candidate: &Candidate,
    encoded: Encoded,
) -> Result<Inbound, Failure> {
    let sent = Sent::default();
    ledger.begin(candidate, sent.clone());
    let outbound = Outbound {
        request: encoded.request,
        trust: Trust::Operator,
        deadline: context.deadline,
        first_byte: candidate.endpoint.first_token,
        idle: router.config.idle,
        max_body: MAX_ANSWER,
        sent,
    };
    let inbound = router.http.send(outbound).await.map_err(from_send_error)?;
    ledger.status(inbound.head.status.as_u16());
    if inbound.head.status.is_success() {
        return Ok(inbound);
    }
    // Boxed, because failures are rare and every request would carry the room for one.
    Err(Box::pin(read_failure(router, candidate, inbound)).await)
}

async fn read_failure(router: &Router, candidate: &Candidate, mut inbound: Inbound) -> Failure {
    let mut body = Vec::new();
    while body.len() < MAX_ERROR {
        match inbound.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    body.truncate(MAX_ERROR);
    candidate.endpoint.codec.classify(&inbound.head, &body, router.clock.now().seconds())
}

/// What a failure on the way means.
#[expect(clippy::needless_pass_by_value, reason = "the form that map_err wants")]
pub fn from_send_error(error: SendError) -> Failure {
    debug!(%error, "request to provider failed");
    let class = match error {
        SendError::Connect(_) | SendError::Denied(_) => Class::Connect,
        SendError::Timeout(_) => Class::Timeout,
        SendError::Broken(_) => Class::Interrupted,
        SendError::TooLarge(_) => Class::Malformed,
    };
    Failure::new(class, "the connection to the provider failed")
}

/// Tells the breakers of a success.
pub fn succeeded(router: &Router, candidate: &Candidate) {
    candidate.model.breaker.success(router.clock.now());
}

/// Tells the breakers of a failure. A limit that is waited out is not remembered. A model that one provider does not offer is only left out where others can answer.
pub fn failed(router: &Router, candidate: &Candidate, failure: &Failure, only_one: bool) {
    let (now, breaker) = (router.clock.now(), &candidate.model.breaker);
    warn!(provider = %candidate.endpoint.id, model = %candidate.model.name, class = failure.class.as_str(), status = failure.status, "attempt failed");
    match failure.class {
        class if class.counts_for_breaker() => breaker.failure(now),
        Class::Rate if failure.retry_after.is_some_and(|delay| delay <= WORTH_WAITING) => {}
        Class::Rate | Class::Quota | Class::Concurrency => {
            breaker.block(now.after(failure.retry_after.unwrap_or(UNTOLD_LIMIT)));
        }
        Class::Auth | Class::Billing if !only_one => candidate.endpoint.breaker.block(now.after(REFUSED)),
        Class::Forbidden | Class::Gone if !only_one => breaker.block(now.after(NOT_OFFERED)),
        _ => {}
    }
}
