//! Money of AI calls: nano-USD in rows, so that sums of tiny costs are exact.

use std::fmt;

use crate::Decimal;

/// Nano-USD. One US dollar is 1,000,000,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub i64);

impl Nanos {
    /// Units times pico-USD per unit, summed exactly and rounded half up once.
    pub fn from_pico(pico: i128) -> Self {
        Self(i64::try_from((pico + 500).div_euclid(1_000)).unwrap_or(i64::MAX))
    }

    /// Sum that stops at the largest value instead of wrapping.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

/// US dollars with six decimals, rounded half up: `0.000412`.
impl fmt::Display for Nanos {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&Decimal::new(self.0.saturating_add(500).div_euclid(1_000), 6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_half_up_once() {
        assert_eq!(Nanos::from_pico(1_499), Nanos(1));
        assert_eq!(Nanos::from_pico(1_500), Nanos(2));
        assert_eq!(Nanos::from_pico(i128::MAX / 2), Nanos(i64::MAX));
    }

    #[test]
    fn prints_dollars_with_six_decimals() {
        assert_eq!(Nanos(412_400).to_string(), "0.000412");
        assert_eq!(Nanos(1_500_000_500).to_string(), "1.500001");
        assert_eq!(Nanos(0).to_string(), "0.000000");
    }
}
