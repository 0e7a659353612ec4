//! What a provider's failure means: one class per remedy, told by the body first and the status second.
//! Reading bodies is in `body`, the tables are in `rules`; which candidate comes next is decided elsewhere.

pub(crate) mod body;
mod quirk;
mod redact;
mod rules;

use std::fmt;
use std::time::Duration;

use http::StatusCode;

use crate::provider::Target;
use crate::retry_after;

/// What to do about a failure, and what the caller sees if it is the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The request is wrong: the caller's fault.
    Invalid,
    /// This provider cannot do what is asked for; another one may.
    Unsupported,
    /// The provider refuses a field that may be left out: `Failure::quirk` names it.
    Quirk,
    /// The prompt is longer than the model's window.
    Context,
    /// The request is larger than this provider takes.
    TooLarge,
    /// What an address in the request points at cannot be had. A provider that looks for itself may find it.
    Media,
    /// The provider's content policy refuses the prompt.
    Blocked,
    /// The model wrote a tool call that cannot be read.
    ToolFormat,
    /// A signature of earlier thinking is missing or not the provider's own.
    Signature,
    /// The credential is wrong.
    Auth,
    /// The credential may not use this model, or not from this place.
    Forbidden,
    /// The provider does not have the model.
    Gone,
    /// The account has no money or no plan.
    Billing,
    /// A limit whose window is shorter than an hour is used up.
    Rate,
    /// A limit whose window is an hour or longer is used up.
    Quota,
    /// Too many requests at the same time.
    Concurrency,
    /// The provider has more requests than it can serve.
    Overloaded,
    /// The provider failed.
    Server,
    /// The provider could not be reached; nothing was sent.
    Connect,
    /// The provider was too slow.
    Timeout,
    /// The answer cannot be read.
    Malformed,
    /// The answer broke off.
    Interrupted,
    /// The caller went away.
    Cancelled,
}

impl Class {
    /// The word in rows, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Quirk => "quirk",
            Self::Context => "context",
            Self::TooLarge => "too_large",
            Self::Media => "media",
            Self::Blocked => "blocked",
            Self::ToolFormat => "tool_format",
            Self::Signature => "signature",
            Self::Auth => "auth",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::Billing => "billing",
            Self::Rate => "rate",
            Self::Quota => "quota",
            Self::Concurrency => "concurrency",
            Self::Overloaded => "overloaded",
            Self::Server => "server",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Malformed => "malformed",
            Self::Interrupted => "interrupted",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether the same candidate may be asked once more. `Quirk` only without the named field; `Rate` only if the told
    /// delay is short.
    pub const fn repeats_same(self) -> bool {
        matches!(self, Self::Quirk | Self::ToolFormat | Self::Rate | Self::Server | Self::Connect)
    }

    /// Whether another candidate may answer. For `Context` it should have a larger window.
    pub const fn tries_next(self) -> bool {
        !matches!(self, Self::Invalid | Self::Blocked | Self::Cancelled)
    }

    /// Whether it says that the provider is unwell. What the caller caused never counts.
    pub const fn counts_for_breaker(self) -> bool {
        matches!(
            self,
            Self::Overloaded | Self::Server | Self::Connect | Self::Timeout | Self::Malformed | Self::Interrupted
        )
    }
}

/// One failed attempt. Its texts hold no credential and no address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to do about it.
    pub class: Class,
    /// HTTP status of the answer, or the one that its body tells.
    pub status: Option<u16>,
    /// What the provider says.
    pub message: String,
    /// The field of the request that it is about.
    pub param: Option<String>,
    /// The provider's own code.
    pub code: Option<String>,
    /// When it is worth asking again.
    pub retry_after: Option<Duration>,
    /// For `Class::Quirk`: the field to leave out, named as in OpenAI's dialect.
    pub quirk: Option<String>,
}

impl Failure {
    /// A failure found by ourselves.
    pub fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, status: None, message: message.into(), param: None, code: None, retry_after: None, quirk: None }
    }

    /// With the field of the request that it is about.
    #[must_use]
    pub fn at(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Without the credential and the address that were used, wherever the provider repeats them.
    #[must_use]
    pub fn redacted(mut self, target: &Target<'_>) -> Self {
        let secret = target.credential.map(|credential| credential.expose().as_str());
        for text in [Some(&mut self.message), self.param.as_mut(), self.code.as_mut()].into_iter().flatten() {
            *text = redact::exact(text, secret, target.base_url);
        }
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.class.as_str(), self.message)
    }
}

impl std::error::Error for Failure {}

/// What a vendor's rate-limit headers mean where vendors differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limits {
    /// `-requests` and `-tokens` count a minute.
    Minute,
    /// `-requests` counts a day: Groq.
    DailyRequests,
    /// A refusal means that too much runs at once: Ollama's cloud.
    Concurrent,
}

/// Classifies an answer that is not 2xx.
pub fn response(head: &http::response::Parts, bytes: &[u8], now_s: i64, limits: Limits) -> Failure {
    let mut body = body::parse(bytes);
    body.status = Some(head.status.as_u16());
    if head.status.is_redirection() {
        return finish(Class::Malformed, &body, None);
    }
    let exhausted = retry_after::exhausted(&head.headers, limits);
    let class = rules::class(&body, exhausted, limits);
    let wait = retry_after::told(&head.headers, &body, Some(now_s), class);
    finish(class, &body, wait)
}

/// Classifies an error object that came inside a 2xx answer.
pub fn inside(bytes: &[u8]) -> Failure {
    let body = body::parse(bytes);
    let class = match rules::class(&body, retry_after::Exhausted::Unknown, Limits::Minute) {
        Class::Invalid if body.status.is_none() && !body.says_invalid() => Class::Server,
        class => class,
    };
    let wait = retry_after::told(&http::HeaderMap::new(), &body, None, class);
    finish(class, &body, wait)
}

/// What a 2xx body means that is no answer: an error object in any shape, a page, or nothing that can be read.
pub fn unreadable(bytes: &[u8]) -> Failure {
    let message = match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => "the provider sent an empty answer",
        Some(b'<') => "the provider sent a page instead of JSON",
        Some(b'{' | b'[' | b'"') if body::parse(bytes).is_error() => return inside(bytes),
        Some(_) => "the provider sent an answer that cannot be read",
    };
    Failure::new(Class::Malformed, message)
}

/// What a body means that was to be a stream and holds nothing of one.
pub fn no_stream(bytes: &[u8]) -> Failure {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'<' | b'{' | b'[' | b'"') => unreadable(bytes),
        _ => interrupted(),
    }
}

/// What the end of a stream means whose end mark is missing.
pub fn interrupted() -> Failure {
    Failure::new(Class::Interrupted, "the provider's stream ended before the answer was complete")
}

fn finish(mut class: Class, body: &body::Body, retry_after: Option<Duration>) -> Failure {
    // A limit that is told to last an hour is no short window, whatever its name.
    if class == Class::Rate && retry_after.is_some_and(|wait| wait >= Duration::from_secs(3600)) {
        class = Class::Quota;
    }
    let quirk = if class == Class::Quirk { quirk::field(body) } else { None };
    let message = if body.message.is_empty() { default_message(body) } else { redact::text(&body.message) };
    Failure {
        class,
        status: body.status,
        message,
        param: non_empty(&body.param),
        code: non_empty(&body.code),
        retry_after,
        quirk,
    }
}

fn default_message(body: &body::Body) -> String {
    let reason = body.status.and_then(|status| StatusCode::from_u16(status).ok());
    match (reason, body.is_page) {
        (Some(status), true) => format!("the provider answered {} with a page instead of JSON", status.as_u16()),
        (Some(status), false) => format!("the provider answered {} without an explanation", status.as_u16()),
        (None, _) => "the provider reported a failure without an explanation".to_owned(),
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| redact::text(text))
}
