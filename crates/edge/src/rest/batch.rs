//! `POST /v1/batch`: several requests in one. Each of them goes the way of all requests, in the name of who sends the batch.

use std::collections::{BTreeMap, BTreeSet};

use axum::response::Response;
use bytes::Bytes;
use futures::StreamExt;
use http::header::{
    ACCEPT, ACCEPT_LANGUAGE, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, FORWARDED, HOST, IF_MATCH,
    IF_NONE_MATCH, ORIGIN, SET_COOKIE, USER_AGENT,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use manifold_core::Error;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use crate::call::Call;
use crate::carry::Door;
use crate::dialect::Dialect;
use crate::headers::value;
use crate::problem::{self, About};
use crate::record::Tracked;
use crate::refusal::{Answer, Refusal};
use crate::rest::respond;
use crate::{idempotency, json};

const MAX_REQUESTS: usize = 50;
const MAX_PARALLEL: usize = 8;
/// Characters of an id.
const MAX_ID: usize = 100;
/// Bytes of all answers together.
const MAX_ANSWERS: usize = 16 << 20;

/// What each request has of the batch: who asks, and from where.
const INHERITED: [HeaderName; 12] = [
    AUTHORIZATION,
    COOKIE,
    FORWARDED,
    HOST,
    ORIGIN,
    USER_AGENT,
    HeaderName::from_static("manifold-csrf"),
    HeaderName::from_static("manifold-tenant"),
    HeaderName::from_static("sec-fetch-site"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-goog-api-key"),
];
/// What a request may have of its own, beside the options that begin with `manifold-`.
const OWN: [HeaderName; 8] = [
    ACCEPT,
    ACCEPT_LANGUAGE,
    CONTENT_TYPE,
    IF_MATCH,
    IF_NONE_MATCH,
    idempotency::NAME,
    HeaderName::from_static("prefer"),
    HeaderName::from_static("x-request-id"),
];

/// Several requests.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRequest {
    /// 1 to 50.
    #[schema(min_items = 1, max_items = 50)]
    requests: Vec<BatchItem>,
    /// How many are answered at once, 1 to 8. With 1 each begins when the one before has ended.
    #[serde(default = "max_parallel")]
    #[schema(example = 8, minimum = 1, maximum = 8, default = 8)]
    parallel: usize,
}

fn max_parallel() -> usize {
    MAX_PARALLEL
}

/// One of them.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchItem {
    /// What its answer is called, 1 to 100 characters, another one for each.
    #[schema(example = "first", min_length = 1, max_length = 100)]
    id: String,
    method: BatchMethod,
    /// Path and query, without scheme and host.
    #[schema(example = "/v1/keys?limit=10")]
    path: String,
    /// `accept`, `accept-language`, `content-type`, `idempotency-key`, `if-match`, `if-none-match`, `prefer`, `x-request-id` and
    /// the options that begin with `manifold-`. Who asks says the batch.
    #[serde(default)]
    #[schema(example = json!({"idempotency-key": "8e03978e-40d5-43e8-bc93-6894a57f9324"}))]
    headers: BTreeMap<String, String>,
    /// JSON. `stream` is not possible.
    #[schema(value_type = Value, required = false)]
    body: Option<Box<RawValue>>,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum BatchMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

/// Their answers, in the order of the requests.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchResponse {
    responses: Vec<BatchAnswer>,
}

/// One of them, as it would be without a batch.
#[derive(Serialize, ToSchema)]
pub(crate) struct BatchAnswer {
    #[schema(example = "first")]
    id: String,
    #[schema(example = 200)]
    status: u16,
    headers: BTreeMap<String, String>,
    /// JSON, or null for nothing.
    #[schema(value_type = Value)]
    body: Option<Box<RawValue>>,
}

/// Send several requests in one
///
/// Each goes its way as if it had come alone, in the name of who sends the batch: with its own permission, limits, credits,
/// idempotency key and deadline, and whatever becomes of it, the others go on. The batch itself counts as one request more and
/// costs no credit. A batch that is malformed is refused as a whole, before anything is done. There are no streams, no batches
/// and nothing of `/v1/auth` in it; all answers together have at most 16 MiB.
#[utoipa::path(
    post,
    path = "/v1/batch",
    operation_id = "sendBatch",
    tag = "Batches",
    request_body(content = BatchRequest, example = json!({"parallel": 8, "requests": [
        {"id": "keys", "method": "GET", "path": "/v1/keys?limit=10"},
        {"id": "chat", "method": "POST", "path": "/v1/chat/completions",
            "body": {"model": "manifold/echo", "messages": [{"role": "user", "content": "Hello"}]}},
        {"id": "gone", "method": "DELETE", "path": "/v1/keys/key_01h455vb4pex5vsknk084sn02q", "headers": {"if-match": "*"}}
    ]})),
    responses((status = 200, description = "The answers, in the order of the requests", body = BatchResponse, example = json!({
        "responses": [
            {"id": "keys", "status": 200, "headers": {"content-type": "application/json"},
                "body": {"data": [], "has_more": false, "next_cursor": null}},
            {"id": "chat", "status": 200, "headers": {"content-type": "application/json"},
                "body": {"object": "chat.completion", "model": "manifold/echo"}},
            {"id": "gone", "status": 404, "headers": {"content-type": "application/problem+json"},
                "body": {"status": 404, "code": "key_not_found", "title": "Key not found"}}
        ]
    }))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-caller" = json!(true)), ("x-manifold-idempotency" = json!("none")))
)]
pub(crate) async fn send_batch(door: Door, call: Call) -> Answer<Response> {
    if call.headers.contains_key(idempotency::NAME) {
        let message = "a batch is not repeated as a whole: give its requests keys of their own, each in its headers";
        return Err(Refusal::bad("IDEMPOTENCY_KEY_INVALID", message).at("Idempotency-Key"));
    }
    let batch: BatchRequest = json::read_strictly(&call.body)?;
    let (parallel, requests) = (batch.parallel, plan(batch, &call)?);
    let about =
        About { request: call.context.request, trace_id: call.context.trace.trace_id, dialect: Dialect::Native };
    let asking = requests.into_iter().map(|(id, parts, body)| {
        let door = door.clone();
        async move { (id, collect(door.ask(parts, body).await).await) }
    });
    let mut asking = futures::stream::iter(asking).buffered(parallel);
    let (mut responses, mut size) = (Vec::new(), 0);
    while let Some((id, answer)) = asking.next().await {
        let fitting = answer.filter(|(_, body)| size + body.len() <= MAX_ANSWERS);
        let (head, body) = match fitting {
            Some(fitting) => fitting,
            None => too_large(about).await?,
        };
        size += body.len();
        responses.push(BatchAnswer {
            id,
            status: head.status.as_u16(),
            headers: show(&head.headers),
            body: read(&body)?,
        });
    }
    Ok(respond(StatusCode::OK, &BatchResponse { responses })?)
}

/// Reads all requests; one that is malformed leaves all undone.
fn plan(batch: BatchRequest, call: &Call) -> Answer<Vec<(String, Parts, Bytes)>> {
    if !(1..=MAX_REQUESTS).contains(&batch.requests.len()) {
        return Err(wrong(format!("a batch has 1 to {MAX_REQUESTS} requests"), "requests"));
    }
    if !(1..=MAX_PARALLEL).contains(&batch.parallel) {
        return Err(wrong(format!("1 to {MAX_PARALLEL} requests are answered at once"), "parallel"));
    }
    let mut ids = BTreeSet::new();
    let mut planned = Vec::with_capacity(batch.requests.len());
    for (index, item) in batch.requests.into_iter().enumerate() {
        let at = |field: &str| format!("requests[{index}].{field}");
        if !(1..=MAX_ID).contains(&item.id.chars().count()) || !ids.insert(item.id.clone()) {
            return Err(wrong(format!("an id has 1 to {MAX_ID} characters and stands once in a batch"), at("id")));
        }
        if item.body.as_deref().is_some_and(streams) {
            return Err(wrong("there are no streams in a batch", at("body.stream")));
        }
        let mut request = Request::new(());
        *request.method_mut() = item.method.into();
        *request.uri_mut() =
            target(&item.path).ok_or_else(|| wrong("a path and query, such as /v1/keys?limit=10", at("path")))?;
        *request.headers_mut() = headers(&item, call).map_err(|name| {
            wrong("the batch has this header for all its requests, or there is no such", at(&format!("headers.{name}")))
        })?;
        let body = item.body.map_or_else(Bytes::new, |body| Bytes::from(Box::<str>::from(body).into_string()));
        planned.push((item.id, request.into_parts().0, body));
    }
    Ok(planned)
}

/// Whether a body asks for a stream, which has no end that a batch could wait for.
fn streams(body: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Wish {
        stream: Option<bool>,
    }
    serde_json::from_str::<Wish>(body.get()).is_ok_and(|wish| wish.stream == Some(true))
}

/// An address on this server; whether it is a good one, the normaliser says.
fn target(path: &str) -> Option<Uri> {
    let plain = path.starts_with('/') && !path.contains('#');
    plain.then(|| path.parse::<PathAndQuery>().ok().map(Uri::from)).flatten()
}

/// Headers of a request, or the name of the one that it may not have.
fn headers(item: &BatchItem, call: &Call) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for name in &INHERITED {
        for value in call.headers.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers.insert("traceparent", value(call.context.trace.to_string()));
    if let Some(body) = &item.body {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, body.get().len().into());
    }
    for (name, text) in &item.headers {
        let known = name
            .parse::<HeaderName>()
            .ok()
            .filter(|name| OWN.contains(name) || (name.as_str().starts_with("manifold-") && !INHERITED.contains(name)));
        let (Some(known), Ok(text)) = (known, HeaderValue::from_str(text)) else { return Err(name.clone()) };
        headers.insert(known, text);
    }
    Ok(headers)
}

/// A whole answer; None if it is larger than all may be together.
async fn collect(response: Response<Tracked>) -> Option<(http::response::Parts, Bytes)> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_ANSWERS).collect().await.ok()?.to_bytes();
    Some((head, body))
}

/// What is said instead of an answer for which there is no room.
async fn too_large(about: About) -> Answer<(http::response::Parts, Bytes)> {
    let message = "this was done, but its answer has no room beside the others: ask for it alone";
    let refusal = Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "ANSWER_TOO_LARGE", message);
    let (head, body) = problem::render(&refusal, about).into_parts();
    let body = body.collect().await.map_err(|error| Error::internal("read an answer of ours").because(error))?;
    Ok((head, body.to_bytes()))
}

/// Headers of an answer, without those of its transport. A session is never given by a batch.
fn show(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| **name != SET_COOKIE && **name != CONTENT_LENGTH) {
        let text = String::from_utf8_lossy(value.as_bytes());
        let line = shown.entry(name.to_string()).or_default();
        if !line.is_empty() {
            line.push_str(", ");
        }
        line.push_str(&text);
    }
    shown
}

fn read(body: &[u8]) -> Answer<Option<Box<RawValue>>> {
    if body.is_empty() {
        return Ok(None);
    }
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(json) => Ok(Some(json.to_owned())),
        Err(_) => {
            let text = to_raw_value(&String::from_utf8_lossy(body));
            Ok(Some(text.map_err(|error| Error::internal("print an answer").because(error))?))
        }
    }
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>, at: impl Into<String>) -> Refusal {
    Refusal::from(Error::invalid("BATCH_INVALID", message).at(at))
}

impl From<BatchMethod> for Method {
    fn from(method: BatchMethod) -> Self {
        match method {
            BatchMethod::Get => Self::GET,
            BatchMethod::Post => Self::POST,
            BatchMethod::Put => Self::PUT,
            BatchMethod::Patch => Self::PATCH,
            BatchMethod::Delete => Self::DELETE,
        }
    }
}
