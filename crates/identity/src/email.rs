//! E-mail addresses: which of them are the same. Pure.

use manifold_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// Longest address (RFC 5321 §4.5.3.1.3, without the angle brackets).
const MAX_LENGTH: usize = 254;
/// Longest part before the `@` (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL: usize = 64;

/// An address as it was typed, and in the form by which it is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Email {
    /// Without blanks around it.
    pub typed: String,
    /// Lower case, the domain as ASCII.
    pub norm: String,
}

impl Email {
    /// Reads an address: one `@`, something before it, a domain after it.
    ///
    /// # Errors
    /// `EMAIL_INVALID`.
    pub fn parse(text: &str) -> Result<Self> {
        let typed = text.trim();
        let norm = typed.rsplit_once('@').and_then(|(local, domain)| {
            let sound = !local.is_empty()
                && local.len() <= MAX_LOCAL
                && !local
                    .chars()
                    .any(|letter| letter.is_whitespace() || letter.is_control() || "@<>\"".contains(letter));
            let domain = url::Host::parse(domain).ok().filter(|host| matches!(host, url::Host::Domain(_)))?;
            let norm = format!("{}@{domain}", local.to_lowercase());
            (sound && norm.len() <= MAX_LENGTH).then_some(norm)
        });
        let wrong = || Error::invalid("EMAIL_INVALID", "an e-mail address is such as ada@example.org").at("email");
        Ok(Self { norm: norm.ok_or_else(wrong)?, typed: typed.to_owned() })
    }

    /// What stands before the `@`.
    pub fn local(&self) -> &str {
        self.norm.rsplit_once('@').map_or("", |(local, _)| local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_same_whatever_their_case_and_script() {
        for (text, norm) in [
            ("Ada@Example.ORG", "ada@example.org"),
            ("  ada@example.org ", "ada@example.org"),
            ("ada@bücher.example", "ada@xn--bcher-kva.example"),
            ("a.b+c@sub.example.org", "a.b+c@sub.example.org"),
        ] {
            assert_eq!(Email::parse(text).unwrap().norm, norm, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@example.org", "a".repeat(65));
        for text in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "a da@example.org",
            "a@b@example.org",
            "ada@127.0.0.1",
            "<a@b.c>",
            &long,
        ] {
            assert_eq!(Email::parse(text).unwrap_err().reason(), "EMAIL_INVALID", "{text}");
        }
    }
}
