//! Headers that every answer carries: ids and what keeps browsers from misusing an API.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderName, HeaderValue};
use manifold_core::RequestId;

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const MANIFOLD_REQUEST_ID: HeaderName = HeaderName::from_static("x-manifold-request-id");
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// The client's own id of a request, if it is harmless: 1 to 128 of `[A-Za-z0-9._-]`.
pub(crate) fn kept_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(REQUEST_ID)?;
    let harmless = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let valid = (1..=128).contains(&id.len()) && id.as_bytes().iter().all(harmless);
    valid.then(|| id.clone())
}

/// The origin of the page that calls, if exactly one is named.
pub(crate) fn origin(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(ORIGIN).iter();
    let first = lines.next()?.to_str().ok()?;
    lines.next().is_none().then_some(first)
}

/// Adds the ids of the request.
pub(crate) fn name(headers: &mut HeaderMap, request: RequestId, kept: Option<HeaderValue>) {
    let ours = value(request.to_string());
    headers.insert(REQUEST_ID, kept.unwrap_or_else(|| ours.clone()));
    headers.insert(MANIFOLD_REQUEST_ID, ours);
}

/// Adds protections. An answer that said nothing about caches is not kept by any.
pub(crate) fn secure(headers: &mut HeaderMap) {
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    headers.entry(CACHE_CONTROL).or_insert(NO_STORE);
}

/// A header of text that may come from elsewhere; what cannot stand in a header is left out.
pub(crate) fn value(text: impl Into<String>) -> HeaderValue {
    let text = text.into();
    match HeaderValue::from_maybe_shared(Bytes::from(text)) {
        Ok(value) => value,
        Err(_) => HeaderValue::from_static(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_harmless_ids_of_clients_are_kept() {
        let long = "a".repeat(129);
        for (id, kept) in [("abc-1.2_3", true), ("", false), ("a b", false), ("a\"b", false), (long.as_str(), false)] {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(id).unwrap());

            assert_eq!(kept_id(&headers).is_some(), kept, "{id}");
        }
    }

    #[test]
    fn an_answer_may_say_its_own_word_about_caches() {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));

        name(&mut headers, RequestId(uuid::Uuid::nil()), None);
        secure(&mut headers);

        assert_eq!(headers[CACHE_CONTROL], "no-cache");
        assert_eq!(headers["x-request-id"], headers["x-manifold-request-id"]);
    }
}
