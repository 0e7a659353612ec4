//! The way of every request through the door, in order. Order is meaning: what stands further up protects what stands
//! below. `answer` is the outside, `admit` runs before the operation is known to be the caller's, `gate` after.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt;
use http::header::{CONNECTION, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use manifold_core::{Error, Principal, RequestId, TenantId, TraceContext};
use manifold_identity::Visit;
use manifold_runtime::CallContext;
use manifold_runtime::telemetry::{self, Scope};
use tokio::time::{Instant, timeout_at};
use tower::Service;

use crate::call::{Call, Stopwatch};
use crate::carry::Door;
use crate::dialect::Dialect;
use crate::edge::Edge;
use crate::inflate::{self, Coding};
use crate::limit::Asking;
use crate::listen::Peer;
use crate::measure::Delivery;
use crate::problem::{self, About};
use crate::record::{Record, Traced, Tracked};
use crate::refusal::{self, Answer, Refusal};
use crate::replay::{self, Begun};
use crate::routes::{Access, Operation};
use crate::{auth, body, condition, cors, headers, normalise};

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// What a request sends: the client itself, or another request that carries it.
type Sent = Either<Incoming, Full<Bytes>>;

/// What the layers leave behind for the answer.
struct Scene {
    record: Record,
    peer: Arc<Peer>,
    /// When the request that carries this one must be answered, if one does.
    carrier: Option<Instant>,
    about: About,
    trace: TraceContext,
    scope: Scope,
    kept_id: Option<HeaderValue>,
    origin: Option<HeaderValue>,
    /// The request's body until somebody has read it.
    body: Option<Sent>,
    /// The client sends the body only when asked to.
    expects_continue: bool,
}

/// One request in, one answer out.
pub(crate) async fn answer(edge: Arc<Edge>, peer: Arc<Peer>, request: Request<Incoming>) -> Response<Tracked> {
    let (parts, body) = request.into_parts();
    // 1, 2 Ids, trace and account: everything below refers to them, and the account closes with the last byte.
    let mut scene = open(&edge, peer, &parts, Sent::Left(body));
    let mut response = serve(&edge, &mut scene, parts).await;
    headers::secure(response.headers_mut());
    cors::expose(response.headers_mut(), scene.origin.take());
    // 9 A body that nobody read.
    if let Some(body) = scene.body.take() {
        end_body(body, &scene, &mut response).await;
    }
    scene.record.follow(response)
}

/// The same for a request that another one carries, by the deadline of that one. What protects browsers is left to the answer
/// that carries this one.
pub(crate) async fn answer_carried(door: &Door, parts: Parts, body: Bytes) -> Response<Tracked> {
    let peer = Peer { address: door.address, line: Arc::default() };
    let mut scene = open(&door.edge, Arc::new(peer), &parts, Sent::Right(Full::new(body)));
    scene.carrier = Some(door.deadline);
    let response = serve(&door.edge, &mut scene, parts).await;
    scene.record.follow(response)
}

/// Layers 3 to 17.
async fn serve(edge: &Arc<Edge>, scene: &mut Scene, parts: Parts) -> Response {
    // 3 A panic ends one request with one 500.
    let scope = scene.scope.clone();
    let outcome = scope.run(AssertUnwindSafe(admit(edge, scene, parts)).catch_unwind()).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("a handler panicked").into()));
    let mut response = outcome.unwrap_or_else(|refusal| scene.scope.enter(|| problem::render(&refusal, scene.about)));
    // 4 Headers of every answer, refused or not.
    // Who may not call learns nothing about anybody's limits.
    if !matches!(response.status(), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        scene.record.met.told.describe(response.headers_mut());
    }
    headers::name(response.headers_mut(), scene.record.request, scene.kept_id.take());
    response
}

/// Layers 5 to 8.
async fn admit(edge: &Arc<Edge>, scene: &mut Scene, mut parts: Parts) -> Answer<Response> {
    // 5 One reading of the target for everything below.
    normalise::check(&parts, edge.config.max_target)?;
    if let Some(uri) = normalise::unalias(&parts.uri) {
        parts.uri = uri;
    }
    // 6 Preflights are answered here, before keys, the same for every path.
    if let Some(answer) = cors::preflight(&parts, scene.origin.as_ref()) {
        return Ok(answer);
    }
    // 8 The operation, which knows its own limits; 404 and 405 end here.
    let operation = Arc::clone(edge.routes.find(&parts.method, parts.uri.path())?);
    scene.record.operation = Some(Arc::clone(&operation));
    normalise::check_body(&parts)?;
    if scene.carrier.is_some() && !operation.can_be_carried {
        let message = "this cannot be one of several requests: send it alone";
        return Err(Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "NOT_IN_A_BATCH", message));
    }
    // 7 Load shed, probes excepted: a full house is not a dead one.
    if !operation.is_probe() && edge.in_flight.count() > edge.config.max_in_flight {
        return Err(shed());
    }
    // 7 The deadline of everything that is awaited from here on.
    let deadline = scene.record.started + deadline(&operation, &parts.headers);
    let deadline = scene.carrier.map_or(deadline, |carrier| deadline.min(carrier));
    match timeout_at(deadline, gate(edge, scene, parts, &operation, deadline)).await {
        Ok(answer) => answer,
        Err(_) => Err(Refusal::new(StatusCode::GATEWAY_TIMEOUT, "DEADLINE_EXCEEDED", "the request took too long")),
    }
}

/// Layers 9 to 17. Public operations have no caller and no limits of one; probes have no body either.
async fn gate(
    edge: &Arc<Edge>,
    scene: &mut Scene,
    mut parts: Parts,
    operation: &Operation,
    deadline: Instant,
) -> Answer<Response> {
    // Our own resources have tags; dialects know none.
    let has_tag = parts.method == Method::GET && scene.about.dialect == Dialect::Native && !operation.is_probe();
    let known_tags = if has_tag { condition::known(&parts.headers) } else { Vec::new() };
    let mut first = None;
    let mut who = None;
    if !operation.is_probe() {
        // 9 Size and type of the body, by its head.
        let announced = scene.body.as_ref().and_then(|body| body.size_hint().exact());
        let coding = body::admit(&parts.headers, announced, operation.max_body)?;
        // 10 Blocks and limits of the address, before anything is hashed or looked up.
        let Record { client, request, .. } = scene.record;
        edge.identity.refuse_blocked(client)?;
        // Answers end by the deadline, and who does not read them is cut off soon after.
        let until = deadline + edge.config.write_stall;
        let asking = Asking { operation, client, request, caller: None, now: edge.clock.now(), until };
        edge.limits.charge_address(&asking, &mut scene.record.met).await?;
        // 11, 12 Who calls, and of his own will.
        let known = if operation.is_public() { None } else { Some(caller(edge, &parts, operation, client).await?) };
        // 6 Pages that one tenant allows read no answers to the keys of another.
        if let (Some(_), Some(caller)) = (&scene.origin, &known) {
            scene.origin = cors::allowed(&edge.config.cors_origins, &parts.headers, |origin| {
                edge.identity.allows_origin(origin, Some(caller.tenant))
            });
        }
        // 13 Limits of the caller, charged before permission so that refused floods cost, too.
        let asking = Asking { caller: known.as_ref(), ..asking };
        // Who may change limits gets in with too low ones, too.
        let exempt = |caller: &&Principal| operation.is_about_limits() && operation.authorise(caller).is_ok();
        let own = known.as_ref().filter(|caller| !exempt(caller));
        let own = own.map_or_else(Vec::new, |caller| edge.identity.limits_of(caller));
        edge.limits.charge_caller(&asking, &own, &mut scene.record.met).await?;
        // 14 What the caller may.
        let principal = known.unwrap_or_else(Principal::anonymous);
        operation.authorise(&principal).inspect_err(|_| {
            note(edge, scene, operation, StatusCode::FORBIDDEN, principal.tenant, &principal.subject);
        })?;
        who = Some((principal.tenant, Arc::clone(&principal.subject))).filter(|_| !operation.is_public());
        // 16 The body, within its size and time.
        let mut call = call(edge, scene, &mut parts, coding, principal, deadline).await?;
        // 16 What the client believes to change.
        condition::check(edge, &parts.method, &parts.uri, &mut call).await?;
        // 15 What was asked before is not done again. Its body, too, tells whether it is the same.
        match replay::begin(&edge.identity, operation, &parts.uri, &call, scene.about).await? {
            Begun::Answered(response) => return Ok(response),
            Begun::Run(made) => first = made,
        }
        // Whoever was refused before has paid nothing, nor has who is answered again.
        if call.context.principal.metered
            && !operation.carries()
            && let Err(error) = edge.identity.charge(&call.context).await
        {
            let refused = Err(error.into());
            return match first {
                Some(first) => replay::end(&edge.identity, first, refused).await,
                None => refused,
            };
        }
        parts.extensions.insert(call);
    }
    if operation.carries() {
        parts.extensions.insert(Door::new(edge, &scene.peer, deadline));
    }
    // 17 The handler.
    let request = Request::from_parts(parts, Body::empty());
    let outcome = match first {
        Some(first) => replay::run(edge, &scene.scope, first, request).await,
        None => refusal::taken(edge.router.clone().call(request).await.unwrap_or_else(|never| match never {})),
    };
    let status = match &outcome {
        Ok(response) => {
            scene.record.delivery = delivery(response.headers());
            response.status()
        }
        Err(refusal) => refusal.status,
    };
    if let Some((tenant, subject)) = &who {
        note(edge, scene, operation, status, *tenant, subject);
    }
    if has_tag { condition::tag(outcome?, &known_tags).await } else { outcome }
}

/// Whoever is denied things, or looks for what is not there, may be looking for a hole.
fn note(edge: &Edge, scene: &Scene, operation: &Operation, status: StatusCode, tenant: TenantId, subject: &Arc<str>) {
    match status {
        StatusCode::FORBIDDEN => {
            edge.identity.note_denied(tenant, subject, scene.record.client, operation.to_string());
        }
        StatusCode::NOT_FOUND if scene.about.dialect == Dialect::Native => {
            edge.identity.note_missed(tenant, subject, operation.to_string());
        }
        _ => {}
    }
}

fn open(edge: &Edge, peer: Arc<Peer>, parts: &Parts, body: Sent) -> Scene {
    let request = RequestId(edge.ids.next());
    let traceparent = parts.headers.get("traceparent").and_then(|value| value.to_str().ok());
    let mut trace = telemetry::start_trace(traceparent.and_then(TraceContext::parse));
    let client = normalise::client(peer.address.ip(), &parts.headers, &edge.config.trusted_proxies);
    let span = telemetry::request_span(&parts.method, &mut trace);
    let scope = Scope::new(&trace, request, span.clone());
    let traced = Traced { method: parts.method.clone(), span, scope: scope.clone() };
    Scene {
        scope,
        record: Record::open(request, client, traced, &edge.in_flight, &peer.line),
        about: About { request, trace_id: trace.trace_id, dialect: Dialect::of(parts.uri.path()) },
        trace,
        kept_id: headers::kept_id(&parts.headers),
        origin: cors::allowed(&edge.config.cors_origins, &parts.headers, |origin| {
            edge.identity.allows_origin(origin, None)
        }),
        body: Some(body),
        expects_continue: parts.headers.contains_key(EXPECT),
        carrier: None,
        peer,
    }
}

/// Reads the body and puts together what the handler is given.
async fn call(
    edge: &Edge,
    scene: &mut Scene,
    parts: &mut Parts,
    coding: Option<Coding>,
    principal: Principal,
    deadline: Instant,
) -> Answer<Call> {
    let max = scene.record.operation.as_ref().map_or(0, |operation| operation.max_body);
    let asked = Instant::now();
    let mut body = match scene.body.as_mut() {
        Some(incoming) => body::read(incoming, max, &edge.config).await?,
        None => bytes::Bytes::new(),
    };
    scene.body = None;
    if let Some(coding) = coding {
        body = inflate::inflate(coding, body, max).await?;
    }
    let stopwatch = Stopwatch { started: scene.record.started, waited: asked.elapsed() };
    let context =
        CallContext { principal, request: scene.record.request, trace: scene.trace, deadline, unchanged_since: None };
    let client = scene.record.client;
    Ok(Call { context, headers: std::mem::take(&mut parts.headers), body, stopwatch, client })
}

async fn caller(edge: &Edge, parts: &Parts, operation: &Operation, client: IpAddr) -> Answer<Principal> {
    let url = edge.config.public_url.as_deref();
    let visit = Visit {
        ip: Some(client),
        origin: headers::origin(&parts.headers),
        method: Some(operation.method.as_str()),
        api: operation.api(),
        carries: operation.carries(),
    };
    let principal = match auth::authenticate(&edge.identity, edge.config.cookie, url, parts, client, &visit).await {
        // Nobody can be logged in before the first account is made.
        Err(refusal) if operation.access == Access::User => {
            edge.identity.require_setup().await?;
            return Err(auth::for_people(refusal));
        }
        principal => principal?,
    };
    auth::check_tenant(&principal, &parts.headers)?;
    Ok(principal)
}

/// The operation's deadline, or less if the client asks for less: `Prefer: wait=10` (RFC 7240).
fn deadline(operation: &Operation, headers: &HeaderMap) -> Duration {
    let wishes =
        headers.get_all("prefer").iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let seconds = wishes.filter_map(|wish| wish.trim().strip_prefix("wait=")).find_map(|wait| wait.parse().ok());
    seconds.map_or(operation.deadline, |seconds| operation.deadline.min(Duration::from_secs(seconds)))
}

fn shed() -> Refusal {
    metrics::counter!("manifold_rate_limited_total", "scope" => "in_flight").increment(1);
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "TEMPORARY_REDUCED_CAPACITY", "too many requests are being answered")
        .retry_after(Duration::from_secs(1))
}

fn delivery(headers: &HeaderMap) -> Delivery {
    match headers.get(CONTENT_TYPE) {
        Some(content_type) if content_type.as_bytes().starts_with(b"text/event-stream") => Delivery::Streamed,
        _ => Delivery::Whole,
    }
}

/// What the client still sends is read if it is little; otherwise the connection ends with this answer.
async fn end_body(body: Sent, scene: &Scene, response: &mut Response) {
    let hopeless = response.status() == StatusCode::REQUEST_TIMEOUT || scene.expects_continue;
    if body.is_end_stream() || (!hopeless && body::drain(body).await) {
        return;
    }
    scene.peer.line.leave_unread();
    response.headers_mut().insert(CONNECTION, CLOSE);
}
