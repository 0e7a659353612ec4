//! Requests that a foreign page makes a browser send. What changes something by a session must come from our own pages, and
//! bring the session's token (OWASP: Cross-Site Request Forgery Prevention).

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method, StatusCode};
use manifold_core::Principal;
use manifold_identity::Identity;

use crate::refusal::{Answer, Refusal};

const TOKEN: HeaderName = HeaderName::from_static("manifold-csrf");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a browser may have sent without its owner's will: what changes something by a session in a cookie.
pub(crate) fn check(
    identity: &Identity,
    caller: &Principal,
    method: &Method,
    headers: &HeaderMap,
    public_url: Option<&str>,
) -> Answer<()> {
    let Some(session) = caller.session.filter(|_| !method.is_safe()) else { return Ok(()) };
    from_own_page(headers, public_url)?;
    let token = headers.get(TOKEN).and_then(|token| token.to_str().ok());
    if token.is_some_and(|token| identity.is_csrf_token(session, token)) {
        return Ok(());
    }
    Err(refused("send the token that login and GET /v1/auth/session give as manifold-csrf"))
}

/// Refuses what a browser sends for a page of somebody else.
pub(crate) fn from_own_page(headers: &HeaderMap, public_url: Option<&str>) -> Answer<()> {
    if headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(refused("a page of another site cannot do this"));
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let own = match public_url {
        Some(url) => origin_of(url).to_owned(),
        None => format!("http://{}", headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()),
    };
    if origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()) {
        return Ok(());
    }
    Err(refused("a page of another origin cannot do this"))
}

/// Scheme, host and port.
fn origin_of(url: &str) -> &str {
    let begin = url.find("://").map_or(0, |at| at + 3);
    let end = url[begin..].find('/').map_or(url.len(), |at| begin + at);
    &url[..end]
}

fn refused(message: &'static str) -> Refusal {
    Refusal::new(StatusCode::FORBIDDEN, "CSRF", message)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_our_own_pages_change_something() {
        let own = Some("https://api.example/base");
        for (lines, url, passes) in [
            (vec![], own, true),
            (vec![("origin", "https://api.example"), ("sec-fetch-site", "same-origin")], own, true),
            (vec![("origin", "https://evil.example")], own, false),
            (vec![("origin", "null")], own, false),
            (vec![("origin", "https://api.example.evil.example")], own, false),
            (vec![("sec-fetch-site", "cross-site")], own, false),
            (vec![("sec-fetch-site", "same-site")], own, false),
            (vec![("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:8080")], None, true),
            (vec![("host", "127.0.0.1:8080"), ("origin", "http://127.0.0.1:9090")], None, false),
        ] {
            let named =
                lines.iter().map(|(name, text)| (HeaderName::from_static(name), HeaderValue::from_static(text)));
            let headers: HeaderMap = named.collect();

            assert_eq!(from_own_page(&headers, url).is_ok(), passes, "{lines:?}");
        }
    }
}
