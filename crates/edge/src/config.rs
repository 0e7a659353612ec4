//! Settings of the public door: what was typed, and what we run on.

pub(crate) mod limits;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use http::HeaderValue;
use ipnet::IpNet;
use manifold_core::{Error, Result};
use serde::Deserialize;

pub use self::limits::{Limit, Limits, Per};
use crate::cookie::Cookie;

/// The section `[edge]` as typed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address of the public listener.
    pub listen: SocketAddr,
    /// Address under which clients reach us, for the server entry of `/openapi.json`; empty = not told.
    pub public_url: String,
    /// Networks of reverse proxies: their `X-Forwarded-For` names the client, and the cap per address spares them.
    pub trusted_proxies: Vec<String>,
    /// Web origins that may call from a browser, as exact strings such as `https://app.example`.
    pub cors_origins: Vec<String>,
    /// Connections at once.
    pub max_connections: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64.
    pub max_connections_per_ip: usize,
    /// Requests being answered at once; more are refused with 503.
    pub max_in_flight: usize,
    /// From the connection to its first byte.
    #[serde(with = "humantime_serde")]
    pub first_byte: Duration,
    /// From the first byte of a request head to its end.
    #[serde(with = "humantime_serde")]
    pub head: Duration,
    /// Between two requests of a connection.
    #[serde(with = "humantime_serde")]
    pub idle: Duration,
    /// Between two pieces of a request body.
    #[serde(with = "humantime_serde")]
    pub body_idle: Duration,
    /// For a whole request body.
    #[serde(with = "humantime_serde")]
    pub body_total: Duration,
    /// For a client to take the next bytes of an answer.
    #[serde(with = "humantime_serde")]
    pub write_stall: Duration,
    /// Length of a request target.
    pub max_target: ByteSize,
    /// Size of a request head.
    pub max_head: ByteSize,
    /// Headers of a request.
    pub max_headers: usize,
    /// Body of a native request; AI dialects take 32 MiB.
    pub max_body: ByteSize,
    /// For a native request to be answered; AI dialects have 600 s.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// For requests in flight to finish after a stop.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// Limits that every caller meets.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: String::new(),
            trusted_proxies: Vec::new(),
            cors_origins: Vec::new(),
            max_connections: 10_000,
            max_connections_per_ip: 256,
            max_in_flight: 4_096,
            first_byte: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body_idle: Duration::from_secs(30),
            body_total: Duration::from_secs(300),
            write_stall: Duration::from_secs(60),
            max_target: ByteSize::kib(8),
            max_head: ByteSize::kib(32),
            max_headers: 100,
            max_body: ByteSize::mib(1),
            deadline: Duration::from_secs(60),
            drain: Duration::from_secs(25),
            limits: Limits::default(),
        }
    }
}

/// What we run on: checked, and in the form that the request path reads.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) max_in_flight: usize,
    pub(crate) body_idle: Duration,
    pub(crate) body_total: Duration,
    pub(crate) max_target: usize,
    pub(crate) max_body: u64,
    pub(crate) deadline: Duration,
    pub(crate) public_url: Option<String>,
    pub(crate) cookie: Cookie,
    pub(crate) trusted_proxies: Vec<IpNet>,
    pub(crate) cors_origins: Vec<HeaderValue>,
    pub(crate) write_stall: Duration,
    pub(crate) limits: Vec<limits::Checked>,
}

impl Config {
    /// Refuses what the door would refuse when it opens.
    pub fn validate(&self) -> Result<()> {
        self.check().map(|_| ())
    }

    /// Checks what types cannot.
    pub(crate) fn check(&self) -> Result<Checked> {
        let limits = self.limits.check()?;
        if self.max_head.0 < 8_192 {
            return Err(wrong("edge.max_head", "must be at least 8KiB"));
        }
        let public_url = public_url(&self.public_url)?;
        Ok(Checked {
            cookie: Cookie::of(public_url.as_deref()),
            max_in_flight: self.max_in_flight,
            body_idle: self.body_idle,
            body_total: self.body_total,
            max_target: usize::try_from(self.max_target.0).unwrap_or(usize::MAX),
            max_body: self.max_body.0,
            deadline: self.deadline,
            public_url,
            trusted_proxies: self.trusted_proxies.iter().map(|text| network(text)).collect::<Result<_>>()?,
            cors_origins: self.cors_origins.iter().map(|text| origin(text)).collect::<Result<_>>()?,
            write_stall: self.write_stall,
            limits,
        })
    }
}

fn wrong(key: impl Into<String>, message: impl std::fmt::Display) -> Error {
    let key = key.into();
    Error::invalid("CONFIG_INVALID", format!("{key}: {message}")).at(key)
}

fn public_url(text: &str) -> Result<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    let http = text.starts_with("https://") || text.starts_with("http://");
    match text.parse::<http::Uri>() {
        Ok(uri) if http && uri.host().is_some() && uri.query().is_none() => {
            Ok(Some(text.trim_end_matches('/').to_owned()))
        }
        _ => Err(wrong("edge.public_url", format_args!("`{text}` is not an http(s) address without query"))),
    }
}

/// A network such as `10.0.0.0/8`, or one address.
fn network(text: &str) -> Result<IpNet> {
    text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
        wrong("edge.trusted_proxies", format_args!("`{text}` is neither an address nor a network such as 10.0.0.0/8"))
    })
}

/// An origin as browsers send it: scheme, host and port, nothing behind.
fn origin(text: &str) -> Result<HeaderValue> {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = authority.is_some_and(|rest| !rest.is_empty() && !rest.contains(['/', '?', '#', '@', '*', ' ']));
    match HeaderValue::from_str(text) {
        Ok(value) if plain => Ok(value),
        _ => {
            Err(wrong("edge.cors_origins", format_args!("`{text}` is not an exact origin such as https://app.example")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_hold() {
        let checked = Config::default().check().unwrap();

        assert_eq!((checked.max_body, checked.max_target), (1 << 20, 8 << 10));
    }

    #[test]
    fn an_origin_is_an_exact_string_and_never_a_pattern() {
        for text in ["null", "*", "https://*.example", "https://app.example/", "app.example", "https://a@b"] {
            assert!(origin(text).is_err(), "{text}");
        }
        assert!(origin("https://app.example:8443").is_ok());
    }

    #[test]
    fn a_proxy_is_an_address_or_a_network() {
        assert!(network("10.0.0.0/8").unwrap().contains(&IpAddr::from([10, 1, 2, 3])));
        assert!(network("::1").is_ok());
        assert!(network("proxy.example").is_err());
    }

    #[test]
    fn the_public_address_is_kept_without_its_last_slash() {
        assert_eq!(public_url("https://api.example/").unwrap().as_deref(), Some("https://api.example"));
        assert!(public_url("api.example").is_err());
    }
}
