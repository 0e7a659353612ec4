//! From where and for what a key may be used. Pure.

use std::net::IpAddr;

use ipnet::IpNet;
use manifold_core::{Error, Result};
use serde::{Deserialize, Serialize};
use url::Url;

/// Entries of each list.
const MAX_ENTRIES: usize = 50;
/// HEAD is GET, and OPTIONS never comes with a key.
const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

/// From where and for what a key may be used. An empty list restricts nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restrictions {
    /// Networks such as `10.0.0.0/8`, and single addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<String>,
    /// Pages of which origins, such as `https://app.example`, exactly as browsers send it. Who sends none is refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<String>,
    /// `GET` (and with it HEAD), `POST`, `PUT`, `PATCH` or `DELETE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// First words of the permissions that operations need: `ai`, `keys` …
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<String>,
}

/// How a key is presented. What is not known is refused by restrictions that ask for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Visit<'v> {
    /// Address of the client.
    pub ip: Option<IpAddr>,
    /// The header `Origin`.
    pub origin: Option<&'v str>,
    /// The method; HEAD is GET.
    pub method: Option<&'v str>,
    /// First word of the permission that the operation needs.
    pub api: Option<&'v str>,
    /// It carries other requests, each of which is judged by its own method and API when its turn comes.
    pub carries: bool,
}

impl Restrictions {
    /// In the form in which they are kept.
    ///
    /// # Errors
    /// `RESTRICTION_INVALID`, naming the entry.
    pub fn read(mut self) -> Result<Self> {
        let lists = [("ips", &self.ips), ("origins", &self.origins), ("methods", &self.methods), ("apis", &self.apis)];
        for (name, list) in lists {
            if list.len() > MAX_ENTRIES {
                let message = format!("at most {MAX_ENTRIES} entries");
                return Err(Error::invalid("RESTRICTION_INVALID", message).at(format!("restrictions.{name}")));
            }
        }
        for (index, text) in self.ips.iter_mut().enumerate() {
            let wrong = || wrong("ips", index, "a network such as 10.0.0.0/8, or an address");
            *text = network(text).ok_or_else(wrong)?.to_string();
        }
        for (index, text) in self.origins.iter().enumerate() {
            if !is_origin(text) {
                return Err(wrong("origins", index, "an origin such as https://app.example, without a path"));
            }
        }
        for (index, text) in self.methods.iter().enumerate() {
            if !METHODS.contains(&text.as_str()) {
                return Err(wrong("methods", index, "one of GET, POST, PUT, PATCH and DELETE"));
            }
        }
        for (index, text) in self.apis.iter().enumerate() {
            let plain = |letter: u8| matches!(letter, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
            if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
                return Err(wrong("apis", index, "the name of an API, such as ai"));
            }
        }
        Ok(self)
    }

    /// Whether nothing is restricted.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Whether whoever is admitted by `other` is admitted by these, too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let within = |own: &[String], theirs: &[String], holds: fn(&str, &str) -> bool| {
            let held = |one: &String| own.iter().any(|of| holds(of, one));
            own.is_empty() || (!theirs.is_empty() && theirs.iter().all(held))
        };
        let same = |own: &str, one: &str| own == one;
        let inside = |own: &str, one: &str| network(own).zip(network(one)).is_some_and(|(own, one)| own.contains(&one));
        within(&self.ips, &other.ips, inside)
            && within(&self.origins, &other.origins, same)
            && within(&self.methods, &other.methods, same)
            && within(&self.apis, &other.apis, same)
    }

    /// Ready to be asked at every call; None if there are none.
    pub(crate) fn fence(self) -> Result<Option<Box<Fence>>> {
        if self.is_none() {
            return Ok(None);
        }
        let networks: Option<Vec<_>> = self.ips.iter().map(|text| network(text)).collect();
        let networks = networks.ok_or_else(|| Error::internal("a restriction of an API key is malformed"))?;
        Ok(Some(Box::new(Fence { networks, origins: self.origins, methods: self.methods, apis: self.apis })))
    }
}

/// Restrictions of a key, ready to be asked.
pub(crate) struct Fence {
    networks: Vec<IpNet>,
    origins: Vec<String>,
    methods: Vec<String>,
    apis: Vec<String>,
}

impl Fence {
    /// Whether the key may be used so.
    pub fn admits(&self, visit: &Visit<'_>) -> bool {
        let from = visit.ip.map(|ip| ip.to_canonical());
        (self.networks.is_empty() || from.is_some_and(|ip| self.networks.iter().any(|network| network.contains(&ip))))
            && names(&self.origins, visit.origin)
            && (visit.carries || (names(&self.methods, visit.method) && names(&self.apis, visit.api)))
    }
}

fn names(list: &[String], text: Option<&str>) -> bool {
    list.is_empty() || text.is_some_and(|text| list.iter().any(|entry| entry == text))
}

/// A network, or an address as the network of only itself. An IPv4 network written as IPv6 would hold nobody.
fn network(text: &str) -> Option<IpNet> {
    let network = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?.trunc();
    let mapped = matches!(network, IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some());
    (!mapped).then_some(network)
}

fn is_origin(text: &str) -> bool {
    text.len() <= 255 && Url::parse(text).is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == text)
}

fn wrong(list: &str, index: usize, expected: &str) -> Error {
    Error::invalid("RESTRICTION_INVALID", format!("this must be {expected}"))
        .at(format!("restrictions.{list}[{index}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    fn from(ip: &str) -> Visit<'static> {
        Visit { ip: ip.parse().ok(), ..Visit::default() }
    }

    #[test]
    fn narrower_restrictions_are_covered_and_wider_ones_are_not() {
        let of = |ips: &[&str], methods: &[&str]| Restrictions {
            ips: ips.iter().map(ToString::to_string).collect(),
            methods: methods.iter().map(ToString::to_string).collect(),
            ..Restrictions::default()
        };
        let own = of(&["10.0.0.0/8", "2001:db8::/32"], &["GET", "POST"]);
        for (other, covered) in [
            (own.clone(), true),
            (of(&["10.1.0.0/16"], &["GET"]), true),
            (of(&["10.1.2.3/32", "2001:db8:1::/48"], &["GET"]), true),
            (of(&["10.0.0.0/7"], &["GET"]), false),
            (of(&["10.1.0.0/16", "192.0.2.0/24"], &["GET"]), false),
            (of(&["10.1.0.0/16"], &["GET", "DELETE"]), false),
            (of(&["10.1.0.0/16"], &[]), false),
            (of(&[], &["GET"]), false),
            (Restrictions::default(), false),
        ] {
            assert_eq!(own.covers(&other), covered, "{other:?}");
        }
        assert!(Restrictions::default().covers(&own) && Restrictions::default().covers(&Restrictions::default()));
    }

    #[test]
    fn each_list_admits_what_it_names_and_refuses_what_is_not_known() {
        let ips = Restrictions { ips: list(&["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"]), ..Restrictions::default() };
        let origins = Restrictions { origins: list(&["https://app.example"]), ..Restrictions::default() };
        let methods = Restrictions { methods: list(&["GET"]), ..Restrictions::default() };
        let apis = Restrictions { apis: list(&["ai"]), ..Restrictions::default() };
        let origin = |origin| Visit { origin: Some(origin), ..Visit::default() };
        let method = |method| Visit { method: Some(method), ..Visit::default() };
        let api = |api| Visit { api: Some(api), ..Visit::default() };

        for (restrictions, visit, admitted) in [
            (&ips, from("10.255.0.1"), true),
            (&ips, from("::ffff:10.0.0.1"), true),
            (&ips, from("2001:db8::1"), true),
            (&ips, from("192.0.2.7"), true),
            (&ips, from("192.0.2.8"), false),
            (&ips, from("11.0.0.1"), false),
            (&ips, Visit::default(), false),
            (&origins, origin("https://app.example"), true),
            (&origins, origin("https://app.example.evil.example"), false),
            (&origins, origin("http://app.example"), false),
            (&origins, origin("null"), false),
            (&origins, Visit::default(), false),
            (&methods, method("GET"), true),
            (&methods, method("POST"), false),
            (&methods, Visit::default(), false),
            (&apis, api("ai"), true),
            (&apis, api("a"), false),
            (&apis, Visit::default(), false),
        ] {
            let fence = restrictions.clone().read().unwrap().fence().unwrap().unwrap();

            assert_eq!(fence.admits(&visit), admitted, "{restrictions:?} {visit:?}");
        }
    }

    #[test]
    fn all_lists_must_admit() {
        let both = Restrictions { ips: list(&["10.0.0.0/8"]), methods: list(&["GET"]), ..Restrictions::default() };
        let fence = both.fence().unwrap().unwrap();

        assert!(fence.admits(&Visit { method: Some("GET"), ..from("10.0.0.1") }));
        assert!(!fence.admits(&Visit { method: Some("POST"), ..from("10.0.0.1") }));
        assert!(!fence.admits(&Visit { method: Some("GET"), ..from("11.0.0.1") }));
        assert!(fence.admits(&Visit { method: Some("POST"), carries: true, ..from("10.0.0.1") }));
        assert!(!fence.admits(&Visit { carries: true, ..from("11.0.0.1") }));
        assert!(Restrictions::default().fence().unwrap().is_none());
    }

    #[test]
    fn malformed_entries_are_refused_by_name() {
        let none = Restrictions::default;
        for (restrictions, param) in [
            (Restrictions { ips: list(&["10.0.0.0/8", "10.0.0.0/33"]), ..none() }, "restrictions.ips[1]"),
            (Restrictions { ips: list(&["localhost"]), ..none() }, "restrictions.ips[0]"),
            (Restrictions { ips: list(&["::ffff:10.0.0.0/104"]), ..none() }, "restrictions.ips[0]"),
            (Restrictions { origins: list(&["https://app.example/"]), ..none() }, "restrictions.origins[0]"),
            (Restrictions { origins: list(&["*"]), ..none() }, "restrictions.origins[0]"),
            (Restrictions { origins: list(&["null"]), ..none() }, "restrictions.origins[0]"),
            (Restrictions { origins: list(&["https://App.example"]), ..none() }, "restrictions.origins[0]"),
            (Restrictions { methods: list(&["get"]), ..none() }, "restrictions.methods[0]"),
            (Restrictions { apis: list(&["ai.*"]), ..none() }, "restrictions.apis[0]"),
            (Restrictions { apis: vec!["ai".to_owned(); 51], ..none() }, "restrictions.apis"),
        ] {
            let error = restrictions.read().unwrap_err();

            assert_eq!((error.reason(), error.param()), ("RESTRICTION_INVALID", Some(param)));
        }
    }

    #[test]
    fn networks_are_kept_by_their_first_address() {
        let restrictions = Restrictions { ips: list(&["10.1.2.3/8", "192.0.2.7"]), ..Restrictions::default() };

        assert_eq!(restrictions.read().unwrap().ips, ["10.0.0.0/8", "192.0.2.7/32"]);
    }
}
