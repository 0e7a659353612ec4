//! Errors in OpenAI's shape: `{"error":{"message","type","param","code"}}`.

use http::{HeaderMap, HeaderName, HeaderValue};
use manifold_core::{Code, RequestId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::headers;
use crate::refusal::Refusal;

const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");
/// Facts of a failed call that are shown as `x-manifold-<fact>`.
const FACTS: [(&str, HeaderName); 3] = [
    ("attempts", HeaderName::from_static("x-manifold-attempts")),
    ("provider", HeaderName::from_static("x-manifold-provider")),
    ("model", HeaderName::from_static("x-manifold-model")),
];

/// An error as OpenAI's clients expect it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody<'a> {
    /// What went wrong.
    error: ErrorObject<'a>,
}

/// What went wrong.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorObject<'a> {
    /// For people.
    #[schema(example = "no such model: gpt-9")]
    message: String,
    /// `invalid_request_error`, `requests`, `tokens`, `insufficient_quota` or `server_error`.
    #[serde(rename = "type")]
    #[schema(example = "invalid_request_error")]
    type_: &'a str,
    /// JSON path of what was wrong, such as `messages[3].content[0].type`.
    #[schema(example = "model")]
    param: Option<&'a str>,
    /// Stable name of what went wrong.
    #[schema(example = "model_not_found")]
    code: Option<String>,
}

/// The body of an error.
pub(crate) fn body(refusal: &Refusal, request: RequestId) -> Vec<u8> {
    let error = ErrorObject {
        message: message(refusal, request),
        type_: type_(refusal),
        param: refusal.error.param().filter(|_| refusal.status.is_client_error()),
        code: code(refusal),
    };
    serde_json::to_vec(&ErrorBody { error }).expect("strings always serialise")
}

/// Headers of an error: how hard we tried, and whether trying again can help at all.
pub(crate) fn headers(refusal: &Refusal, headers: &mut HeaderMap) {
    for (fact, name) in FACTS {
        if let Some(value) = refusal.error.facts().get(fact) {
            headers.insert(name, headers::value(value));
        }
    }
    if refusal.error.reason() == "NO_PROVIDER_CONFIGURED" {
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
}

/// Our own faults are named by the request only.
fn message(refusal: &Refusal, request: RequestId) -> String {
    if refusal.error.code() == Code::Internal {
        return format!("internal error in request {request}");
    }
    refusal.error.message().to_owned()
}

fn type_(refusal: &Refusal) -> &'static str {
    match (refusal.status.as_u16(), refusal.error.reason()) {
        (429, _) if refusal.error.facts().get("limit").is_some_and(|limit| limit == "tokens") => "tokens",
        (429, _) => "requests",
        (500.., _) => "server_error",
        _ => "invalid_request_error",
    }
}

fn code(refusal: &Refusal) -> Option<String> {
    let code = match (refusal.status.as_u16(), refusal.error.reason()) {
        // The path says it all; OpenAI's own code is null here, too.
        (_, "BODY_INVALID" | "BODY_NOT_JSON" | "UPSTREAM_INVALID") => return None,
        (401, _) => "invalid_api_key",
        (403, _) => "permission_denied",
        (500, _) => "internal_error",
        (504, _) => "upstream_timeout",
        (_, reason) => return Some(reason.to_ascii_lowercase()),
    };
    Some(code.to_owned())
}

#[cfg(test)]
mod tests {
    use manifold_core::Error;
    use uuid::Uuid;

    use super::*;
    use crate::dialect::Dialect;
    use crate::problem::{self, About};

    const ABOUT: About = About { request: RequestId(Uuid::nil()), trace_id: 1, dialect: Dialect::OpenAi };

    fn row(code: Code, reason: &'static str) -> String {
        let refusal = Refusal::from(Error::new(code, reason, "why").at("model"));
        let response = problem::render(&refusal, ABOUT);
        let retry = response.headers().get("x-should-retry").map_or("", |_| " final");
        format!("{}{retry} {}", response.status().as_u16(), String::from_utf8(body(&refusal, ABOUT.request)).unwrap())
    }

    #[test]
    fn every_situation_has_its_row() {
        let rows = [
            row(Code::Unauthenticated, "INVALID_KEY"),
            row(Code::Denied, "INSUFFICIENT_SCOPE"),
            row(Code::NotFound, "MODEL_NOT_FOUND"),
            row(Code::Invalid, "BODY_INVALID"),
            row(Code::Invalid, "REQUEST_TOO_LARGE"),
            row(Code::Invalid, "CONTEXT_LENGTH_EXCEEDED"),
            row(Code::Invalid, "UPSTREAM_INVALID"),
            row(Code::Exhausted, "RATE_LIMIT_EXCEEDED"),
            row(Code::Unavailable, "NO_PROVIDER_LEFT"),
            row(Code::Unavailable, "NO_PROVIDER_CONFIGURED"),
            row(Code::Unavailable, "UPSTREAM_ERROR"),
            row(Code::Timeout, "UPSTREAM_TIMEOUT"),
            row(Code::Timeout, "DEADLINE_EXCEEDED"),
            row(Code::Internal, "INTERNAL"),
        ];

        insta::assert_snapshot!(rows.join("\n"), @r#"
        401 {"error":{"message":"why","type":"invalid_request_error","param":"model","code":"invalid_api_key"}}
        403 {"error":{"message":"why","type":"invalid_request_error","param":"model","code":"permission_denied"}}
        404 {"error":{"message":"why","type":"invalid_request_error","param":"model","code":"model_not_found"}}
        400 {"error":{"message":"why","type":"invalid_request_error","param":"model","code":null}}
        413 {"error":{"message":"why","type":"invalid_request_error","param":"model","code":"request_too_large"}}
        400 {"error":{"message":"why","type":"invalid_request_error","param":"model","code":"context_length_exceeded"}}
        400 {"error":{"message":"why","type":"invalid_request_error","param":"model","code":null}}
        429 {"error":{"message":"why","type":"requests","param":"model","code":"rate_limit_exceeded"}}
        503 {"error":{"message":"why","type":"server_error","param":null,"code":"no_provider_left"}}
        503 final {"error":{"message":"why","type":"server_error","param":null,"code":"no_provider_configured"}}
        502 {"error":{"message":"why","type":"server_error","param":null,"code":"upstream_error"}}
        504 {"error":{"message":"why","type":"server_error","param":null,"code":"upstream_timeout"}}
        504 {"error":{"message":"why","type":"server_error","param":null,"code":"upstream_timeout"}}
        500 {"error":{"message":"internal error in request req_00000000000000000000000000","type":"server_error","param":null,"code":"internal_error"}}
        "#);
    }
}
