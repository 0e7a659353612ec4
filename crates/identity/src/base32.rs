//! Base32 as people type it from a screen: the letters and digits of RFC 4648, without padding.

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Prints bytes.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(5));
    for chunk in bytes.chunks(5) {
        let mut block = [0; 8];
        block[3..3 + chunk.len()].copy_from_slice(chunk);
        let bits = u64::from_be_bytes(block);
        let letters =
            (0..(chunk.len() * 8).div_ceil(5)).map(|place| ALPHABET[(bits >> (35 - 5 * place)) as usize & 31]);
        text.extend(letters.map(char::from));
    }
    text
}

/// What somebody typed, as it was printed: without blanks and dashes, in capitals. None if it is no base32.
pub fn read(typed: &str) -> Option<String> {
    let letters = typed.chars().filter(|letter| !matches!(letter, ' ' | '-')).map(|letter| letter.to_ascii_uppercase());
    letters.map(|letter| ALPHABET.contains(&u8::try_from(letter).ok()?).then_some(letter)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_vectors_of_the_document() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn reads_what_people_type() {
        assert_eq!(read(" mzxw6-ytboi "), Some("MZXW6YTBOI".to_owned()));
        for wrong in ["MZXW1", "MZXW0", "ſ", "é", "MZXW6\u{130}"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
