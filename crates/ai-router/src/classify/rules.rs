//! The tables that turn an error body and a status into a class. A row is one line; the first that matches wins.

use super::body::Body;
use super::{Class, Limits, quirk};
use crate::retry_after::Exhausted;

/// Words of `code`, `type`, Google's `status` and the like that decide alone, lowercase.
const WORDS: &[(&str, Class)] = &[
    ("context_length_exceeded", Class::Context),
    ("context_window_exceeded", Class::Context),
    ("request_too_large", Class::TooLarge),
    ("payload_too_large", Class::TooLarge),
    ("content_filter", Class::Blocked),
    ("content_policy_violation", Class::Blocked),
    ("moderation_blocked", Class::Blocked),
    ("tool_use_failed", Class::ToolFormat),
    ("insufficient_quota", Class::Billing),
    ("billing_error", Class::Billing),
    ("billing_hard_limit_reached", Class::Billing),
    ("billing_not_active", Class::Billing),
    ("insufficient_balance", Class::Billing),
    ("enforced_spend_limit_reached", Class::Billing),
    ("payment_required", Class::Billing),
    ("invalid_api_key", Class::Auth),
    ("api_key_invalid", Class::Auth),
    ("authentication_error", Class::Auth),
    ("invalid_authentication", Class::Auth),
    ("unauthenticated", Class::Auth),
    ("unauthorized", Class::Auth),
    ("model_not_found", Class::Gone),
    ("model_decommissioned", Class::Gone),
    ("model_not_available", Class::Gone),
    ("invalid_model", Class::Gone),
    ("queue_exceeded", Class::Overloaded),
    ("overloaded_error", Class::Overloaded),
    ("request_quota_exceeded", Class::Quota),
    ("openrouter_free_tier_daily", Class::Quota),
    ("4006", Class::Quota),
    ("openrouter_in_flight_budget", Class::Rate),
];

/// Texts that decide alone, lowercase.
const TEXTS: &[(&str, Class)] = &[
    ("service tier capacity exceeded", Class::Overloaded),
    ("high traffic", Class::Overloaded),
    ("over capacity", Class::Overloaded),
    ("is overloaded", Class::Overloaded),
    ("server busy", Class::Overloaded),
    ("request too large for model", Class::TooLarge),
    ("thought_signature", Class::Signature),
    ("thought signature", Class::Signature),
    ("invalid `signature` in `thinking`", Class::Signature),
    ("must be passed back", Class::Signature),
    ("malformed_function_call", Class::ToolFormat),
    ("failed to call a function", Class::ToolFormat),
    ("content management policy", Class::Blocked),
    ("credit balance", Class::Billing),
    ("insufficient credits", Class::Billing),
    ("insufficient balance", Class::Billing),
    ("enable billing", Class::Billing),
    ("free tier is not available", Class::Billing),
    ("api key not valid", Class::Auth),
    ("api key expired", Class::Auth),
    ("api key was reported as leaked", Class::Auth),
    ("invalid api key", Class::Auth),
    ("incorrect api key", Class::Auth),
    ("no auth credentials", Class::Auth),
    ("user location is not supported", Class::Forbidden),
    ("no endpoints found matching your data policy", Class::Forbidden),
    ("no endpoints found that support", Class::Unsupported),
    ("does not support tools", Class::Unsupported),
    ("does not support chat", Class::Unsupported),
    ("does not support image", Class::Unsupported),
    ("no endpoints found", Class::Gone),
    ("not a valid model id", Class::Gone),
    ("has been decommissioned", Class::Gone),
    ("invalid model:", Class::Gone),
    ("is not found for api version", Class::Gone),
];

/// Texts about the window. Not believed on 429, where tokens of a minute are meant.
const CONTEXT: &[&str] = &[
    "maximum context length",
    "prompt is too long",
    "exceeds the context window",
    "exceeds the available context size",
    "exceeds the context length",
    "exceed context limit",
    "exceeds maximum context",
    "input token count",
    "too many tokens",
    "reduce the length of the messages",
    "larger than the context",
];

/// Words that only say what the status says, unless the status is missing.
const WEAK_WORDS: &[(&str, Class)] = &[
    ("rate_limit_exceeded", Class::Rate),
    ("rate_limit_error", Class::Rate),
    ("rate_limited", Class::Rate),
    ("too_many_requests", Class::Rate),
    ("too_many_requests_error", Class::Rate),
    ("resource_exhausted", Class::Rate),
    ("permission_denied", Class::Forbidden),
    ("permission_error", Class::Forbidden),
    ("not_found_error", Class::Gone),
    ("not_found", Class::Gone),
    ("service_unavailable", Class::Overloaded),
    ("unavailable", Class::Overloaded),
    ("server_error", Class::Server),
    ("internal_server_error", Class::Server),
    ("api_error", Class::Server),
    ("internal", Class::Server),
    ("deadline_exceeded", Class::Server),
];

/// Marks of a window of an hour or longer, in texts and quota names.
const LONG_WINDOWS: &[&str] = &[
    "per day",
    "per-day",
    "perday",
    "(tpd)",
    "(rpd)",
    "(asd)",
    "daily",
    "per month",
    "/ month",
    "/month",
    "monthly",
    "per week",
    "weekly",
    "per hour",
    "(tph)",
    "(ash)",
    "hourly",
    "limit: 0,",
    "limit: 0\n",
    "limit 0,",
];

/// The class of an error body whose status is filled in.
pub(super) fn class(body: &Body, exhausted: Exhausted, limits: Limits) -> Class {
    let text = body.message.to_lowercase();
    let strong = by_word(body, WORDS).or_else(|| by_text(&text, body.status));
    let found = strong.or_else(|| body.status.map(by_status)).or_else(|| by_word(body, WEAK_WORDS));
    match found.unwrap_or(Class::Invalid) {
        Class::Rate => limit(body, &text, exhausted, limits),
        // Some vendors report a used-up limit as 400 or 403, and name it only in a word.
        Class::Invalid | Class::Forbidden if by_word(body, WEAK_WORDS) == Some(Class::Rate) => {
            limit(body, &text, exhausted, limits)
        }
        Class::Invalid => quirk::class(body, &text),
        class => class,
    }
}

fn by_word(body: &Body, table: &[(&str, Class)]) -> Option<Class> {
    let named = |word: &str| {
        let words = [&body.code, &body.kind].into_iter().chain(&body.words);
        words.into_iter().any(|told| told.eq_ignore_ascii_case(word))
    };
    table.iter().find(|(word, _)| named(word)).map(|(_, class)| *class)
}

fn by_text(text: &str, status: Option<u16>) -> Option<Class> {
    if !matches!(status, Some(429 | 402)) && CONTEXT.iter().any(|phrase| text.contains(phrase)) {
        return Some(Class::Context);
    }
    TEXTS.iter().find(|(phrase, _)| text.contains(phrase)).map(|(_, class)| *class)
}

fn by_status(status: u16) -> Class {
    match status {
        401 => Class::Auth,
        402 => Class::Billing,
        403 => Class::Forbidden,
        404 | 410 => Class::Gone,
        413 => Class::TooLarge,
        429 => Class::Rate,
        498 | 503 | 529 => Class::Overloaded,
        408 | 500.. => Class::Server,
        _ => Class::Invalid,
    }
}

/// Which limit a refusal means.
fn limit(body: &Body, text: &str, exhausted: Exhausted, limits: Limits) -> Class {
    let concurrent = text.contains("concurren") || body.code == "1302";
    let is_long = |told: &str| LONG_WINDOWS.iter().any(|mark| told.contains(mark));
    let long = is_long(text) || body.quota_ids.iter().any(|id| is_long(&id.to_lowercase()));
    match exhausted {
        _ if concurrent => Class::Concurrency,
        _ if long => Class::Quota,
        Exhausted::Long => Class::Quota,
        Exhausted::Unknown if limits == Limits::Concurrent => Class::Concurrency,
        Exhausted::Short | Exhausted::Unknown => Class::Rate,
    }
}
