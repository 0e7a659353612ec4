//! The only builder of error answers: RFC 9457 on native resources, the dialect's own shape on a dialect.

use std::fmt::Write;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use manifold_core::{Code, RequestId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::dialect::Dialect;
use crate::openai;
use crate::refusal::Refusal;

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// RFC 9457.
#[derive(Serialize, ToSchema)]
pub(crate) struct Problem {
    /// `urn:manifold:error:<code>`, or the registered address of the type.
    #[serde(rename = "type")]
    #[schema(example = "urn:manifold:error:key_not_found")]
    type_: String,
    /// The same for every problem of this type.
    #[schema(example = "Key not found")]
    title: String,
    /// Status of the answer.
    #[schema(example = 404)]
    status: u16,
    /// What was wrong this time; absent when the fault is ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// `urn:manifold:request:<request_id>`.
    #[schema(example = "urn:manifold:request:req_01h455vb4pex5vsknk084sn02q")]
    instance: String,
    /// Page that explains the code.
    #[schema(example = "/docs/errors/key_not_found")]
    help: String,
    /// Stable name of what went wrong.
    #[schema(example = "key_not_found")]
    code: String,
    /// The request, as in `x-manifold-request-id`.
    #[schema(example = "req_01h455vb4pex5vsknk084sn02q")]
    request_id: String,
    /// The trace of the request, 32 hexadecimal digits.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: String,
    /// Which parts of the request were wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Fault>,
    /// Names of the rate limits that were exceeded.
    #[serde(rename = "violated-policies", skip_serializing_if = "Vec::is_empty")]
    violated_policies: Vec<Box<str>>,
}

/// One wrong part of a request.
#[derive(Serialize, ToSchema)]
pub(crate) struct Fault {
    /// RFC 6901 pointer into the body, or the name of a parameter behind `#`.
    #[schema(example = "/name")]
    pointer: String,
    /// Stable name of what is wrong with it.
    code: String,
    /// The same for people.
    detail: String,
}

/// Which request it is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct About {
    pub(crate) request: RequestId,
    pub(crate) trace_id: u128,
    pub(crate) dialect: Dialect,
}

/// The answer to a refused request. Logs what the caller may not see.
pub(crate) fn render(refusal: &Refusal, about: About) -> Response {
    log(refusal, about.request);
    let (body, content_type) = match about.dialect {
        Dialect::Native => (native(refusal, about), PROBLEM_JSON),
        Dialect::OpenAi => (openai::error::body(refusal, about.request), JSON),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status(refusal, about.dialect);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type);
    headers.extend(refusal.headers.iter().cloned());
    if let Some(delay) = refusal.error.delay() {
        retry_after(headers, delay);
    }
    if about.dialect == Dialect::OpenAi {
        openai::error::headers(refusal, headers);
    }
    response
}

/// Dialects know no 422: a body that is not acceptable is a bad request.
fn status(refusal: &Refusal, dialect: Dialect) -> StatusCode {
    match (dialect, refusal.status) {
        (Dialect::OpenAi, StatusCode::UNPROCESSABLE_ENTITY) => StatusCode::BAD_REQUEST,
        (_, status) => status,
    }
}

/// Whole seconds, rounded up, as RFC 9110 has it, and milliseconds for clients that read them.
fn retry_after(headers: &mut HeaderMap, delay: Duration) {
    headers.insert(RETRY_AFTER, HeaderValue::from(seconds_up(delay)));
    headers.insert(RETRY_AFTER_MS, HeaderValue::from(u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)));
}

/// Seconds, never fewer than the delay.
pub(crate) fn seconds_up(delay: Duration) -> u64 {
    delay.as_secs() + u64::from(delay.subsec_nanos() > 0)
}

/// The boundary logs the whole chain once.
fn log(refusal: &Refusal, request: RequestId) {
    let (status, error) = (refusal.status.as_u16(), &refusal.error);
    if error.code() == Code::Internal && !refusal.logged {
        tracing::error!(%request, status, error = error.chain(), "request failed");
    } else {
        tracing::debug!(%request, status, error = error.chain(), "request refused");
    }
}

fn native(refusal: &Refusal, about: About) -> Vec<u8> {
    let error = &refusal.error;
    let code = error.reason().to_ascii_lowercase();
    let request_id = about.request.to_string();
    let shown = refusal.status.is_client_error();
    let errors = match error.param() {
        Some(param) if shown => {
            vec![Fault { pointer: pointer(param), code: code.clone(), detail: error.message().to_owned() }]
        }
        _ => Vec::new(),
    };
    let problem = Problem {
        type_: type_of(refusal, &code),
        title: title(&code),
        status: refusal.status.as_u16(),
        detail: shown.then(|| error.message().to_owned()),
        instance: format!("urn:manifold:request:{request_id}"),
        help: format!("/docs/errors/{code}"),
        code,
        request_id,
        trace_id: format!("{:032x}", about.trace_id),
        errors,
        violated_policies: refusal.violated.clone().into_iter().collect(),
    };
    serde_json::to_vec(&problem).expect("strings and numbers always serialise")
}

fn type_of(refusal: &Refusal, code: &str) -> String {
    let registered = match refusal.status {
        StatusCode::TOO_MANY_REQUESTS if refusal.violated.is_some() => "quota-exceeded",
        _ if code == "abnormal_usage_detected" => "abnormal-usage-detected",
        _ if code == "temporary_reduced_capacity" => "temporary-reduced-capacity",
        _ => return format!("urn:manifold:error:{code}"),
    };
    format!("https://iana.org/assignments/http-problem-types#{registered}")
}

/// `key_not_found` → `Key not found`.
fn title(code: &str) -> String {
    let mut title = code.replace('_', " ");
    if let Some(first) = title.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    title
}

/// `a[3].b` → `/a/3/b`.
fn pointer(path: &str) -> String {
    let mut pointer = String::with_capacity(path.len() + 1);
    for step in path.split(['.', '[', ']']).filter(|step| !step.is_empty()) {
        let _ = write!(pointer, "/{}", step.replace('~', "~0").replace('/', "~1"));
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifold_core::Error;

    const ABOUT: About = About { request: RequestId(uuid::Uuid::nil()), trace_id: 0xabc, dialect: Dialect::Native };

    fn printed(refusal: &Refusal) -> serde_json::Value {
        serde_json::from_slice(&native(refusal, ABOUT)).unwrap()
    }

    #[test]
    fn names_what_was_wrong() {
        let refusal = Refusal::from(Error::invalid("UNKNOWN_FIELD", "unknown field `nam`").at("keys[0].nam"));

        insta::assert_json_snapshot!(printed(&refusal), @r#"
        {
          "code": "unknown_field",
          "detail": "unknown field `nam`",
          "errors": [
            {
              "code": "unknown_field",
              "detail": "unknown field `nam`",
              "pointer": "/keys/0/nam"
            }
          ],
          "help": "/docs/errors/unknown_field",
          "instance": "urn:manifold:request:req_00000000000000000000000000",
          "request_id": "req_00000000000000000000000000",
          "status": 422,
          "title": "Unknown field",
          "trace_id": "00000000000000000000000000000abc",
          "type": "urn:manifold:error:unknown_field"
        }
        "#);
    }

    #[test]
    fn never_shows_what_went_wrong_inside() {
        let refusal = Refusal::from(Error::internal("connect to postgres://user:canary@db").at("canary"));

        let text = printed(&refusal).to_string();

        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("\"status\":500"));
    }

    #[test]
    fn tells_when_to_come_back_in_seconds_and_milliseconds() {
        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "TEMPORARY_REDUCED_CAPACITY", "busy")
            .retry_after(Duration::from_millis(1_200));

        let response = render(&refusal, ABOUT);

        assert_eq!(response.headers()["retry-after"], "2");
        assert_eq!(response.headers()["retry-after-ms"], "1200");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
}
