//! Which credential a request presents: one, a key or a token in a header or a session in a cookie, never in the address. Whether it
//! holds, identity says.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HeaderMap, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use manifold_core::{Code, Principal, TenantId};
use manifold_identity::{Identity, Visit};

use crate::cookie::Cookie;
use crate::csrf;
use crate::refusal::{Answer, Refusal};

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"manifold\"");
const CHALLENGE_AGAIN: HeaderValue = HeaderValue::from_static("Bearer realm=\"manifold\", error=\"invalid_token\"");

const TENANT: HeaderName = HeaderName::from_static("manifold-tenant");

/// Who calls, and of his own will: only browsers send credentials by themselves, and only cookies. A key may be restricted to
/// some visits.
pub(crate) async fn authenticate(
    identity: &Identity,
    cookie: Cookie,
    public_url: Option<&str>,
    parts: &Parts,
    client: IpAddr,
    visit: &Visit<'_>,
) -> Answer<Principal> {
    let headers = &parts.headers;
    let known = match (presented(headers)?, cookie.find(headers)?) {
        (Some(_), Some(_)) => return Err(ambiguous()),
        (Some(Presented::Key(key)), None) => {
            let known = identity.admit(key, visit).await;
            known.inspect_err(|error| identity.note_refused_key(key, client, error))
        }
        (Some(Presented::Bearer(bearer)), None) => {
            let known = identity.authenticate_bearer(bearer, client, visit).await;
            known.inspect_err(|error| identity.note_refused_key(bearer, client, error))
        }
        (None, Some(session)) => {
            let person = identity.authenticate_session(session, client).await;
            if let Ok(person) = &person {
                csrf::check(identity, person, &parts.method, headers, public_url)?;
            }
            person
        }
        (None, None) => {
            count("missing");
            return Err(unauthenticated(
                "INVALID_KEY",
                "no API key was given; send it as `Authorization: Bearer …`",
                CHALLENGE,
            ));
        }
    };
    known.map_err(|error| {
        if error.code() != Code::Unauthenticated {
            return Refusal::from(error);
        }
        count("refused");
        Refusal::from(error).with(WWW_AUTHENTICATE, CHALLENGE_AGAIN)
    })
}

/// Refuses callers of another tenant than the one that `manifold-tenant` asserts. Which one it is, the credential says.
pub(crate) fn check_tenant(caller: &Principal, headers: &HeaderMap) -> Answer<()> {
    let asserts = |line: &HeaderValue| line.to_str().ok().and_then(TenantId::parse) == Some(caller.tenant);
    if headers.get_all(TENANT).iter().all(asserts) {
        return Ok(());
    }
    let message = "the credential belongs to another tenant than the one that manifold-tenant names";
    Err(Refusal::new(StatusCode::FORBIDDEN, "TENANT_MISMATCH", message))
}

/// What is asked of people is no key.
pub(crate) fn for_people(refusal: Refusal) -> Refusal {
    match refusal.error.reason() {
        "INVALID_KEY" => {
            Refusal::new(StatusCode::UNAUTHORIZED, "INVALID_SESSION", "log in with POST /v1/auth/login first")
        }
        _ => refusal,
    }
}

/// What a header presents.
#[derive(Debug, PartialEq, Eq)]
enum Presented<'h> {
    /// An API key or an access token.
    Bearer(&'h str),
    /// An API key: it is in a header of its own.
    Key(&'h str),
}

/// The credential, if there is one. The same key in two headers is one credential.
fn presented(headers: &HeaderMap) -> Answer<Option<Presented<'_>>> {
    let mut found = None;
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    if let Some(line) = lines.next() {
        found = Some(Presented::Bearer(bearer(line)?));
    }
    if lines.next().is_some() {
        return Err(ambiguous());
    }
    for name in [&API_KEY, &GOOG_API_KEY] {
        for value in headers.get_all(name) {
            let key = value.to_str().map_err(|_| not_a_key())?.trim();
            match found {
                Some(Presented::Bearer(other) | Presented::Key(other)) if other != key => return Err(ambiguous()),
                _ => found = Some(Presented::Key(key)),
            }
        }
    }
    Ok(found)
}

fn bearer(line: &HeaderValue) -> Answer<&str> {
    let text = line.to_str().map_err(|_| not_a_key())?;
    match text.split_once(' ') {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(key.trim()),
        _ => Err(not_a_key()),
    }
}

fn not_a_key() -> Refusal {
    count("malformed");
    unauthenticated("INVALID_KEY", "the credential is not a bearer token", CHALLENGE_AGAIN)
}

fn ambiguous() -> Refusal {
    count("ambiguous");
    Refusal::bad("AMBIGUOUS_CREDENTIALS", "more than one credential was given")
}

fn unauthenticated(reason: &'static str, message: &'static str, challenge: HeaderValue) -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, reason, message).with(WWW_AUTHENTICATE, challenge)
}

fn count(reason: &'static str) {
    metrics::counter!("manifold_auth_failures_total", "reason" => reason).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn each_customary_header_carries_the_key() {
        for (name, value, expected) in [
            ("authorization", "Bearer k", Presented::Bearer("k")),
            ("authorization", "bearer  k", Presented::Bearer("k")),
            ("x-api-key", "k", Presented::Key("k")),
            ("x-goog-api-key", "k", Presented::Key("k")),
        ] {
            assert_eq!(presented(&headers(&[(name, value)])).unwrap(), Some(expected), "{name}: {value}");
        }
    }

    #[test]
    fn the_same_key_twice_counts_once() {
        let both = headers(&[("authorization", "Bearer k"), ("x-api-key", "k")]);

        assert_eq!(presented(&both).unwrap(), Some(Presented::Key("k")));
    }

    #[test]
    fn two_credentials_are_ambiguous() {
        for lines in [
            [("authorization", "Bearer k"), ("x-api-key", "other")],
            [("authorization", "Bearer k"), ("authorization", "Bearer k")],
            [("x-api-key", "k"), ("x-goog-api-key", "other")],
        ] {
            let refusal = presented(&headers(&lines)).unwrap_err();

            assert_eq!((refusal.status.as_u16(), refusal.error.reason()), (400, "AMBIGUOUS_CREDENTIALS"));
        }
    }

    #[test]
    fn a_tenant_that_is_asserted_must_be_the_callers() {
        let caller = Principal::anonymous();

        assert!(check_tenant(&caller, &headers(&[])).is_ok());
        assert!(check_tenant(&caller, &headers(&[("manifold-tenant", "ten_00000000000000000000000000")])).is_ok());
        for foreign in ["ten_01h455vb4pex5vsknk084sn02q", "default", ""] {
            let refusal = check_tenant(&caller, &headers(&[("manifold-tenant", foreign)])).unwrap_err();
            assert_eq!((refusal.status.as_u16(), refusal.error.reason()), (403, "TENANT_MISMATCH"), "{foreign}");
        }
    }

    #[test]
    fn other_schemes_are_refused_with_a_challenge() {
        let refusal = presented(&headers(&[("authorization", "Basic dXNlcjpwYXNz")])).unwrap_err();

        assert_eq!(refusal.status, StatusCode::UNAUTHORIZED);
        assert_eq!(refusal.headers[0].1, CHALLENGE_AGAIN);
    }
}
