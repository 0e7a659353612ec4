//! Which targets may be called. URLs of the operator may name anything; all others public addresses only, checked on
//! the very addresses that the connection then uses.

use std::collections::HashSet;
use std::error::Error as StdError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use http::Uri;
use manifold_core::{Error, Result};
use url::{Host, Url};

use super::{SendError, Trust};

/// Everything in IPv4 that is not the public internet (IANA special-purpose registry, and multicast).
const NOT_PUBLIC_V4: [(Ipv4Addr, u8); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
    (Ipv4Addr::new(255, 255, 255, 255), 32),
];

/// Parts of the global unicast range of IPv6 that lead elsewhere: protocol assignments with Teredo, documentation, 6to4.
const NOT_PUBLIC_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

const GLOBAL_UNICAST: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// Whether an address belongs to the public internet. Addresses that embed an IPv4 address count as not public, except
/// those of the well-known NAT64 prefix, which count as what they embed.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !NOT_PUBLIC_V4.iter().any(|range| within_v4(address, *range)),
        IpAddr::V6(address) if within_v6(address, NAT64) => {
            is_public(IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() as u32)))
        }
        IpAddr::V6(address) => {
            within_v6(address, GLOBAL_UNICAST) && !NOT_PUBLIC_V6.iter().any(|range| within_v6(address, *range))
        }
    }
}

fn within_v4(address: Ipv4Addr, (base, length): (Ipv4Addr, u8)) -> bool {
    let mask = u32::MAX << (32 - u32::from(length));
    address.to_bits() & mask == base.to_bits()
}

fn within_v6(address: Ipv6Addr, (base, length): (Ipv6Addr, u8)) -> bool {
    let mask = u128::MAX << (128 - u32::from(length));
    address.to_bits() & mask == base.to_bits()
}

/// How a request may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    Guarded,
}

/// The operator's exceptions.
#[derive(Debug)]
pub(super) struct Egress {
    allow: HashSet<(String, u16)>,
}

impl Egress {
    pub(super) fn new(allow: &[String]) -> Result<Self> {
        let allow = allow.iter().map(|entry| parse_entry(entry)).collect::<Result<_>>()?;
        Ok(Self { allow })
    }

    /// Chooses the way to `target`. Untrusted ones are spelled anew, so that what was checked is what is called. Names go the
    /// guarded way: what they resolve to is checked there.
    pub(super) fn admit(&self, trust: Trust, target: &mut Uri) -> Result<Way, SendError> {
        if !matches!(target.scheme_str(), Some("http" | "https")) {
            return Err(SendError::Denied("only http and https can be called".to_owned()));
        }
        if trust == Trust::Operator {
            return Ok(Way::Direct);
        }
        let unreadable = || SendError::Denied("the URL cannot be read".to_owned());
        let url = Url::parse(&target.to_string()).map_err(|_| unreadable())?;
        *target = url.as_str().parse().map_err(|_| unreadable())?;
        self.way(&url)
    }

    fn way(&self, url: &Url) -> Result<Way, SendError> {
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return Err(SendError::Denied("the URL names no host".to_owned()));
        };
        if self.allow.contains(&(host.to_string(), port)) {
            return Ok(Way::Direct);
        }
        let literal = match host {
            Host::Domain(_) => return Ok(Way::Guarded),
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
        };
        if is_public(literal) {
            Ok(Way::Guarded)
        } else {
            Err(SendError::Denied(NotPublic(literal.to_string()).to_string()))
        }
    }
}

/// Read as a URL reads it, so that both spell hosts alike.
fn parse_entry(entry: &str) -> Result<(String, u16)> {
    let wrong = || {
        let message = format!("{entry:?} is not of the form host:port");
        Error::invalid("CONFIG_INVALID", message).at("runtime.egress.allow")
    };
    let (_, port) = entry.trim().rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let url = Url::parse(&format!("http://{}/", entry.trim())).map_err(|_| wrong())?;
    Ok((url.host().ok_or_else(wrong)?.to_string(), port))
}

/// Refuses a name with any address that is not public.
pub(super) fn check(name: &str, addresses: &[SocketAddr]) -> Result<(), NotPublic> {
    if addresses.iter().all(|address| is_public(address.ip())) { Ok(()) } else { Err(NotPublic(name.to_owned())) }
}

/// A target that untrusted URLs may not name.
#[derive(Debug)]
pub(super) struct NotPublic(String);

impl fmt::Display for NotPublic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is not a public address", self.0)
    }
}

impl StdError for NotPublic {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_public_internet_is_public() {
        for (address, public) in [
            ("1.1.1.1", true),
            ("172.32.0.1", true),
            ("100.128.0.1", true),
            ("2606:4700:4700::1111", true),
            ("64:ff9b::1.1.1.1", true),
            ("0.0.0.0", false),
            ("10.1.2.3", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("169.254.169.254", false),
            ("172.31.255.255", false),
            ("192.168.1.1", false),
            ("198.19.0.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::ffff:1.1.1.1", false),
            ("::ffff:127.0.0.1", false),
            ("64:ff9b::10.0.0.1", false),
            ("fe80::1", false),
            ("fd00::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("2002:7f00:1::", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    fn admit(egress: &Egress, url: &str) -> Option<Way> {
        egress.admit(Trust::Untrusted, &mut url.parse().unwrap()).ok()
    }

    #[test]
    fn an_untrusted_url_is_called_as_it_was_checked() {
        let mut target: Uri = "http://0x01010101/a?b=c".parse().unwrap();

        let way = Egress::new(&[]).unwrap().admit(Trust::Untrusted, &mut target).unwrap();

        assert_eq!((way, target.to_string().as_str()), (Way::Guarded, "http://1.1.1.1/a?b=c"));
    }

    #[test]
    fn untrusted_literals_are_checked_in_every_spelling() {
        let egress = Egress::new(&[]).unwrap();
        for (url, way) in [
            ("http://1.1.1.1/", Some(Way::Guarded)),
            ("https://example.com/", Some(Way::Guarded)),
            ("http://127.0.0.1/", None),
            ("http://0x7f.1/", None),
            ("http://2130706433/", None),
            ("http://0177.0.0.1/", None),
            ("http://[::1]/", None),
            ("http://[::ffff:127.0.0.1]/", None),
            ("ftp://1.1.1.1/", None),
        ] {
            assert_eq!(admit(&egress, url), way, "{url}");
        }
    }

    #[test]
    fn the_operator_allows_one_port_of_one_host() {
        let allow = ["LocalHost:8080".to_owned(), "[::1]:443".to_owned(), " 10.0.0.1:80".to_owned()];
        let egress = Egress::new(&allow).unwrap();
        for (url, direct) in [
            ("http://localhost:8080/", true),
            ("https://[::1]/", true),
            ("http://10.0.0.1/", true),
            ("http://localhost:8081/", false),
            ("http://[::1]/", false),
            ("https://10.0.0.1/", false),
        ] {
            let way = admit(&egress, url);
            assert_eq!(way == Some(Way::Direct), direct, "{url}");
        }
    }

    #[test]
    fn an_entry_without_port_names_the_setting() {
        let error = Egress::new(&["example.com".to_owned()]).unwrap_err();

        assert_eq!(error.param(), Some("runtime.egress.allow"));
    }
}
