//! Why a request is refused: an error of the house plus what only HTTP knows. Handlers return it; `problem` prints it.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode};
use manifold_core::{Code, Error};

/// Shorthand for results at the edge.
pub(crate) type Answer<T> = Result<T, Refusal>;

/// Why a request is refused.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) error: Error,
    pub(crate) status: StatusCode,
    /// Headers that belong to this refusal, such as `allow`.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// Name of the rate limit that was exceeded.
    pub(crate) violated: Option<Box<str>>,
    /// The service that failed has logged why.
    pub(crate) logged: bool,
}

impl Refusal {
    /// A refusal with a status of HTTP's own, such as 405.
    pub(crate) fn new(
        status: StatusCode,
        reason: &'static str,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) -> Self {
        let code = match status.as_u16() {
            401 => Code::Unauthenticated,
            403 => Code::Denied,
            404 => Code::NotFound,
            429 => Code::Exhausted,
            503 => Code::Unavailable,
            504 => Code::Timeout,
            500 => Code::Internal,
            _ => Code::Invalid,
        };
        Self { error: Error::new(code, reason, message), status, headers: Vec::new(), violated: None, logged: false }
    }

    /// The request cannot be parsed.
    pub(crate) fn bad(reason: &'static str, message: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, reason, message)
    }

    /// Adds a header to the answer.
    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Names what in the request was wrong.
    pub(crate) fn at(mut self, param: impl Into<String>) -> Self {
        self.error = self.error.at(param);
        self
    }

    /// Tells when to come back.
    pub(crate) fn retry_after(mut self, delay: Duration) -> Self {
        self.error = self.error.retry_after(delay);
        self
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = status(&error);
        Self { error, status, headers: Vec::new(), violated: None, logged: false }
    }
}

/// A failed call of a service.
impl From<tonic::Status> for Refusal {
    fn from(status: tonic::Status) -> Self {
        Self { logged: true, ..Self::from(manifold_runtime::from_status(status)) }
    }
}

/// A handler's refusal travels to `problem` inside an empty answer.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::default();
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// An answer of a handler, or why it refused.
pub(crate) fn taken(mut response: Response) -> Answer<Response> {
    match response.extensions_mut().remove::<Arc<Refusal>>().and_then(Arc::into_inner) {
        Some(refusal) => Err(refusal),
        None => Ok(response),
    }
}

/// The one place where an error becomes a status. A few reasons have a status that their code alone does not tell.
fn status(error: &Error) -> StatusCode {
    match error.reason() {
        "UPSTREAM_ERROR" | "BAD_TOOL_CALL" | "STREAM_INTERRUPTED" => return StatusCode::BAD_GATEWAY,
        "UPSTREAM_TIMEOUT" => return StatusCode::GATEWAY_TIMEOUT,
        "REQUEST_TOO_LARGE" => return StatusCode::PAYLOAD_TOO_LARGE,
        "INVALID_CURSOR" | "INVALID_GRANT" => return StatusCode::BAD_REQUEST,
        _ => {}
    }
    match error.code() {
        Code::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Denied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::Conflict => StatusCode::CONFLICT,
        Code::Precondition => StatusCode::PRECONDITION_FAILED,
        Code::Exhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_one_status_and_a_few_reasons_have_their_own() {
        for (code, reason, expected) in [
            (Code::Invalid, "NAME_INVALID", 422),
            (Code::Invalid, "INVALID_CURSOR", 400),
            (Code::Invalid, "INVALID_GRANT", 400),
            (Code::Invalid, "REQUEST_TOO_LARGE", 413),
            (Code::Unauthenticated, "INVALID_KEY", 401),
            (Code::Denied, "INSUFFICIENT_SCOPE", 403),
            (Code::NotFound, "KEY_NOT_FOUND", 404),
            (Code::Conflict, "EXISTS", 409),
            (Code::Precondition, "STALE", 412),
            (Code::Exhausted, "RATE_LIMIT_EXCEEDED", 429),
            (Code::Unavailable, "NO_PROVIDER_LEFT", 503),
            (Code::Unavailable, "UPSTREAM_ERROR", 502),
            (Code::Timeout, "UPSTREAM_TIMEOUT", 504),
            (Code::Internal, "INTERNAL", 500),
        ] {
            let refusal = Refusal::from(Error::new(code, reason, "x"));

            assert_eq!(refusal.status.as_u16(), expected, "{reason}");
        }
    }
}
