//! The one error of the house. Mapped once to gRPC (runtime) and once to HTTP (edge).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// Shorthand for results of this house.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is; decides the gRPC code and the HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The request is wrong and will stay wrong.
    Invalid,
    /// No credential, or one that does not hold.
    Unauthenticated,
    /// Known, but not allowed.
    Denied,
    /// No such thing, or not visible to the caller.
    NotFound,
    /// It exists already or is being changed by somebody else.
    Conflict,
    /// The state does not allow it now.
    Precondition,
    /// A limit or quota is used up; waiting helps.
    Exhausted,
    /// Something that we need is away; trying again helps.
    Unavailable,
    /// The deadline passed.
    Timeout,
    /// Our fault.
    Internal,
}

/// A failure with a stable reason, a message for the caller and, inside, the source for the log.
/// `Display` prints the message only; the boundary logs the whole chain once.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    code: Code,
    reason: Cow<'static, str>,
    message: Cow<'static, str>,
    param: Option<String>,
    retry_after: Option<Duration>,
    facts: BTreeMap<String, String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure. `reason` is stable upper snake case; `message` is lower case, without final dot and without secrets.
    pub fn new(code: Code, reason: impl Into<Cow<'static, str>>, message: impl Into<Cow<'static, str>>) -> Self {
        let (reason, message) = (reason.into(), message.into());
        Self {
            inner: Box::new(Inner {
                code,
                reason,
                message,
                param: None,
                retry_after: None,
                facts: BTreeMap::new(),
                source: None,
            }),
        }
    }

    /// The request is wrong.
    pub fn invalid(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Invalid, reason, message)
    }

    /// No such thing.
    pub fn not_found(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::NotFound, reason, message)
    }

    /// Our fault; the message is for the log, callers see only a request id.
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Internal, "INTERNAL", message)
    }

    /// Names what in the request was wrong, as a JSON path or parameter name.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.inner.param = Some(param.into());
        self
    }

    /// Tells how long to wait before trying again.
    #[must_use]
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.inner.retry_after = Some(delay);
        self
    }

    /// Adds a fact for response headers and logs.
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.inner.facts.insert(name.into(), value.into());
        self
    }

    /// Keeps what caused it, for the log.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// The kind of failure.
    pub fn code(&self) -> Code {
        self.inner.code
    }

    /// The stable reason.
    pub fn reason(&self) -> &str {
        &self.inner.reason
    }

    /// The message for the caller.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What in the request was wrong.
    pub fn param(&self) -> Option<&str> {
        self.inner.param.as_deref()
    }

    /// How long to wait before trying again.
    pub fn delay(&self) -> Option<Duration> {
        self.inner.retry_after
    }

    /// Facts for response headers and logs.
    pub fn facts(&self) -> &BTreeMap<String, String> {
        &self.inner.facts
    }

    /// The message and every source below it, for the log.
    pub fn chain(&self) -> String {
        let mut text = format!("{}: {}", self.inner.reason, self.inner.message);
        let mut next = self.source();
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {}", self.inner.code, self.chain())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as _)
    }
}

/// Gives context to somebody else's error.
pub trait ResultExt<T> {
    /// Wraps the error with a code and what we tried.
    fn or_err(self, code: Code, message: &'static str) -> Result<T>;
}

impl<T, E: StdError + Send + Sync + 'static> ResultExt<T> for std::result::Result<T, E> {
    fn or_err(self, code: Code, message: &'static str) -> Result<T> {
        self.map_err(|source| {
            let reason = if code == Code::Unavailable { "UNAVAILABLE" } else { "INTERNAL" };
            Error::new(code, reason, message).because(source)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_message_and_keeps_the_source_for_the_log() {
        let failed: std::result::Result<(), _> = "x".parse::<u8>().map(|_| ());

        let error = failed.or_err(Code::Internal, "read the port").unwrap_err();

        assert_eq!(error.to_string(), "read the port");
        assert_eq!(error.chain(), "INTERNAL: read the port: invalid digit found in string");
    }

    #[test]
    fn carries_what_was_wrong_and_when_to_return() {
        let error = Error::invalid("BODY_INVALID", "no messages")
            .at("messages")
            .retry_after(Duration::from_secs(2))
            .fact("attempts", "1");

        assert_eq!((error.param(), error.delay()), (Some("messages"), Some(Duration::from_secs(2))));
        assert_eq!(error.facts()["attempts"], "1");
    }
}
