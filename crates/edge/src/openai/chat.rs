//! `POST /v1/chat/completions`: a conversation in, the model's answer out, whole or as it is made.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use futures::TryStreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use manifold_contract::ai::v1::ChatStreamResponse;
use manifold_contract::ai::v1::chat_stream_response::Kind;
use manifold_core::Error;
use manifold_runtime::{request, to_status};
use tokio::time::{Instant, timeout};

use super::answer;
use super::convert::{self, Decoded};
use super::error::ErrorBody;
use super::events::{Events, Opened, Opening};
use super::schema::{ChatCompletion, ChatCompletionEvent, ChatCompletionRequest};
use super::served;
use super::stream::{Show, StreamEncoder};
use crate::call::Call;
use crate::edge::House;
use crate::refusal::Answer;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream; charset=utf-8");
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// How long a failure may still become a status; after that the stream has to begin.
const FIRST_MESSAGE: Duration = Duration::from_secs(8);
/// Room for all headers of an answer at once.
const N_HEADERS: usize = 24;

/// Answer a conversation
///
/// OpenAI's chat completions over every configured provider. `model` is `provider/model`, an alias, a canonical name or
/// `auto`; `models` names fallbacks. Fields that are not known here go to providers that speak OpenAI's format. With
/// `stream` the answer comes as server-sent events. Also served as `/openai/v1/chat/completions`.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    operation_id = "createChatCompletion",
    tag = "Chat",
    request_body(content = ChatCompletionRequest, examples(
        ("question" = (summary = "One question", value = json!({
            "model": "manifold/echo", "messages": [{"role": "user", "content": "Hello"}]
        }))),
        ("stream" = (summary = "As a stream", value = json!({
            "model": "auto", "stream": true, "stream_options": {"include_usage": true},
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
        })))
    )),
    responses(
        (status = 200, description = "The answer, or its events", content(
            (ChatCompletion = "application/json", example = json!({
                "id": "chatcmpl-9", "object": "chat.completion", "created": 1763629200, "model": "manifold/echo",
                "choices": [{"index": 0, "logprobs": null, "finish_reason": "stop",
                    "message": {"role": "assistant", "content": "Hello", "refusal": null}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2,
                    "prompt_tokens_details": {"cached_tokens": 0}, "completion_tokens_details": {"reasoning_tokens": 0}}
            })),
            (ChatCompletionEvent = "text/event-stream",
                example = json!({"data": "{\"id\":\"chatcmpl-9\",\"object\":\"chat.completion.chunk\",…}"}))
        )),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "No provider could answer", body = ErrorBody)
    ),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("ai.inference.run")))
)]
pub(crate) async fn create_chat_completion(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let decoded = convert::decode(&call.body, &call.headers)?;
    // Boxed here, because the layers above move the future of a handler several times, and these two are large.
    match decoded.stream {
        true => Box::pin(streamed(&house, call, decoded)).await,
        false => Box::pin(whole(&house, call, decoded)).await,
    }
}

async fn whole(house: &House, call: Call, decoded: Decoded) -> Answer<Response> {
    let requested = decoded.request.model.clone();
    let before = call.stopwatch.busy();
    let outcome = house.inference.chat(request(decoded.request, call.context)).await;
    let answered = Instant::now();
    let response = outcome?.into_inner();
    let body = answer::encode(&response, decoded.thinking)?;
    let mut headers = HeaderMap::with_capacity(N_HEADERS);
    headers.insert(CONTENT_TYPE, JSON);
    if let Some(served) = &response.served {
        let busy = before + Duration::from_micros(served.overhead_us) + answered.elapsed();
        served::describe(&mut headers, served, &requested, &decoded.declared);
        served::account(&mut headers, served, busy);
    }
    Ok(respond(headers, Body::from(body)))
}

async fn streamed(house: &House, call: Call, decoded: Decoded) -> Answer<Response> {
    let deadline = call.context.deadline;
    let show = Show {
        usage: decoded.include_usage,
        thinking: decoded.thinking,
        declared: decoded.declared.clone(),
        request: call.context.request,
        busy: call.stopwatch.busy(),
    };
    let requested = decoded.request.model.clone();
    let encoder = StreamEncoder::new(show);
    let mut opening = open(house, call, decoded.request);
    let mut headers = HeaderMap::with_capacity(N_HEADERS);
    headers.insert(CONTENT_TYPE, EVENT_STREAM);
    headers.insert(CACHE_CONTROL, NO_CACHE);
    headers.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    let events = match timeout(FIRST_MESSAGE, &mut opening).await {
        Ok(Ok(opened)) => {
            if let Some(served) = started(&opened.first) {
                served::describe(&mut headers, served, &requested, &decoded.declared);
            }
            Events::opened(opened, encoder, deadline)
        }
        Ok(Err(status)) => return Err(status.into()),
        Err(_slow) => Events::opening(opening, encoder, deadline),
    };
    Ok(respond(headers, Body::new(events)))
}

/// The call up to its first message. A failure before that is a status.
fn open(house: &House, call: Call, message: manifold_contract::ai::v1::ChatRequest) -> Opening {
    let inference = house.inference.clone();
    Box::pin(async move {
        let mut rest = inference.chat_stream(request(message, call.context)).await?.into_inner();
        match rest.try_next().await? {
            Some(first) => Ok(Opened { first, rest }),
            None => Err(to_status(Error::internal("a stream ended before it began"))),
        }
    })
}

fn started(message: &ChatStreamResponse) -> Option<&manifold_contract::ai::v1::Served> {
    match &message.kind {
        Some(Kind::Started(started)) => started.served.as_ref(),
        _ => None,
    }
}

fn respond(headers: HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.headers_mut() = headers;
    response
}
