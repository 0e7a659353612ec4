//! Finds the field that a provider refuses, if it is one that may be left out.

use super::Class;
use super::body::Body;

/// Texts that say a field is unknown to the provider.
const UNKNOWN: &[&str] = &[
    "unrecognized request argument",
    "unknown parameter",
    "unknown field",
    "unknown name",
    "extra inputs are not permitted",
    "extra_forbidden",
    "additional properties are not allowed",
    "is unsupported",
];
/// Texts that say a known field is refused by this model.
const REFUSED: &[&str] = &[
    "unsupported_parameter",
    "unsupported_value",
    "unsupported parameter",
    "unsupported value",
    "not supported",
    "does not support",
    "is not enabled for",
];

/// Names that vendors use, and the name in OpenAI's dialect. These are wishes: an answer without them is still an answer.
const WISHES: &[(&str, &str)] = &[
    ("seed", "seed"),
    ("random_seed", "seed"),
    ("top_k", "top_k"),
    ("topk", "top_k"),
    ("logit_bias", "logit_bias"),
    ("presence_penalty", "presence_penalty"),
    ("presencepenalty", "presence_penalty"),
    ("frequency_penalty", "frequency_penalty"),
    ("frequencypenalty", "frequency_penalty"),
    ("parallel_tool_calls", "parallel_tool_calls"),
    ("reasoning_effort", "reasoning_effort"),
    ("reasoning", "reasoning_effort"),
    ("thinking", "reasoning_effort"),
    ("thinking_config", "reasoning_effort"),
    ("thinkingconfig", "reasoning_effort"),
    ("thinking_budget", "reasoning_effort"),
    ("thinkingbudget", "reasoning_effort"),
    ("thinking_level", "reasoning_effort"),
    ("thinkinglevel", "reasoning_effort"),
    ("think", "reasoning_effort"),
    ("temperature", "temperature"),
    ("top_p", "top_p"),
    ("topp", "top_p"),
    ("user", "user"),
];
/// Wishes whose names are also everyday words: believed only where they are quoted or told as the field.
const AMBIGUOUS: &[&str] = &["user", "seed", "think", "reasoning", "temperature"];

/// What the request is about. Without these there is nothing to answer.
const CORE: &[&str] = &[
    "model",
    "messages",
    "tools",
    "tool_choice",
    "functions",
    "response_format",
    "json_schema",
    "stream",
    "input",
    "n",
    "logprobs",
    "top_logprobs",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "image_url",
    "contents",
    "content",
    "role",
    "strict",
    "name",
    "body",
];

/// The class of a refused request: a field to leave out, something only this provider cannot do, or the caller's fault.
pub(super) fn class(body: &Body, text: &str) -> Class {
    let told = |phrases: &[&str]| {
        phrases.iter().any(|phrase| text.contains(phrase) || body.kind == *phrase || body.code == *phrase)
    };
    let (unknown, refused) = (told(UNKNOWN), told(REFUSED));
    match field(body) {
        Some(_) if unknown || refused => Class::Quirk,
        // It is about something that cannot be left out: another provider may take it.
        _ if unknown || refused => Class::Unsupported,
        _ => Class::Invalid,
    }
}

/// The field to leave out, named as in OpenAI's dialect.
pub(super) fn field(body: &Body) -> Option<String> {
    let named = candidates(body);
    let wish = named.iter().find_map(|name| wish(name)).or_else(|| {
        let words = body.message.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        words.filter(|word| !AMBIGUOUS.contains(&word.to_ascii_lowercase().as_str())).find_map(wish)
    });
    wish.map(str::to_owned).or_else(|| {
        let unknown = UNKNOWN.iter().any(|phrase| body.message.to_lowercase().contains(phrase) || body.kind == *phrase);
        named.into_iter().find(|name| unknown && is_extra(name))
    })
}

fn wish(name: &str) -> Option<&'static str> {
    WISHES.iter().find(|(vendor, _)| vendor.eq_ignore_ascii_case(name)).map(|(_, field)| *field)
}

/// A name that can only have come from fields we pass on without knowing them.
fn is_extra(name: &str) -> bool {
    let identifier =
        !name.is_empty() && name.len() <= 64 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    identifier && !CORE.contains(&name) && !name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Names told as fields: the parts of `param`, what stands in quotes, and what follows `supplied:`.
fn candidates(body: &Body) -> Vec<String> {
    let parts = |path: &str| {
        path.split(['.', '[', ']', ' ', ',']).filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut names = parts(&body.param);
    for quote in ['\'', '"', '`'] {
        names.extend(body.message.split(quote).skip(1).step_by(2).flat_map(parts));
    }
    if let Some((_, list)) = body.message.split_once("supplied: ") {
        names.extend(parts(list));
    }
    names
}
