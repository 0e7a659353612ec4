//! Who answered and what it took, as `x-manifold-*` headers.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use manifold_contract::ai::v1::Served;
use manifold_core::{Decimal, Nanos};

use crate::headers::value;

const PROVIDER: HeaderName = HeaderName::from_static("x-manifold-provider");
const MODEL: HeaderName = HeaderName::from_static("x-manifold-model");
const REQUESTED_MODEL: HeaderName = HeaderName::from_static("x-manifold-requested-model");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-manifold-attempts");
const COST: HeaderName = HeaderName::from_static("x-manifold-cost");
const OVERHEAD: HeaderName = HeaderName::from_static("x-manifold-overhead-ms");
const DEGRADED: HeaderName = HeaderName::from_static("x-manifold-degraded");
const DATA_USE: HeaderName = HeaderName::from_static("x-manifold-data-use");
const MAX_DEGRADED: usize = 1_024;

/// The name of the model that answered: `provider/model`.
pub(crate) fn model(served: &Served) -> String {
    let mut name = String::with_capacity(served.provider.len() + served.model.len() + 1);
    name.push_str(&served.provider);
    name.push('/');
    name.push_str(&served.model);
    name
}

/// What is known when an answer begins.
pub(crate) fn describe(headers: &mut HeaderMap, served: &Served, requested: &str, declared: &[&'static str]) {
    headers.insert(PROVIDER, value(served.provider.as_str()));
    headers.insert(MODEL, value(served.model.as_str()));
    headers.insert(REQUESTED_MODEL, value(requested));
    headers.insert(ATTEMPTS, HeaderValue::from(served.n_attempts));
    if !served.data_use.is_empty() {
        headers.insert(DATA_USE, value(served.data_use.as_str()));
    }
    let degraded = degraded(served, declared);
    if !degraded.is_empty() {
        headers.insert(DEGRADED, value(degraded));
    }
}

/// What is known when an answer is complete.
pub(crate) fn account(headers: &mut HeaderMap, served: &Served, busy: Duration) {
    headers.insert(COST, value(cost(served)));
    headers.insert(OVERHEAD, value(&*milliseconds(busy)));
}

/// Dollars with six decimals, `free` or `unpriced`.
pub(crate) fn cost(served: &Served) -> String {
    match (served.price_state.as_str(), served.cost_nanos) {
        ("free", _) => "free".to_owned(),
        (_, Some(nanos)) => Nanos(nanos).to_string(),
        (_, None) => "unpriced".to_owned(),
    }
}

/// Three decimals.
pub(crate) fn milliseconds(duration: Duration) -> Decimal {
    Decimal::new(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX), 3)
}

/// Words of what was left out or mended, each once, cut to what a header may hold.
pub(crate) fn degraded(served: &Served, declared: &[&'static str]) -> String {
    let mut line = String::new();
    for (index, word) in declared.iter().copied().chain(served.degraded.iter().map(String::as_str)).enumerate() {
        let again = index >= declared.len() && declared.contains(&word);
        if again || line.len() + word.len() + 2 > MAX_DEGRADED {
            continue;
        }
        if !line.is_empty() {
            line.push_str(", ");
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_price_is_never_zero() {
        let priced = Served { cost_nanos: Some(412_400), price_state: "priced".to_owned(), ..Served::default() };
        let free = Served { cost_nanos: Some(0), price_state: "free".to_owned(), ..Served::default() };
        let unpriced = Served { price_state: "unpriced".to_owned(), ..Served::default() };

        assert_eq!([cost(&priced), cost(&free), cost(&unpriced)], ["0.000412", "free", "unpriced"]);
    }

    #[test]
    fn what_was_left_out_is_said_once_and_in_bounds() {
        let served = Served { degraded: vec!["seed".to_owned(), "schema".to_owned()], ..Served::default() };
        let endless = Served { degraded: vec!["word".to_owned(); 1_000], ..Served::default() };

        assert_eq!(degraded(&served, &["schema"]), "schema, seed");
        assert!(degraded(&endless, &[]).len() <= MAX_DEGRADED);
    }

    #[test]
    fn our_own_time_has_three_decimals() {
        assert_eq!(&*milliseconds(Duration::from_micros(12_034)), "12.034");
    }
}
