//! The neighbourhood of an address: whoever holds one address of it holds the others. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// /24 of IPv4, /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// The one that `ip` is in.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self(Ipv4Addr::new(a, b, c, 0).into())
            }
            IpAddr::V6(ip) => {
                let [a, b, c, ..] = ip.segments();
                Self(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into())
            }
        }
    }

    /// Reads the printed form.
    pub fn parse(text: &str) -> Option<Self> {
        let network = Self::of(text.split_once('/')?.0.parse().ok()?);
        Some(network).filter(|network| network.to_string() == text)
    }

    /// Whether it is the machine itself, or a network behind which anybody may be: a proxy that nobody named stands there
    /// (RFC 1918, RFC 3927, RFC 4193, RFC 4291 §2.5.6).
    pub fn is_nearby(self) -> bool {
        match self.0 {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
            IpAddr::V6(ip) => {
                self == Self::of(Ipv6Addr::LOCALHOST.into()) || ip.is_unique_local() || ip.is_unicast_link_local()
            }
        }
    }
}

/// `203.0.113.0/24`, `2001:db8:7::/48`.
impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = if self.0.is_ipv4() { 24 } else { 48 };
        write!(formatter, "{}/{length}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_a_network() {
        for (ip, expected) in [
            ("203.0.113.77", "203.0.113.0/24"),
            ("::ffff:203.0.113.9", "203.0.113.0/24"),
            ("2001:db8:7:1::5", "2001:db8:7::/48"),
        ] {
            let network = Network::of(ip.parse().unwrap());
            assert_eq!(network.to_string(), expected);
            assert_eq!(Network::parse(expected), Some(network));
            assert!(!network.is_nearby());
        }
        for near in ["127.0.0.1", "::1", "10.1.2.3", "172.17.0.1", "192.168.1.1", "169.254.0.9", "fd00::1", "fe80::1"] {
            assert!(Network::of(near.parse().unwrap()).is_nearby(), "{near}");
        }
        assert_eq!(Network::parse("203.0.113.7/24"), None);
    }
}
