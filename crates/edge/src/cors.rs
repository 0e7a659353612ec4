//! Calls from browsers: exact origins, preflights answered the same for every path, our headers exposed by name.

use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");
/// The star covers every header but `Authorization`, and only for calls without cookies: those of other origins never bring
/// any, because `Access-Control-Allow-Credentials` is not sent.
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, *");
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("origin");
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "ratelimit, ratelimit-policy, retry-after, retry-after-ms, x-should-retry, x-request-id, x-manifold-request-id, \
     x-manifold-provider, x-manifold-model, x-manifold-requested-model, x-manifold-attempts, x-manifold-cost, \
     x-manifold-overhead-ms, x-manifold-degraded, x-manifold-data-use, deprecation, sunset, link, etag, api-version, \
     idempotent-replayed",
);

/// The origin of this request, if its pages may call: those of the configuration always, those of tenants in their name. Who
/// calls is not known at first, and then any tenant's will do.
pub(crate) fn allowed(
    origins: &[HeaderValue],
    headers: &HeaderMap,
    in_tenants: impl FnOnce(&str) -> bool,
) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let known = origins.contains(origin) || origin.to_str().is_ok_and(in_tenants);
    known.then(|| origin.clone())
}

/// The answer to a preflight; None for every other request. An unknown origin learns nothing.
pub(crate) fn preflight(parts: &Parts, allowed: Option<&HeaderValue>) -> Option<Response> {
    let asks = parts.headers.contains_key(ORIGIN) && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if parts.method != Method::OPTIONS || !asks {
        return None;
    }
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    if allowed.is_some() {
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    }
    Some(response)
}

/// What every answer tells a browser.
pub(crate) fn expose(headers: &mut HeaderMap, allowed: Option<HeaderValue>) {
    headers.append(VARY, VARY_ORIGIN);
    let Some(origin) = allowed else {
        headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        return;
    };
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: HeaderValue = HeaderValue::from_static("https://app.example");

    fn parts(method: Method, origin: &str) -> Parts {
        let request = http::Request::builder().method(method).header(ORIGIN, origin);
        request.header(ACCESS_CONTROL_REQUEST_METHOD, "POST").body(()).unwrap().into_parts().0
    }

    #[test]
    fn only_the_exact_origin_is_allowed() {
        for (origin, is_allowed) in [
            ("https://app.example", true),
            ("https://app.example:443", false),
            ("http://app.example", false),
            ("https://evil.app.example", false),
            ("https://app.example.evil", false),
            ("null", false),
        ] {
            let headers = parts(Method::GET, origin).headers;

            assert_eq!(allowed(&[APP], &headers, |_| false).is_some(), is_allowed, "{origin}");
            assert!(allowed(&[], &headers, |known| known == origin).is_some(), "{origin}");
        }
    }

    #[test]
    fn a_preflight_is_answered_and_an_unknown_origin_learns_nothing() {
        let known = preflight(&parts(Method::OPTIONS, "https://app.example"), Some(&APP)).unwrap();
        let unknown = preflight(&parts(Method::OPTIONS, "https://evil.example"), None).unwrap();

        assert_eq!((known.status(), unknown.status()), (StatusCode::NO_CONTENT, StatusCode::NO_CONTENT));
        assert_eq!(known.headers()[ACCESS_CONTROL_MAX_AGE], "600");
        assert!(unknown.headers().is_empty());
        assert!(preflight(&parts(Method::GET, "https://app.example"), Some(&APP)).is_none());
    }

    #[test]
    fn every_answer_varies_by_origin() {
        let (mut known, mut unknown) = (HeaderMap::new(), HeaderMap::new());

        expose(&mut known, Some(APP));
        expose(&mut unknown, None);

        assert_eq!((&known[VARY], &unknown[VARY]), (&VARY_ORIGIN, &VARY_ORIGIN));
        assert_eq!(known[ACCESS_CONTROL_ALLOW_ORIGIN], "https://app.example");
        assert_eq!(unknown.get(ACCESS_CONTROL_ALLOW_ORIGIN), None);
        assert_eq!(unknown[RESOURCE_POLICY], "same-origin");
    }
}
