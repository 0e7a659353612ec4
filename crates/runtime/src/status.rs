//! `Error` ⇄ gRPC status, once. Reason, parameter, delay and facts travel as `ErrorDetail` in the status details.

use std::collections::HashMap;
use std::time::Duration;

use manifold_contract::common::v1::ErrorDetail;
use manifold_core::{Code, Error};
use prost::Message;
use tonic::{Code as Grpc, Status};
use tracing::{debug, error, warn};

/// The status of an error. This is the boundary: the chain of sources is logged here and goes no further.
#[expect(clippy::needless_pass_by_value, reason = "the error ends here; by value it fits `map_err(to_status)`")]
pub fn to_status(error: Error) -> Status {
    log(&error);
    let detail = ErrorDetail {
        reason: error.reason().to_owned(),
        param: error.param().unwrap_or_default().to_owned(),
        retry_after_ms: error.delay().map_or(0, |delay| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
        facts: error.facts().iter().map(|(name, value)| (name.clone(), value.clone())).collect::<HashMap<_, _>>(),
    };
    Status::with_details(grpc(error.code()), error.message(), detail.encode_to_vec().into())
}

/// The error of a status, whoever made it.
#[expect(clippy::needless_pass_by_value, reason = "the status ends here; by value it fits `map_err(from_status)`")]
pub fn from_status(status: Status) -> Error {
    let (code, reason) = meaning(status.code());
    let detail = ErrorDetail::decode(status.details()).unwrap_or_default();
    let message = status.message().to_owned();
    let mut error = match detail.reason.is_empty() {
        true => Error::new(code, reason, message),
        false => Error::new(code, detail.reason, message),
    };
    if !detail.param.is_empty() {
        error = error.at(detail.param);
    }
    if detail.retry_after_ms > 0 {
        error = error.retry_after(Duration::from_millis(detail.retry_after_ms));
    }
    for (name, value) in detail.facts {
        error = error.fact(name, value);
    }
    error
}

fn log(error: &Error) {
    match error.code() {
        Code::Internal => error!(reason = error.reason(), error = error.chain(), "call failed"),
        Code::Unavailable if std::error::Error::source(error).is_some() => {
            warn!(reason = error.reason(), error = error.chain(), "call failed");
        }
        Code::Invalid
        | Code::Unauthenticated
        | Code::Denied
        | Code::NotFound
        | Code::Conflict
        | Code::Precondition
        | Code::Exhausted
        | Code::Unavailable
        | Code::Timeout => debug!(reason = error.reason(), error = %error, "call refused"),
    }
}

fn grpc(code: Code) -> Grpc {
    match code {
        Code::Invalid => Grpc::InvalidArgument,
        Code::Unauthenticated => Grpc::Unauthenticated,
        Code::Denied => Grpc::PermissionDenied,
        Code::NotFound => Grpc::NotFound,
        Code::Conflict => Grpc::AlreadyExists,
        Code::Precondition => Grpc::FailedPrecondition,
        Code::Exhausted => Grpc::ResourceExhausted,
        Code::Unavailable => Grpc::Unavailable,
        Code::Timeout => Grpc::DeadlineExceeded,
        Code::Internal => Grpc::Internal,
    }
}

/// Our code for a gRPC code, and the reason to give when the status names none.
fn meaning(code: Grpc) -> (Code, &'static str) {
    match code {
        Grpc::InvalidArgument | Grpc::OutOfRange => (Code::Invalid, "INVALID_ARGUMENT"),
        Grpc::Unauthenticated => (Code::Unauthenticated, "UNAUTHENTICATED"),
        Grpc::PermissionDenied => (Code::Denied, "PERMISSION_DENIED"),
        Grpc::NotFound => (Code::NotFound, "NOT_FOUND"),
        Grpc::AlreadyExists | Grpc::Aborted => (Code::Conflict, "CONFLICT"),
        Grpc::FailedPrecondition => (Code::Precondition, "FAILED_PRECONDITION"),
        Grpc::ResourceExhausted => (Code::Exhausted, "RESOURCE_EXHAUSTED"),
        Grpc::Unavailable => (Code::Unavailable, "UNAVAILABLE"),
        Grpc::DeadlineExceeded => (Code::Timeout, "DEADLINE_EXCEEDED"),
        Grpc::Unimplemented => (Code::Internal, "UNIMPLEMENTED"),
        Grpc::Cancelled => (Code::Internal, "CANCELLED"),
        Grpc::Ok | Grpc::Unknown | Grpc::Internal | Grpc::DataLoss => (Code::Internal, "INTERNAL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_way_through_a_status() {
        let error = Error::new(Code::Exhausted, "RATE_LIMIT_EXCEEDED", "wait")
            .at("model")
            .retry_after(Duration::from_millis(1_500))
            .fact("provider", "groq");

        let back = from_status(to_status(error));

        assert_eq!((back.code(), back.reason(), back.message()), (Code::Exhausted, "RATE_LIMIT_EXCEEDED", "wait"));
        assert_eq!((back.param(), back.delay()), (Some("model"), Some(Duration::from_millis(1_500))));
        assert_eq!(back.facts()["provider"], "groq");
    }

    #[test]
    fn every_code_comes_back_as_itself() {
        for code in [
            Code::Invalid,
            Code::Unauthenticated,
            Code::Denied,
            Code::NotFound,
            Code::Conflict,
            Code::Precondition,
            Code::Exhausted,
            Code::Unavailable,
            Code::Timeout,
            Code::Internal,
        ] {
            assert_eq!(from_status(to_status(Error::new(code, "X", "x"))).code(), code);
        }
    }

    #[test]
    fn foreign_statuses_get_a_reason() {
        for (status, code, reason) in [
            (Status::aborted("x"), Code::Conflict, "CONFLICT"),
            (Status::out_of_range("x"), Code::Invalid, "INVALID_ARGUMENT"),
            (Status::unimplemented("x"), Code::Internal, "UNIMPLEMENTED"),
            (Status::cancelled("x"), Code::Internal, "CANCELLED"),
            (Status::data_loss("x"), Code::Internal, "INTERNAL"),
        ] {
            let error = from_status(status);

            assert_eq!((error.code(), error.reason()), (code, reason));
        }
    }
}
