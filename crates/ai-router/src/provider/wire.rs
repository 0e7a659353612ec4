//! Lenient pieces of answers: what a vendor sends as another type than documented is read if it can be, else ignored.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use manifold_contract::ai::v1 as ai;
use manifold_core::Nanos;
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// More tokens than this are a mistake.
const MAX_TOKENS: u64 = 100_000_000;

/// Reads an answer. JSON is UTF-8: checked as a whole, it need not be checked word by word.
pub(super) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_str(std::str::from_utf8(bytes).map_err(serde_json::Error::custom)?)
}

/// Text, borrowed where it holds no escapes. Numbers are taken as their text, everything else as empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Text<'a>(pub Cow<'a, str>);

impl Text<'_> {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text of an optional field; absent = empty.
pub(super) fn or_empty<'a>(text: Option<&'a Text<'_>>) -> &'a str {
    text.map_or("", Text::as_str)
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor).map(Text)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("text")
    }
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(number.to_string()))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Cow::Owned(number.to_string()))
    }
    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(""))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(map).map(|_| Cow::Borrowed(""))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(sequence).map(|_| Cow::Borrowed(""))
    }
}

/// A count. Negative, broken, absurd or of another type = not told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Count(pub Option<u64>);

impl Count {
    /// As a number of tokens.
    pub fn tokens(self) -> Option<u64> {
        self.0.filter(|count| *count <= MAX_TOKENS)
    }

    /// As an index.
    pub fn index(self) -> Option<u32> {
        self.0.and_then(|count| u32::try_from(count).ok())
    }

    /// As seconds since 1970; 0 = not told.
    pub fn seconds(self) -> i64 {
        self.0.and_then(|count| i64::try_from(count).ok()).unwrap_or(0)
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor).map(Count)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Option<u64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a count")
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(number).ok())
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked before")]
    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok((0.0..1e15).contains(&number).then_some(number as u64))
    }
    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.parse().ok())
    }
    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_map(map).map(|_| None)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, sequence: A) -> Result<Self::Value, A::Error> {
        IgnoredAny.visit_seq(sequence).map(|_| None)
    }
}

/// Content that is text, or a list of blocks as Mistral writes thinking.
#[derive(Debug, PartialEq)]
pub(super) enum Content<'a> {
    Text(Cow<'a, str>),
    Blocks(Vec<Block<'a>>),
}

/// One block of such a list.
#[derive(Debug, Deserialize, PartialEq)]
pub(super) struct Block<'a> {
    #[serde(borrow, default)]
    pub text: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub thinking: Option<Content<'a>>,
}

impl Content<'_> {
    /// Gives every piece of text to `take`, with whether it is thinking.
    pub fn each(&self, is_thinking: bool, take: &mut impl FnMut(bool, &str)) {
        match self {
            Self::Text(text) if text.is_empty() => {}
            Self::Text(text) => take(is_thinking, text),
            Self::Blocks(blocks) => {
                for block in blocks {
                    if let Some(thinking) = &block.thinking {
                        thinking.each(true, take);
                    }
                    let text = or_empty(block.text.as_ref());
                    if !text.is_empty() {
                        take(is_thinking, text);
                    }
                }
            }
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContentVisitor;
        impl<'de> Visitor<'de> for ContentVisitor {
            type Value = Content<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("text or a list of blocks")
            }
            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Content::Text(Cow::Borrowed(text)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Text(Cow::Owned(text.to_owned())))
            }
            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Content::Text(Cow::Borrowed("")))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut blocks = Vec::new();
                while let Some(block) = sequence.next_element()? {
                    blocks.push(block);
                }
                Ok(Content::Blocks(blocks))
            }
        }
        deserializer.deserialize_any(ContentVisitor)
    }
}

/// A vector: numbers, or base64 of little-endian floats.
pub(super) struct Values(pub Vec<f32>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValuesVisitor;
        impl<'de> Visitor<'de> for ValuesVisitor {
            type Value = Vec<f32>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a vector")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let bytes = STANDARD.decode(text).map_err(E::custom)?;
                if bytes.len() % 4 != 0 {
                    return Err(E::custom("a float is cut"));
                }
                Ok(bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
                let mut values = Vec::with_capacity(sequence.size_hint().unwrap_or(1_024));
                while let Some(value) = sequence.next_element()? {
                    values.push(value);
                }
                Ok(values)
            }
        }
        deserializer.deserialize_any(ValuesVisitor).map(Values)
    }
}

/// Arguments of a call as text: a JSON string holds them, and so does an object in its place.
pub(super) fn arguments(raw: Option<&RawValue>) -> Cow<'_, str> {
    match raw.map(RawValue::get) {
        None | Some("null") => Cow::Borrowed(""),
        Some(text) if text.starts_with('"') => {
            serde_json::from_str::<Text<'_>>(text).map(|text| text.0).unwrap_or_default()
        }
        Some(text) => Cow::Borrowed(text),
    }
}

/// Counts that fit together. All zero is what a vendor sends that did not count.
pub(super) fn usage(input: Count, cached: Count, output: Count, reasoning: Count) -> Option<ai::Usage> {
    let (input, output) = (input.tokens(), output.tokens());
    if input.unwrap_or(0) == 0 && output.unwrap_or(0) == 0 {
        return None;
    }
    let (input, output) = (input.unwrap_or(0), output.unwrap_or(0));
    Some(ai::Usage {
        input_tokens: input,
        cached_tokens: cached.tokens().unwrap_or(0).min(input),
        output_tokens: output,
        reasoning_tokens: reasoning.tokens().unwrap_or(0).min(output),
    })
}

/// US dollars as decimal text, rounded half up to nano-USD; never through a float. None if it is no such amount.
pub(super) fn nanos(text: &str) -> Option<Nanos> {
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let exponent: i32 = exponent.parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = [whole, fraction].concat();
    if all.is_empty() || all.len() > 30 || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: i128 = all.parse().ok()?;
    // In pico-USD first, so that the one rounding is that of `Nanos`.
    let shift = 12 + exponent - i32::try_from(fraction.len()).ok()?;
    let pico = match u32::try_from(shift) {
        Ok(up) if up <= 24 => value.checked_mul(10_i128.pow(up))?,
        Ok(_) => return None,
        Err(_) if shift < -38 => 0,
        Err(_) => value / 10_i128.pow(shift.unsigned_abs()),
    };
    Some(Nanos::from_pico(pico))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_counts_of_every_type() {
        let rows = [
            ("5", Some(5)),
            ("5.0", Some(5)),
            ("\"5\"", Some(5)),
            ("-5", None),
            ("null", None),
            ("[1]", None),
            ("{}", None),
            ("1e300", None),
        ];

        for (text, expected) in rows {
            assert_eq!(serde_json::from_str::<Count>(text).unwrap().0, expected, "{text}");
        }
        assert_eq!(Count(Some(u64::MAX)).tokens(), None);
    }

    #[test]
    fn reads_dollars_without_a_float() {
        let rows = [
            ("0.000412", Some(412_000)),
            ("1.5e-07", Some(150)),
            ("0", Some(0)),
            ("2", Some(2_000_000_000)),
            ("1e-15", Some(0)),
            ("0.0000000005", Some(1)),
            ("-1", None),
            ("{}", None),
            ("1e99", None),
        ];

        for (text, expected) in rows {
            assert_eq!(nanos(text), expected.map(Nanos), "{text}");
        }
    }

    #[test]
    fn ignores_usage_that_counts_nothing() {
        let none = Count(None);

        assert_eq!(usage(Count(Some(0)), none, Count(Some(0)), none), None);
        assert_eq!(usage(Count(Some(3)), Count(Some(9)), none, none).unwrap().cached_tokens, 3);
    }
}
