//! The printed form of an API key: `mfk_(live|test)_<lookup>_<secret><crc>`, 69 characters. Pure: no randomness, no hashing.
//!
//! The checksum lets a typing error and a guess be refused without a look-up; the lookup finds the row; the secret proves
//! that the caller holds the key.

use std::str;

use manifold_core::Secret;

/// Characters of the lookup.
pub const LOOKUP_LENGTH: usize = 10;
/// Characters of the secret: 32 bytes in base62.
const SECRET_LENGTH: usize = 43;
/// Characters of the checksum: 32 bits in base62.
const CHECKSUM_LENGTH: usize = 6;
/// Characters of a whole key.
const LENGTH: usize = PREFIX_LENGTH + LOOKUP_LENGTH + 1 + SECRET_LENGTH + CHECKSUM_LENGTH;
/// Characters of `mfk_live_`.
const PREFIX_LENGTH: usize = 9;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Whether a key works on real things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// Real traffic.
    Live,
    /// Traffic of tests.
    Test,
}

impl Environment {
    /// `live` or `test`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }

    /// Reads [`Environment::name`].
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Live, Self::Test].into_iter().find(|environment| environment.name() == name)
    }
}

/// The public part of a key, by which its row is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lookup([u8; LOOKUP_LENGTH]);

impl Lookup {
    /// From five bits of each byte, most significant ones ignored.
    pub fn from_random(bytes: [u8; LOOKUP_LENGTH]) -> Self {
        Self(bytes.map(|byte| CROCKFORD[usize::from(byte & 31)]))
    }

    /// Reads the ten characters.
    pub fn parse(text: &str) -> Option<Self> {
        let letters: [u8; LOOKUP_LENGTH] = text.as_bytes().try_into().ok()?;
        letters.iter().all(|letter| is_crockford(*letter)).then_some(Self(letters))
    }

    /// The ten characters.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

/// A key whose form and checksum are right; whether it exists is another question.
#[derive(Clone, Copy)]
pub struct Parsed<'a> {
    /// What the key claims to be for.
    pub environment: Environment,
    /// Where its row is.
    pub lookup: Lookup,
    /// The 43 characters that are hashed.
    pub secret: &'a str,
}

/// Reads a key; None unless length, form and checksum are right.
pub fn parse_key(text: &str) -> Option<Parsed<'_>> {
    if text.len() != LENGTH || !text.is_ascii() {
        return None;
    }
    let (prefix, rest) = text.split_at(PREFIX_LENGTH);
    let environment = Environment::parse(prefix.strip_prefix("mfk_")?.strip_suffix('_')?)?;
    let lookup = Lookup::parse(&rest[..LOOKUP_LENGTH])?;
    let (secret, sum) = rest[LOOKUP_LENGTH..].strip_prefix('_')?.split_at(SECRET_LENGTH);
    let (body, _) = text.split_at(LENGTH - CHECKSUM_LENGTH);
    if !secret.bytes().all(|letter| letter.is_ascii_alphanumeric()) || checksum(body) != sum.as_bytes() {
        return None;
    }
    Some(Parsed { environment, lookup, secret })
}

/// Prints a key.
pub fn format_key(environment: Environment, lookup: Lookup, secret: &[u8; 32]) -> Secret<String> {
    let mut text = String::with_capacity(LENGTH);
    text.push_str(&prefix(environment, lookup));
    text.push('_');
    text.extend(base62::<SECRET_LENGTH>(secret).map(char::from));
    let sum = checksum(&text);
    text.extend(sum.map(char::from));
    Secret::new(text)
}

/// What may be shown of a key, enough to recognise it: `mfk_live_0123456789`.
pub fn prefix(environment: Environment, lookup: Lookup) -> String {
    format!("mfk_{}_{}", environment.name(), lookup.as_str())
}

/// CRC-32 (IEEE) in base62.
fn checksum(body: &str) -> [u8; CHECKSUM_LENGTH] {
    base62(&crc32fast::hash(body.as_bytes()).to_be_bytes())
}

/// `bytes` as one big-endian number in base62, padded with zeros to `N` digits. `N` must be large enough.
fn base62<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut digits = [0u8; N];
    for byte in bytes {
        let mut carry = u32::from(*byte);
        for digit in digits.iter_mut().rev() {
            carry += u32::from(*digit) << 8;
            *digit = (carry % 62) as u8;
            carry /= 62;
        }
    }
    digits.map(|digit| BASE62[usize::from(digit)])
}

fn is_crockford(letter: u8) -> bool {
    matches!(letter, b'0'..=b'9' | b'a'..=b'z') && !matches!(letter, b'i' | b'l' | b'o' | b'u')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VECTOR: &str = "mfk_live_0123456789_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3qIAiy";

    fn vector() -> (Lookup, [u8; 32]) {
        (Lookup::parse("0123456789").unwrap(), std::array::from_fn(|index| index as u8))
    }

    #[test]
    fn prints_the_published_vector() {
        let (lookup, secret) = vector();

        let key = format_key(Environment::Live, lookup, &secret);

        assert_eq!(key.expose(), VECTOR);
    }

    #[test]
    fn reads_the_published_vector() {
        let parsed = parse_key(VECTOR).unwrap();

        assert_eq!(parsed.environment, Environment::Live);
        assert_eq!(parsed.lookup.as_str(), "0123456789");
        assert_eq!(parsed.secret, &VECTOR[20..63]);
    }

    #[test]
    fn the_largest_secret_fits() {
        let key = format_key(Environment::Test, Lookup::from_random([255; 10]), &[255; 32]);

        assert_eq!(key.expose().len(), LENGTH);
        assert!(key.expose().starts_with("mfk_test_zzzzzzzzzz_"));
        assert!(parse_key(key.expose()).is_some());
    }

    #[test]
    fn refuses_other_lengths_prefixes_and_alphabets() {
        let with_sum = |body: &str| format!("{body}{}", String::from_utf8(checksum(body).to_vec()).unwrap());
        let secret = "003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf";
        assert_eq!(with_sum(&format!("mfk_live_0123456789_{secret}")), VECTOR);

        for text in [
            String::new(),
            VECTOR[..68].to_owned(),
            format!("{VECTOR}0"),
            format!(" {}", &VECTOR[..68]),
            with_sum(&format!("mfk_prod_0123456789_{secret}")),
            with_sum(&format!("mfx_live_0123456789_{secret}")),
            with_sum(&format!("mfk_live-0123456789_{secret}")),
            with_sum(&format!("mfk_live_012345678i_{secret}")),
            with_sum(&format!("mfk_live_012345678A_{secret}")),
            with_sum(&format!("mfk_live_0123456789-{secret}")),
            with_sum(&format!("mfk_live_0123456789_{}", secret.replace('a', "-"))),
            with_sum(&format!("mfk_live_0123456789_{}é", &secret[..41])),
        ] {
            assert!(parse_key(&text).is_none(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_prints(live: bool, lookup: [u8; 10], secret: [u8; 32]) {
            let environment = if live { Environment::Live } else { Environment::Test };
            let lookup = Lookup::from_random(lookup);

            let key = format_key(environment, lookup, &secret);

            let parsed = parse_key(key.expose()).unwrap();
            prop_assert_eq!((parsed.environment, parsed.lookup), (environment, lookup));
            prop_assert_eq!(parsed.secret.as_bytes(), base62::<SECRET_LENGTH>(&secret));
        }

        #[test]
        fn one_changed_character_is_noticed(secret: [u8; 32], position in 0..LENGTH, letter in "[ -~]") {
            let (lookup, _) = vector();
            let key = format_key(Environment::Live, lookup, &secret);
            let mut changed = key.expose().clone();
            changed.replace_range(position..=position, &letter);
            prop_assume!(&changed != key.expose());

            prop_assert!(parse_key(&changed).is_none());
        }

        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,80}") {
            let _ = parse_key(&text);
        }

        #[test]
        fn different_secrets_print_differently(first: [u8; 32], second: [u8; 32]) {
            prop_assume!(first != second);

            prop_assert_ne!(base62::<SECRET_LENGTH>(&first), base62::<SECRET_LENGTH>(&second));
        }
    }
}
