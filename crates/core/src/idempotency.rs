//! Keys by which a client says that two requests are the same one.

use crate::{Error, Result};

/// What a client sends as `Idempotency-Key`: 1 to 255 printable ASCII characters, as a string of a structured field has
/// them (draft-ietf-httpapi-idempotency-key-header-07, 2.1; RFC 9651, 3.3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(Box<str>);

impl IdempotencyKey {
    const MAX_LENGTH: usize = 255;

    /// The key without its quotes.
    pub fn parse(text: &str) -> Result<Self> {
        let is_valid =
            (1..=Self::MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if is_valid {
            return Ok(Self(text.into()));
        }
        let message = format!("an idempotency key has 1 to {} printable ASCII characters", Self::MAX_LENGTH);
        Err(Error::invalid("IDEMPOTENCY_KEY_INVALID", message).at("Idempotency-Key"))
    }

    /// The key without its quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_printable() {
        let longest = "k".repeat(255);
        for text in ["a", "8e03978e-40d5-43e8-bc93-6894a57f9324", "say \"hi\"", longest.as_str()] {
            assert_eq!(IdempotencyKey::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "tab\t", "caf\u{e9}", "\u{7f}", &format!("{longest}k")] {
            assert_eq!(IdempotencyKey::parse(text).unwrap_err().reason(), "IDEMPOTENCY_KEY_INVALID", "{text:?}");
        }
    }
}
