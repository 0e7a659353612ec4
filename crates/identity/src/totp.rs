//! Codes of six digits that change every half minute (RFC 6238, with HMAC-SHA-1 as every app has it). Pure.

use hmac::{Hmac, KeyInit, Mac};
use manifold_core::Timestamp;
use sha1::Sha1;
use subtle::ConstantTimeEq;

/// Bytes of a secret: as long as the hash, which RFC 4226 recommends.
pub const SECRET: usize = 20;
/// Seconds that a code is shown.
const STEP: i64 = 30;

/// The step of which `code` is the code: the present one, the last or the next; None if it is none of theirs.
pub fn find_step(secret: &[u8], code: &str, now: Timestamp) -> Option<i64> {
    let present = now.seconds().div_euclid(STEP);
    let matches = |step: &i64| bool::from(self::code(secret, *step).as_bytes().ct_eq(code.as_bytes()));
    (present - 1..=present + 1).filter(matches).max()
}

/// The code of a step.
fn code(secret: &[u8], step: i64) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret).expect("any length of key will do");
    mac.update(&step.to_be_bytes());
    let hash = mac.finalize().into_bytes();
    let at = usize::from(hash[hash.len() - 1] & 15);
    let number = u32::from_be_bytes([hash[at], hash[at + 1], hash[at + 2], hash[at + 3]]) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: &[u8] = b"12345678901234567890";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn codes_are_those_of_the_document() {
        for (seconds, expected) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(SEED, seconds / STEP), expected);
            assert_eq!(find_step(SEED, expected, at(seconds)), Some(seconds / STEP));
        }
    }

    #[test]
    fn a_code_works_one_step_early_and_late_and_not_two() {
        let present = 1_234_567_890 / STEP;
        for (step, found) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let code = code(SEED, present + step);

            assert_eq!(find_step(SEED, &code, at(1_234_567_890)).is_some(), found, "{step}");
        }
    }

    #[test]
    fn what_is_no_code_is_of_no_step() {
        for wrong in ["", "005925", "5924", "0005924", " 005924", "005924\0", "٠٠٥٩٢٤"] {
            assert_eq!(find_step(SEED, wrong, at(1_234_567_890)), None, "{wrong}");
        }
        assert_eq!(find_step(b"another secret", "005924", at(1_234_567_890)), None);
    }
}
