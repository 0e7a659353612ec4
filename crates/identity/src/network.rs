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

    /// Whether it is the machine itself.
    pub fn is_loopback(self) -> bool {
        matches!(self.0, IpAddr::V4(ip) if ip.is_loopback()) || self == Self::of(Ipv6Addr::LOCALHOST.into())
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
            assert!(!network.is_loopback());
        }
        assert!(Network::of("127.0.0.1".parse().unwrap()).is_loopback());
        assert!(Network::of("::1".parse().unwrap()).is_loopback());
        assert_eq!(Network::parse("203.0.113.7/24"), None);
    }
}
