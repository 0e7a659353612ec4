//! On which terms an API key works: its restrictions and credits, as clients see and write them.

use manifold_core::{Error, Timestamp};
use manifold_identity::{Every, Refill, Restrictions};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// From where and for what a key may be used. An empty list, or none, restricts nothing.
#[derive(Default, Deserialize, Serialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeyRestrictions {
    /// Networks, and single addresses, of clients.
    #[schema(example = json!(["10.0.0.0/8", "2001:db8::/32"]))]
    ips: Vec<String>,
    /// Origins of pages, exactly as browsers send them. Calls without `Origin` are refused.
    #[schema(example = json!(["https://app.example"]))]
    origins: Vec<String>,
    /// `GET` (and with it HEAD), `POST`, `PUT`, `PATCH` or `DELETE`.
    #[schema(example = json!(["GET", "POST"]))]
    methods: Vec<String>,
    /// First words of the permissions that operations need, see `x-permission` of each: `ai`, `keys` …
    #[schema(example = json!(["ai"]))]
    apis: Vec<String>,
}

impl From<KeyRestrictions> for Restrictions {
    fn from(body: KeyRestrictions) -> Self {
        let KeyRestrictions { ips, origins, methods, apis } = body;
        Self { ips, origins, methods, apis }
    }
}

impl From<Restrictions> for KeyRestrictions {
    fn from(restrictions: Restrictions) -> Self {
        let Restrictions { ips, origins, methods, apis } = restrictions;
        Self { ips, origins, methods, apis }
    }
}

/// When credits are filled up, and how far.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyRefill {
    /// Who has less has so many afterwards.
    #[schema(example = 1_000, minimum = 0)]
    amount: i64,
    /// `day` or `month`.
    #[schema(example = "day")]
    every: String,
    /// Of a day the hour, 0 to 23; of a month the day, 1 to 28. In UTC. Default: the first.
    #[schema(example = 0)]
    at: Option<u8>,
}

impl KeyRefill {
    /// As identity understands it.
    pub(crate) fn read(&self) -> Result<Refill, Error> {
        let every = Every::parse(&self.every)?;
        Ok(Refill { amount: self.amount, every, at: self.at.unwrap_or((every == Every::Month).into()) })
    }
}

impl From<Refill> for KeyRefill {
    fn from(refill: Refill) -> Self {
        Self { amount: refill.amount, every: refill.every.name().to_owned(), at: Some(refill.at) }
    }
}

/// A time of RFC 3339.
pub(crate) fn read_time(text: &str) -> Result<Timestamp, Error> {
    Timestamp::parse(text).ok_or_else(|| {
        Error::invalid("EXPIRY_INVALID", "expires_at is a time such as 2027-01-31T12:00:00Z").at("expires_at")
    })
}
