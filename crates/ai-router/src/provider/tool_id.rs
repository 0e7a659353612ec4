//! Ids of tool calls: made where a provider gives none, and fitted where one is refused. Deterministic, so nothing is stored.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits of 256 bits.
const LENGTH: usize = 43;

/// Which ids a provider takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolIds {
    /// All.
    Any,
    /// At most 40 characters: OpenAI.
    AtMost40,
    /// Exactly 9 letters and digits: Mistral.
    Exactly9,
}

impl ToolIds {
    /// The id as the provider takes it. What does not fit becomes a hash of itself, the same in every request.
    pub(super) fn fit(self, id: &str) -> Cow<'_, str> {
        match self {
            Self::Any => Cow::Borrowed(id),
            Self::AtMost40 if id.len() <= 40 => Cow::Borrowed(id),
            Self::AtMost40 => Cow::Owned(made(&[id])),
            Self::Exactly9 if id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Cow::Borrowed(id),
            Self::Exactly9 => Cow::Owned(base62(&[id])[..9].to_owned()),
        }
    }
}

/// An id for a call that has none: `call_` and 24 characters made of what tells the call apart.
pub(super) fn made(parts: &[&str]) -> String {
    format!("call_{}", &base62(parts)[..24])
}

/// The SHA-256 of the parts as a number in base 62, most significant digit first.
fn base62(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            hasher.update([0]);
        }
        hasher.update(part.as_bytes());
    }
    let mut number: [u8; 32] = hasher.finalize().into();
    let mut digits = [0_u8; LENGTH];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            *byte = u8::try_from(value / 62).expect("the remainder is below 62, so the quotient is below 256");
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    String::from_utf8_lossy(&digits).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_ids_that_fit_mistral_and_hashes_the_others() {
        // The hashes were computed with Python's hashlib and integers.
        let rows = [
            ("D681PevKs", "D681PevKs"),
            ("call_abc", "uCUSbrUmq"),
            ("", "rzWtdMwJe"),
            ("D681Pev-s", "V8hkxnipZ"),
            ("call_rt4VT1Xb7gc_9FCl", "bZWzkAdqV"),
        ];

        for (given, expected) in rows {
            assert_eq!(ToolIds::Exactly9.fit(given), expected);
        }
    }

    #[test]
    fn keeps_forty_characters_for_openai() {
        let long = "x".repeat(41);

        assert_eq!(ToolIds::AtMost40.fit(&long[..40]), &long[..40]);
        assert_eq!(ToolIds::AtMost40.fit(&long).len(), 29);
        assert_eq!(ToolIds::Any.fit(&long), long);
    }

    #[test]
    fn made_ids_differ_by_position_and_stay_the_same() {
        assert_eq!(made(&["resp", "0", "get"]), made(&["resp", "0", "get"]));
        assert_ne!(made(&["resp", "0", "get"]), made(&["resp", "1", "get"]));
        assert_ne!(made(&["a", "b"]), made(&["ab", ""]));
    }
}
