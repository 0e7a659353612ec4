//! Settings of the public door: what was typed, and what we run on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use http::HeaderValue;
use ipnet::IpNet;
use manifold_cache::{Algorithm, Mode, OnStoreFailure, Policy, Window};
use manifold_core::{Error, Result};
use serde::de::{Error as _, IntoDeserializer, Unexpected};
use serde::{Deserialize, Deserializer};

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

/// Limits that every caller meets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests of one API key; absent = no limit.
    pub per_key: Option<KeyLimits>,
}

/// Requests of one API key: so many in so much time, so many at once, or both.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyLimits {
    /// Requests per window; absent = any number.
    pub quota: Option<u64>,
    /// Length of the window; `day` and `month` are those of the calendar, in UTC. What was spent in it is known to each
    /// process until that ends, and to Redis if the limit is shared: not to the database.
    #[serde(deserialize_with = "window")]
    pub window: Option<Window>,
    /// Requests that may come within a moment; absent = the quota.
    pub burst: Option<u64>,
    /// How requests are counted; absent = `gcra`, and `fixed` for a day or month of the calendar.
    pub algorithm: Option<Algorithm>,
    /// Requests that may be answered at once, from their admission to the last byte of their answers; absent = any number.
    pub concurrent: Option<u64>,
    /// Who counts together; all but `local` need `cache.redis_url`. Requests at once are counted without stocks: `leased`
    /// is `strict` for them.
    pub mode: Mode,
    /// What happens to a shared limit while Redis is away.
    pub on_store_failure: OnStoreFailure,
}

impl KeyLimits {
    fn check(&self) -> Result<PerKey> {
        let (quota, window) = match (self.quota, self.window) {
            (Some(quota), Some(window)) => (quota, window),
            (None, None) if self.burst.is_some() || self.algorithm.is_some() || self.concurrent.is_none() => {
                return Err(wrong("edge.limits.per_key", "set quota and window, or concurrent, or all of them"));
            }
            (None, None) => return Ok(PerKey { rate: None, concurrent: self.concurrent()? }),
            (None, Some(_)) => return Err(wrong("edge.limits.per_key.quota", "must be set where window is")),
            (Some(_), None) => return Err(wrong("edge.limits.per_key.window", "must be set where quota is")),
        };
        let mut policy = Policy::new("key", quota, window, self.burst)?.shared(self.mode, self.on_store_failure);
        if let Some(algorithm) = self.algorithm {
            policy = policy.counted(algorithm)?;
        }
        Ok(PerKey { rate: Some(policy), concurrent: self.concurrent()? })
    }

    fn concurrent(&self) -> Result<Option<Concurrent>> {
        match self.concurrent {
            Some(0) => Err(wrong("edge.limits.per_key.concurrent", "must be at least 1; leave it out for no limit")),
            Some(max) => {
                Ok(Some(Concurrent { max, shared: self.mode != Mode::Local, on_store_failure: self.on_store_failure }))
            }
            None => Ok(None),
        }
    }
}

/// `60s`, `day` or `month`.
fn window<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Window>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.as_str() {
        "day" => Ok(Some(Window::Day)),
        "month" => Ok(Some(Window::Month)),
        text => match humantime_serde::deserialize(text.into_deserializer()) {
            Ok(length) => Ok(Some(Window::Lasting(length))),
            Err::<Duration, D::Error>(_) => {
                Err(D::Error::invalid_value(Unexpected::Str(text), &"a duration such as 60s, or day, or month"))
            }
        },
    }
}

/// What a key may do, checked.
#[derive(Clone, Debug)]
pub(crate) struct PerKey {
    pub(crate) rate: Option<Policy>,
    pub(crate) concurrent: Option<Concurrent>,
}

/// Requests at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Concurrent {
    pub(crate) max: u64,
    pub(crate) shared: bool,
    pub(crate) on_store_failure: OnStoreFailure,
}

impl Limits {
    /// The setting of the first limit that several processes count together.
    pub fn shared(&self) -> Option<&'static str> {
        let shared = self.per_key.as_ref().is_some_and(|limits| limits.mode != Mode::Local);
        shared.then_some("edge.limits.per_key.mode")
    }
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
    pub(crate) per_key: Option<PerKey>,
}

impl Config {
    /// Refuses what the door would refuse when it opens.
    pub fn validate(&self) -> Result<()> {
        self.check().map(|_| ())
    }

    /// Checks what types cannot.
    pub(crate) fn check(&self) -> Result<Checked> {
        let per_key = self.limits.per_key.as_ref().map(KeyLimits::check).transpose().map_err(limit_at)?;
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
            per_key,
        })
    }
}

fn wrong(key: &'static str, message: impl std::fmt::Display) -> Error {
    Error::invalid("CONFIG_INVALID", format!("{key}: {message}")).at(key)
}

fn limit_at(error: Error) -> Error {
    if error.param().is_some() { error } else { error.at("edge.limits.per_key") }
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
    fn a_key_is_limited_in_time_at_once_or_both() {
        let window = Some(Window::Lasting(Duration::from_secs(60)));
        let limits = |quota, window, concurrent| KeyLimits { quota, window, concurrent, ..KeyLimits::default() };
        for (limits, refused) in [
            (limits(Some(1), window, None), None),
            (limits(None, None, Some(1)), None),
            (limits(Some(1), window, Some(1)), None),
            (limits(None, None, None), Some("edge.limits.per_key")),
            (limits(Some(1), None, Some(1)), Some("edge.limits.per_key.window")),
            (limits(None, window, Some(1)), Some("edge.limits.per_key.quota")),
            (limits(None, None, Some(0)), Some("edge.limits.per_key.concurrent")),
            (KeyLimits { burst: Some(1), ..limits(None, None, Some(1)) }, Some("edge.limits.per_key")),
            (limits(Some(0), window, None), Some("edge.limits.per_key")),
        ] {
            let error = limits.check().map_err(limit_at).err();

            assert_eq!(error.as_ref().and_then(Error::param), refused, "{limits:?}");
        }
    }

    #[test]
    fn a_window_is_a_length_of_time_or_a_day_or_month_of_the_calendar() {
        let read = |text: &str| serde_json::from_value::<KeyLimits>(serde_json::json!({"quota": 1, "window": text}));
        for (text, expected) in [
            ("90s", Window::Lasting(Duration::from_secs(90))),
            ("1day", Window::Lasting(Duration::from_secs(86_400))),
            ("day", Window::Day),
            ("month", Window::Month),
        ] {
            let limits = read(text).unwrap();

            assert!(limits.check().is_ok());
            assert_eq!(limits.window, Some(expected), "{text}");
        }
        for text in ["week", "60", ""] {
            assert!(read(text).unwrap_err().to_string().contains("a duration such as 60s, or day, or month"), "{text}");
        }
        let steady = KeyLimits { algorithm: Some(Algorithm::Gcra), ..read("month").unwrap() };
        assert_eq!(steady.check().err().map(|error| error.reason().to_owned()).as_deref(), Some("LIMIT_INVALID"));
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
