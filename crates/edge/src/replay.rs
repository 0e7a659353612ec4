//! Requests that make something and may be sent twice: the first answer is kept and given again, whatever the operation. A
//! refusal by the operation is an answer, too; what was refused for who asks, or for how often, is decided anew.
//! Operations whose whole effect is one transaction keep it there themselves and say so by `x-manifold-idempotency`.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use manifold_core::Error;
use manifold_identity::{Identity, Promise, Repeat, Repeatable};
use manifold_runtime::telemetry::Scope;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tower::Service;
use tracing::warn;

use crate::call::Call;
use crate::dialect::Dialect;
use crate::edge::Edge;
use crate::headers::value;
use crate::idempotency::{self, REPLAYED};
use crate::problem::{self, About};
use crate::refusal::{self, Answer, Refusal};
use crate::routes::Operation;

/// Beyond the deadline of a request nobody works on it any more.
const SLACK: Duration = Duration::from_secs(10);
/// Headers that belong to an answer and are kept with it.
const KEPT: [HeaderName; 2] = [CONTENT_TYPE, LOCATION];

/// What becomes of a request.
pub(crate) enum Begun {
    /// It takes its way. If it is the first of its kind, its answer goes through [`end`].
    Run(Option<First>),
    /// It was answered before.
    Answered(Response),
}

/// A request that may come again.
pub(crate) struct First {
    promise: Promise,
    about: About,
    /// Who asks has just proven to be the person, or is none.
    proven: bool,
}

#[derive(Deserialize, Serialize)]
struct Kept {
    #[serde(default)]
    proven: bool,
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// Finds out whether a request came before. What was told to somebody who had just proven to be the person is told again to
/// such only.
pub(crate) async fn begin(
    identity: &Identity,
    operation: &Operation,
    uri: &Uri,
    call: &Call,
    about: About,
) -> Answer<Begun> {
    let native = Dialect::of(uri.path()) == Dialect::Native;
    if operation.method != Method::POST || !native || operation.is_public() || operation.keeps_answers {
        return Ok(Begun::Run(None));
    }
    let Some(key) = idempotency::key(&call.headers)? else { return Ok(Begun::Run(None)) };
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    let request = [target.as_bytes(), &call.body];
    let (caller, name) = (&call.context.principal, &operation.id);
    let asked = Repeatable { caller, operation: name, key: &key, request: &request };
    match identity.begin_request(&asked, operation.deadline + SLACK).await? {
        Repeat::First(promise) => {
            let proven = identity.require_step_up(caller).is_ok();
            Ok(Begun::Run(Some(First { promise, about, proven })))
        }
        Repeat::Again(answer) => {
            let kept: Kept = serde_json::from_slice(answer.expose()).map_err(|error| broken().because(error))?;
            if kept.proven {
                identity.require_step_up(caller)?;
            }
            Ok(Begun::Answered(unpack(kept)?))
        }
        Repeat::Busy => {
            let message = "the first request with this key is being answered";
            let busy = Refusal::new(StatusCode::CONFLICT, "IDEMPOTENCY_IN_FLIGHT", message).at("Idempotency-Key");
            Err(busy.retry_after(Duration::from_secs(1)))
        }
    }
}

/// Does what is asked for, and keeps the answer, even if the client has gone meanwhile: who asks again must find it.
pub(crate) async fn run(edge: &Edge, scope: &Scope, first: First, request: Request<Body>) -> Answer<Response> {
    let (tell, told) = oneshot::channel();
    let (identity, mut router, scope) = (edge.identity.clone(), edge.router.clone(), scope.clone());
    edge.tasks.spawn("edge repeatable request", async move {
        let work = async {
            let response = router.call(request).await.unwrap_or_else(|never| match never {});
            end(&identity, first, refusal::taken(response)).await
        };
        // Nobody may be there any more.
        drop(tell.send(scope.run(work).await));
    });
    told.await.unwrap_or_else(|_| Err(Error::internal("a handler panicked").into()))
}

/// Keeps an answer that will be the same. What is done is done, whether or not its answer can be kept.
pub(crate) async fn end(identity: &Identity, first: First, outcome: Answer<Response>) -> Answer<Response> {
    let First { promise, about, proven } = first;
    let status = outcome.as_ref().map_or_else(|refusal| refusal.status, Response::status);
    if !is_lasting(status) {
        if let Err(error) = identity.forget_request(promise).await {
            warn!(%error, "cannot forget a refused request; who repeats it has to wait");
        }
        return outcome;
    }
    let response = outcome.unwrap_or_else(|refusal| problem::render(&refusal, about));
    let (head, body) = response.into_parts();
    let body =
        body.collect().await.map_err(|error| Error::internal("read an answer of ours").because(error))?.to_bytes();
    let headers =
        KEPT.iter().filter_map(|name| Some((name.to_string(), head.headers.get(name)?.to_str().ok()?.to_owned())));
    let text = String::from_utf8_lossy(&body).into_owned();
    let kept = Kept { proven, status: head.status.as_u16(), headers: headers.collect(), body: text };
    let kept = serde_json::to_vec(&kept).map_err(|error| Error::internal("print an answer").because(error))?;
    if let Err(error) = identity.keep_answer(promise, &kept).await {
        warn!(%error, "cannot keep the answer of a request that may be repeated");
    }
    Ok(Response::from_parts(head, Body::from(body)))
}

/// Whether the same request will be answered like that again. Another credential, another limit or another day may change the
/// rest.
fn is_lasting(status: StatusCode) -> bool {
    status.is_success()
        || (status.is_client_error()
            && !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS))
}

fn broken() -> Error {
    Error::internal("an answer that was kept cannot be read")
}

fn unpack(kept: Kept) -> Answer<Response> {
    let mut response = Response::new(Body::from(kept.body));
    *response.status_mut() = StatusCode::from_u16(kept.status).map_err(|error| broken().because(error))?;
    for (name, text) in kept.headers {
        let name: HeaderName = name.parse().map_err(|error| broken().because(error))?;
        response.headers_mut().insert(name, value(text));
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}
