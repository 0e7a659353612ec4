//! What to try next after a failure. Pure: the caller sends, waits and measures.

use std::time::Duration;

use manifold_core::{Code, Error};

use crate::classify::{Class, Failure};
use crate::view::Candidate;

/// The longest told delay that is waited out on the same candidate.
pub const WORTH_WAITING: Duration = Duration::from_secs(2);
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
const LONGEST_BACKOFF: Duration = Duration::from_secs(4);

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The same candidate again, after a pause.
    Again(Duration),
    /// The next candidate.
    Next,
    /// Nothing more to try.
    GiveUp,
}

/// The walk over the candidates of one request.
pub struct Turns {
    candidates: Vec<Candidate>,
    position: usize,
    attempts: u32,
    max_attempts: u32,
    repeated: bool,
    overloaded: Option<usize>,
    last_chance: bool,
    worst: Option<(Failure, String)>,
}

impl Turns {
    /// Over `candidates`, with at most `max_attempts` requests in all.
    pub fn new(candidates: Vec<Candidate>, max_attempts: u32) -> Self {
        Self {
            candidates,
            position: 0,
            attempts: 0,
            max_attempts,
            repeated: false,
            overloaded: None,
            last_chance: false,
            worst: None,
        }
    }

    /// The candidate whose turn it is.
    pub fn current(&self) -> Option<Candidate> {
        self.candidates.get(self.position).cloned()
    }

    /// Whether the request names one candidate only.
    pub fn only_one(&self) -> bool {
        self.candidates.len() == 1
    }

    /// Goes on to the next candidate without having sent anything.
    pub fn skip(&mut self) {
        self.position += 1;
        self.repeated = false;
    }

    /// Takes the failure of the current candidate and decides. `chance` is a random number in 0..1.
    pub fn failed(&mut self, failure: Failure, chance: f64) -> Step {
        let class = failure.class;
        let told = failure.retry_after;
        self.attempts += 1;
        self.remember(failure);
        if self.attempts >= self.max_attempts || self.last_chance || !(class.repeats_same() || class.tries_next()) {
            return Step::GiveUp;
        }
        if class.repeats_same() && !self.repeated && worth_repeating(class, told) {
            self.repeated = true;
            return Step::Again(told.unwrap_or_else(|| backoff(class, self.attempts, chance)));
        }
        if class == Class::Overloaded {
            self.overloaded.get_or_insert(self.position);
        }
        if !class.tries_next() {
            return Step::GiveUp;
        }
        self.skip();
        if self.position < self.candidates.len() {
            return Step::Next;
        }
        self.back_to_overloaded(chance)
    }

    /// After all others, an overloaded candidate gets a second chance.
    fn back_to_overloaded(&mut self, chance: f64) -> Step {
        match self.overloaded.take() {
            Some(position) => {
                (self.position, self.last_chance) = (position, true);
                Step::Again(backoff(Class::Overloaded, self.attempts, chance))
            }
            None => Step::GiveUp,
        }
    }

    fn remember(&mut self, failure: Failure) {
        let provider = self.current().map(|candidate| candidate.endpoint.id.to_string()).unwrap_or_default();
        let more_useful =
            self.worst.as_ref().is_none_or(|(known, _)| usefulness(failure.class) >= usefulness(known.class));
        if more_useful {
            self.worst = Some((failure, provider));
        }
    }

    /// The error for the caller: that of the most useful attempt.
    pub fn into_error(self) -> Error {
        let named = self.only_one();
        let error = match self.worst {
            Some((failure, provider)) => to_error(failure, named).fact("provider", provider),
            None => Error::new(
                Code::Unavailable,
                "NO_PROVIDER_LEFT",
                "every provider that could answer is busy with a probe",
            )
            .retry_after(Duration::from_secs(1)),
        };
        error.fact("attempts", self.attempts.to_string())
    }
}

fn worth_repeating(class: Class, told: Option<Duration>) -> bool {
    match told {
        Some(delay) => delay <= WORTH_WAITING,
        None => class != Class::Rate,
    }
}

/// Full jitter: between nothing and a bound that doubles. What our own change mends needs no pause.
fn backoff(class: Class, attempts: u32, chance: f64) -> Duration {
    if matches!(class, Class::Quirk | Class::Signature | Class::ToolFormat) {
        return Duration::ZERO;
    }
    let bound = FIRST_BACKOFF.saturating_mul(1 << attempts.min(8)).min(LONGEST_BACKOFF);
    bound.mul_f64(chance)
}

/// The caller's own fault says most, a used-up limit says something, an upstream failure says least.
fn usefulness(class: Class) -> u8 {
    match class {
        Class::Invalid | Class::Unsupported | Class::Context | Class::TooLarge | Class::Media | Class::Blocked => 2,
        Class::Rate | Class::Quota | Class::Concurrency => 1,
        _ => 0,
    }
}

/// A provider's failure in the words of our own contract.
pub fn to_error(failure: Failure, named: bool) -> Error {
    let message = failure.message;
    let error = match failure.class {
        Class::Invalid | Class::Quirk | Class::Signature => Error::invalid("UPSTREAM_INVALID", message),
        Class::Unsupported => Error::invalid("UNSUPPORTED", message),
        Class::Context => Error::invalid("CONTEXT_LENGTH_EXCEEDED", message),
        Class::TooLarge => Error::invalid("REQUEST_TOO_LARGE", message),
        Class::Media => Error::invalid("INVALID_IMAGE_URL", message).at("messages"),
        Class::Blocked => Error::invalid("CONTENT_FILTER", message),
        Class::ToolFormat => {
            Error::new(Code::Unavailable, "BAD_TOOL_CALL", "the model wrote a tool call that cannot be read")
        }
        Class::Gone if named => Error::not_found("MODEL_NOT_FOUND", message).at("model"),
        Class::Auth => unavailable("the provider refused its credential; the operator has to renew it"),
        Class::Billing => unavailable("the provider's account has no credit left; the operator has to top it up"),
        Class::Forbidden | Class::Gone => unavailable("the provider does not offer this model to its credential"),
        Class::Rate | Class::Quota | Class::Concurrency => Error::new(Code::Exhausted, "RATE_LIMIT_EXCEEDED", message),
        Class::Overloaded => unavailable("the provider is overloaded"),
        Class::Connect => unavailable("the provider cannot be reached"),
        Class::Timeout => Error::new(Code::Timeout, "UPSTREAM_TIMEOUT", "the provider did not answer in time"),
        Class::Server | Class::Malformed | Class::Interrupted | Class::Cancelled => {
            Error::new(Code::Unavailable, "UPSTREAM_ERROR", "the provider failed")
        }
    };
    let error = match failure.param {
        Some(param) => error.at(param),
        None => error,
    };
    match failure.retry_after {
        Some(delay) => error.retry_after(delay),
        None => error,
    }
}

fn unavailable(message: &'static str) -> Error {
    Error::new(Code::Unavailable, "NO_PROVIDER_LEFT", message)
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
