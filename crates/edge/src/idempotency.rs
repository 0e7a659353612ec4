//! `Idempotency-Key`: the client's word that two requests are one (draft-ietf-httpapi-idempotency-key-header-07).

use http::{HeaderMap, HeaderName};
use manifold_core::IdempotencyKey;

use crate::refusal::{Answer, Refusal};

/// The header.
pub(crate) const NAME: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
pub(crate) const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The key of a request. The quotes that the draft asks for may be missing, as in most clients.
pub(crate) fn key(headers: &HeaderMap) -> Answer<Option<IdempotencyKey>> {
    let mut lines = headers.get_all(NAME).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let key = line.to_str().ok().and_then(unquote).filter(|_| lines.next().is_none());
    let key = key.and_then(|text| IdempotencyKey::parse(&text).ok());
    let message = "Idempotency-Key is one string of 1 to 255 printable ASCII characters, such as \"8e03978e-40d5\"";
    key.map(Some).ok_or_else(|| Refusal::bad("IDEMPOTENCY_KEY_INVALID", message).at("Idempotency-Key"))
}

/// The text of a string as structured fields write it (RFC 9651, 4.2.5); what has no quotes stands for itself.
fn unquote(text: &str) -> Option<String> {
    let text = text.trim();
    let Some(quoted) = text.strip_prefix('"') else { return Some(text.to_owned()) };
    let mut letters = quoted.strip_suffix('"')?.chars();
    let mut plain = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.push(letters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            '"' => return None,
            letter => plain.push(letter),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(lines: &[&'static str]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(NAME, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        match key(&headers) {
            Ok(key) => Ok(key.map(|key| key.as_str().to_owned())),
            Err(refusal) => Err(refusal.error.reason().to_owned()),
        }
    }

    #[test]
    fn quotes_may_be_missing() {
        assert_eq!(read(&[]), Ok(None));
        for (line, key) in [("abc", "abc"), ("\"abc\"", "abc"), (" \"a b\" ", "a b"), (r#""a\"b\\c""#, r#"a"b\c"#)] {
            assert_eq!(read(&[line]), Ok(Some(key.to_owned())), "{line}");
        }
    }

    #[test]
    fn what_is_no_single_string_is_refused() {
        for lines in
            [&[""][..], &["\"\""], &["\"abc"], &[r#""a"b""#], &[r#""a\b""#], &["\"a\\"], &["a", "a"], &["caf\u{e9}"]]
        {
            assert_eq!(read(lines), Err("IDEMPOTENCY_KEY_INVALID".to_owned()), "{lines:?}");
        }
    }
}
