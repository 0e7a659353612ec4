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
    #[schema(example = json!(["10.0.0.0/8", "2001:db8::/32"]), max_items = 50, format = "network")]
    ips: Vec<String>,
    /// Origins of pages, exactly as browsers send them. Calls without `Origin` are refused.
    #[schema(example = json!(["https://app.example"]), max_items = 50, format = "origin")]
    origins: Vec<String>,
    /// `GET` (and with it HEAD), `POST`, `PUT`, `PATCH` or `DELETE`.
    #[schema(example = json!(["GET", "POST"]), max_items = 50, pattern = "^(GET|POST|PUT|PATCH|DELETE)$")]
    methods: Vec<String>,
    /// First words of the permissions that operations need, see `x-permission` of each: `ai`, `keys` …
    #[schema(example = json!(["ai"]), max_items = 50, max_length = 64, pattern = "^[a-z0-9_-]+$")]
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
#[serde(tag = "every", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum KeyRefill {
    /// Once a day.
    Day {
        /// Who has less has so many afterwards.
        #[schema(example = 1_000, minimum = 0, maximum = 1_000_000_000_000_i64)]
        amount: i64,
        /// The hour, in UTC. Default: the first.
        #[schema(example = 0, minimum = 0, maximum = 23)]
        at: Option<u8>,
    },
    /// Once a month.
    Month {
        /// Who has less has so many afterwards.
        #[schema(example = 1_000, minimum = 0, maximum = 1_000_000_000_000_i64)]
        amount: i64,
        /// The day, in UTC. Default: the first.
        #[schema(example = 1, minimum = 1, maximum = 28)]
        at: Option<u8>,
    },
}

impl From<KeyRefill> for Refill {
    fn from(refill: KeyRefill) -> Self {
        match refill {
            KeyRefill::Day { amount, at } => Self { amount, every: Every::Day, at: at.unwrap_or(0) },
            KeyRefill::Month { amount, at } => Self { amount, every: Every::Month, at: at.unwrap_or(1) },
        }
    }
}

impl From<Refill> for KeyRefill {
    fn from(refill: Refill) -> Self {
        let (amount, at) = (refill.amount, Some(refill.at));
        match refill.every {
            Every::Day => Self::Day { amount, at },
            Every::Month => Self::Month { amount, at },
        }
    }
}

/// A time of RFC 3339.
pub(crate) fn read_time(text: &str) -> Result<Timestamp, Error> {
    Timestamp::parse(text).ok_or_else(|| {
        Error::invalid("EXPIRY_INVALID", "expires_at is a time such as 2027-01-31T12:00:00Z").at("expires_at")
    })
}
