//! The cookie that a session is in (RFC 6265). Behind TLS it has the prefix `__Host-`, which browsers keep from being set by
//! anybody else; without TLS, on this machine only, another name.

use std::net::IpAddr;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use manifold_core::Secret;

use crate::headers::value;
use crate::refusal::{Answer, Refusal};

/// What proxies add.
const FORWARDED: [HeaderName; 2] = [HeaderName::from_static("forwarded"), HeaderName::from_static("x-forwarded-for")];

/// How sessions are kept by browsers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cookie {
    /// Clients reach us by https.
    Secure,
    /// They do not: people log in on this machine only.
    Local,
}

impl Cookie {
    /// For clients that reach us by this address.
    pub(crate) fn of(public_url: Option<&str>) -> Self {
        if public_url.is_some_and(|url| url.starts_with("https://")) { Self::Secure } else { Self::Local }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Secure => "__Host-manifold",
            Self::Local => "manifold_dev",
        }
    }

    /// Refuses to give a session away where everybody on the way could read it. A proxy on this machine that was not named in
    /// `edge.trusted_proxies` gives itself away by its headers.
    pub(crate) fn check(self, client: IpAddr, headers: &HeaderMap) -> Answer<()> {
        let near = client.to_canonical().is_loopback() && FORWARDED.iter().all(|name| !headers.contains_key(name));
        if self == Self::Secure || near {
            return Ok(());
        }
        let message = "people log in over https only: set edge.public_url to an https address, behind a TLS proxy";
        Err(Refusal::bad("HTTPS_REQUIRED", message))
    }

    /// The token of a request; two of them are ambiguous.
    pub(crate) fn find(self, headers: &HeaderMap) -> Answer<Option<&str>> {
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let mut tokens = pairs.filter(|(name, _)| *name == self.name()).map(|(_, token)| token);
        let token = tokens.next();
        if tokens.next().is_some() {
            return Err(Refusal::bad("AMBIGUOUS_CREDENTIALS", "more than one session was given"));
        }
        Ok(token)
    }

    /// Keeps a token for so many seconds.
    pub(crate) fn set(self, token: &Secret<String>, seconds: u64) -> HeaderValue {
        self.line(token.expose(), seconds)
    }

    /// Forgets it.
    pub(crate) fn clear(self) -> HeaderValue {
        self.line("", 0)
    }

    fn line(self, token: &str, seconds: u64) -> HeaderValue {
        let secure = if self == Self::Secure { "; Secure" } else { "" };
        value(format!("{}={token}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", self.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_found_among_other_cookies() {
        let headers = |lines: &[&'static str]| {
            lines.iter().map(|line| (COOKIE, HeaderValue::from_static(line))).collect::<HeaderMap>()
        };

        assert_eq!(Cookie::Local.find(&headers(&["a=b; manifold_dev=x", "c=d"])).unwrap(), Some("x"));
        assert_eq!(Cookie::Secure.find(&headers(&["manifold_dev=x"])).unwrap(), None);
        let twice = Cookie::Local.find(&headers(&["manifold_dev=x", "manifold_dev=y"])).unwrap_err();
        assert_eq!(twice.error.reason(), "AMBIGUOUS_CREDENTIALS");
    }

    #[test]
    fn behind_tls_nobody_else_can_set_or_read_it() {
        let (secure, local) = (Cookie::of(Some("https://api.example")), Cookie::of(Some("http://api.example")));
        let far = "203.0.113.7".parse().unwrap();

        let line = secure.set(&Secret::from("t"), 60);
        assert_eq!(line, "__Host-manifold=t; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(local.clear(), "manifold_dev=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax");
        let (here, none) = ("::1".parse().unwrap(), HeaderMap::new());
        let proxied: HeaderMap =
            [(FORWARDED[1].clone(), HeaderValue::from_static("203.0.113.7"))].into_iter().collect();
        assert!(secure.check(far, &proxied).is_ok() && local.check(here, &none).is_ok());
        for (client, headers) in [(far, &none), (here, &proxied)] {
            assert_eq!(local.check(client, headers).unwrap_err().error.reason(), "HTTPS_REQUIRED");
        }
    }
}
