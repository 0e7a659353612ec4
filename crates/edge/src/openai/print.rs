//! JSON as bytes, for answers whose shape never changes. Serialising them through serde costs five times as much.

use manifold_contract::ai::v1::Usage;
use manifold_core::Decimal;

/// Text as a JSON string: line ends and quotes inside it cannot break the framing.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("text always serialises");
}

/// Text, or null.
pub(crate) fn optional(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => self::text(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

/// What stands before an element of a list.
pub(crate) fn comma(out: &mut Vec<u8>, position: usize) {
    if position > 0 {
        out.push(b',');
    }
}

/// A whole number.
pub(crate) fn number(out: &mut Vec<u8>, number: impl Into<i128>) {
    out.extend_from_slice(Decimal::whole(number).as_bytes());
}

/// Tokens. Cached ones are part of the prompt, those of thinking part of the completion.
pub(crate) fn usage(out: &mut Vec<u8>, usage: &Usage) {
    for (name, tokens) in [
        ("{\"prompt_tokens\":", usage.input_tokens),
        (",\"completion_tokens\":", usage.output_tokens),
        (",\"total_tokens\":", usage.input_tokens + usage.output_tokens),
        (",\"prompt_tokens_details\":{\"cached_tokens\":", usage.cached_tokens),
        ("},\"completion_tokens_details\":{\"reasoning_tokens\":", usage.reasoning_tokens),
    ] {
        out.extend_from_slice(name.as_bytes());
        number(out, tokens);
    }
    out.extend_from_slice(b"}}");
}
