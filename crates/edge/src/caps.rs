//! How many connections there may be, in all and from one address. Counts only; the accept loop decides.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Too many connections in all.
    Total,
    /// Too many from this address.
    Address,
}

impl Full {
    /// Label of the metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Total => "connections",
            Self::Address => "connections_per_ip",
        }
    }
}

/// Counts of open connections.
#[derive(Debug)]
pub(crate) struct Caps {
    max: usize,
    max_per_address: usize,
    /// Reverse proxies carry many clients: the cap per address spares them.
    spared: Vec<IpNet>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<u128, usize>,
}

impl Caps {
    /// No connection yet.
    pub(crate) fn new(max: usize, max_per_address: usize, spared: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self { max, max_per_address, spared, open: Mutex::default() })
    }

    /// A place for one connection, given back when dropped.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let key =
            if self.spared.iter().any(|network| network.contains(&address)) { None } else { Some(block(address)) };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.max {
            return Err(Full::Total);
        }
        if let Some(key) = key {
            let count = open.by_address.entry(key).or_default();
            if *count >= self.max_per_address {
                return Err(Full::Address);
            }
            *count += 1;
        }
        open.total += 1;
        Ok(Place { caps: Arc::clone(self), key })
    }
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Place {
    caps: Arc<Caps>,
    key: Option<u128>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.caps.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total -= 1;
        let Some(key) = self.key else { return };
        if let Some(count) = open.by_address.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&key);
            }
        }
    }
}

/// One IPv4 address, or the /64 that one IPv6 customer holds.
fn block(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

/// The same, spread over all bits. No two blocks become one.
pub(crate) fn network(address: IpAddr) -> u128 {
    // Any odd factor can be undone; this one is the golden ratio's.
    let spread = block(address).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    spread ^ spread >> 64
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_place_is_given_back_when_dropped() {
        let caps = Caps::new(10, 1, Vec::new());
        let home = IpAddr::from([127, 0, 0, 1]);

        let place = caps.enter(home).unwrap();
        let second = caps.enter(home).unwrap_err();
        drop(place);

        assert_eq!(second, Full::Address);
        assert!(caps.enter(home).is_ok());
    }

    #[test]
    fn one_ipv6_customer_is_one_address() {
        let caps = Caps::new(10, 1, Vec::new());

        let _place = caps.enter("2001:db8:1:2::1".parse().unwrap()).unwrap();

        assert_eq!(caps.enter("2001:db8:1:2:ffff::9".parse().unwrap()).unwrap_err(), Full::Address);
        assert!(caps.enter("2001:db8:1:3::1".parse().unwrap()).is_ok());
    }

    #[test]
    fn neighbours_are_far_from_each_other() {
        let networks = |third: u8| (0..=255).map(move |last| network(IpAddr::from([203, 0, third, last])));
        let six = (0..256).map(|subnet| network(IpAddr::from([0x2001, 0xdb8, 0, subnet, 0, 0, 0, 1])));

        let all: HashSet<_> = networks(1).chain(networks(2)).chain(six.clone()).collect();
        let parts: HashSet<_> = six.map(|network| network % 64).collect();

        assert_eq!(all.len(), 3 * 256);
        assert!(parts.len() > 48, "{}", parts.len());
    }

    #[test]
    fn proxies_count_only_towards_the_total() {
        let caps = Caps::new(2, 1, vec!["10.0.0.0/8".parse().unwrap()]);
        let proxy = IpAddr::from([10, 0, 0, 9]);

        let _places = [caps.enter(proxy).unwrap(), caps.enter(proxy).unwrap()];

        assert_eq!(caps.enter(proxy).unwrap_err(), Full::Total);
    }
}
