//! What an answer costs. Prices are pico-USD per token; a cost is rounded once, to nano-USD.

use manifold_contract::ai::v1::Usage;
use manifold_core::Nanos;
use serde::de::{self, Deserialize, Deserializer};

use crate::config::Tier;

/// Pico-USD per token. USD per million tokens and pico-USD per token differ by 10⁶ exactly: $0.05/M = 50,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pico(pub i64);

impl Pico {
    /// Reads USD per million tokens as decimal text, exactly; None if it is not such a number.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 6 || !digits {
            return None;
        }
        format!("{whole}{fraction:0<6}").parse().ok().map(Self)
    }
}

impl<'de> Deserialize<'de> for Pico {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom(format!("{text} is no price in USD per million tokens")))
    }
}

/// Prices of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prices {
    /// None = unknown.
    pub input: Option<Pico>,
    /// None = as `input`.
    pub cached: Option<Pico>,
    /// None = unknown.
    pub output: Option<Pico>,
}

/// How sure a cost is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceState {
    /// By the list price.
    Priced,
    /// The tier costs nothing.
    Free,
    /// The provider said so.
    Reported,
    /// A price is missing; the cost is unknown and not zero.
    Unpriced,
}

impl PriceState {
    /// As it stands in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Priced => "priced",
            Self::Free => "free",
            Self::Reported => "reported",
            Self::Unpriced => "unpriced",
        }
    }
}

/// Cost of one attempt. What the provider reports wins over the list.
pub fn cost(prices: &Prices, tier: Tier, usage: &Usage, reported: Option<Nanos>) -> (Option<Nanos>, PriceState) {
    if let Some(reported) = reported {
        return (Some(reported), PriceState::Reported);
    }
    if tier != Tier::Paid {
        return (Some(Nanos(0)), PriceState::Free);
    }
    let cached = usage.cached_tokens.min(usage.input_tokens);
    let classes = [
        (usage.input_tokens - cached, prices.input),
        (cached, prices.cached.or(prices.input)),
        (usage.output_tokens, prices.output),
    ];
    let mut pico = 0i128;
    for (tokens, price) in classes {
        match price {
            Some(Pico(price)) => pico += i128::from(tokens) * i128::from(price),
            None if tokens == 0 => {}
            None => return (None, PriceState::Unpriced),
        }
    }
    (Some(Nanos::from_pico(pico)), PriceState::Priced)
}

/// Tokens of a text of `bytes` bytes, estimated: a quarter, rounded up.
pub fn estimate_tokens(bytes: usize) -> u64 {
    bytes.div_ceil(4) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRICES: Prices = Prices { input: Some(Pico(590_000)), cached: None, output: Some(Pico(790_000)) };

    fn usage(input: u64, cached: u64, output: u64) -> Usage {
        Usage { input_tokens: input, cached_tokens: cached, output_tokens: output, reasoning_tokens: 0 }
    }

    #[test]
    fn reads_prices_as_decimal_text() {
        assert_eq!(Pico::parse("0.05"), Some(Pico(50_000)));
        assert_eq!(Pico::parse("10"), Some(Pico(10_000_000)));
        assert_eq!(Pico::parse("0.000001"), Some(Pico(1)));
        for text in ["", ".5", "-1", "1e3", "0.0000001"] {
            assert_eq!(Pico::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sums_classes_exactly_and_rounds_once() {
        assert_eq!(cost(&PRICES, Tier::Paid, &usage(1, 0, 1), None), (Some(Nanos(1_380)), PriceState::Priced));

        let cheaper = Prices { cached: Some(Pico(1_500)), ..PRICES };
        assert_eq!(cost(&cheaper, Tier::Paid, &usage(1, 1, 0), None), (Some(Nanos(2)), PriceState::Priced));
    }

    #[test]
    fn a_missing_price_is_unknown_and_never_zero() {
        let half = Prices { output: None, ..PRICES };

        assert_eq!(cost(&half, Tier::Paid, &usage(1, 0, 1), None), (None, PriceState::Unpriced));
        assert_eq!(cost(&half, Tier::Paid, &usage(1, 0, 0), None).1, PriceState::Priced);
    }

    #[test]
    fn free_tiers_cost_nothing_and_reports_win() {
        assert_eq!(cost(&PRICES, Tier::Free, &usage(9, 0, 9), None), (Some(Nanos(0)), PriceState::Free));
        assert_eq!(cost(&PRICES, Tier::Paid, &usage(9, 0, 9), Some(Nanos(7))), (Some(Nanos(7)), PriceState::Reported));
    }
}
