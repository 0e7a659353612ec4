//! Ids: UUIDv7 inside, a prefix and 26 characters of Crockford base32 outside.

use std::fmt;

use uuid::Uuid;

use crate::Clock;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Prints a UUID as `prefix_` and 26 characters of lower-case Crockford base32, most significant bits first.
pub fn encode_id(prefix: &str, id: Uuid) -> String {
    let mut text = Vec::with_capacity(prefix.len() + 27);
    text.extend_from_slice(prefix.as_bytes());
    text.push(b'_');
    text.extend_from_slice(&digits(id));
    String::from_utf8(text).expect("the prefix is text and the alphabet is ASCII")
}

/// Every two digits, by their ten bits.
static PAIRS: [[u8; 2]; 1024] = {
    let mut pairs = [[0; 2]; 1024];
    let mut bits = 0;
    while bits < pairs.len() {
        pairs[bits] = [ALPHABET[bits >> 5], ALPHABET[bits & 31]];
        bits += 1;
    }
    pairs
};

fn digits(id: Uuid) -> [u8; 26] {
    let value = id.as_u128();
    // Shifting all 128 bits for every digit costs ten times as much.
    let (high, middle, low) = ((value >> 70) as u64, (value >> 60) as u64, value as u64);
    let mut digits = [0; 26];
    let mut write = |place: usize, bits: u64| digits[2 * place..][..2].copy_from_slice(&PAIRS[bits as usize & 1023]);
    for place in 0..6 {
        write(place, high >> (50 - 10 * place));
        write(place + 7, low >> (50 - 10 * place));
    }
    write(6, middle);
    digits
}

fn ascii(digits: &[u8]) -> &str {
    std::str::from_utf8(digits).expect("the alphabet is ASCII")
}

/// Reads what [`encode_id`] printed; None for another prefix, another length or a foreign character.
pub fn decode_id(prefix: &str, text: &str) -> Option<Uuid> {
    let digits = text.strip_prefix(prefix)?.strip_prefix('_')?.as_bytes();
    if digits.len() != 26 || digits[0] > b'7' {
        return None;
    }
    let mut value = 0u128;
    for digit in digits {
        let index = ALPHABET.iter().position(|letter| letter == digit)?;
        value = value << 5 | index as u128;
    }
    Some(Uuid::from_u128(value))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub Uuid);

        impl $name {
            /// What stands before the underscore.
            pub const PREFIX: &str = $prefix;

            /// Reads the printed form.
            pub fn parse(text: &str) -> Option<Self> {
                decode_id($prefix, text).map(Self)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                encode_id($prefix, id.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [b'_'; $prefix.len() + 27];
                text[..$prefix.len()].copy_from_slice($prefix.as_bytes());
                text[$prefix.len() + 1..].copy_from_slice(&digits(self.0));
                formatter.write_str(ascii(&text))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }
    };
}

id!(/** A tenant: everything belongs to one. */ TenantId, "ten");
id!(/** An API key. */ KeyId, "key");
id!(/** Somebody for whom API keys are. */ OwnerId, "own");
id!(/** A person. */ UserId, "usr");
id!(/** What a person is logged in by. */ SessionId, "ses");
id!(/** A second factor of a person. */ FactorId, "fac");
id!(/** An invitation into a tenant. */ InvitationId, "inv");
id!(/** What looks like an attack. */ IncidentId, "inc");
id!(/** A network that is kept out. */ BlockId, "blk");
id!(/** A role that a tenant made. */ RoleId, "rol");
id!(/** A secret of a tenant. */ SecretId, "sec");
id!(/** One request of a client. */ RequestId, "req");
id!(/** One event. */ EventId, "evt");
id!(/** A job. */ JobId, "job");

/// Makes ids. Ordered by the clock to the millisecond, random below.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    clock: Clock,
}

impl Ids {
    /// Ids whose time comes from `clock`.
    pub fn new(clock: Clock) -> Self {
        Self { clock }
    }

    /// The next UUIDv7 (RFC 9562).
    pub fn next(&self) -> Uuid {
        let now = self.clock.now().micros();
        uuid::Builder::from_unix_timestamp_millis((now / 1_000).unsigned_abs(), &random_tail()).into_uuid()
    }
}

/// Ten random bytes from the thread's own generator, so that no id costs a system call.
fn random_tail() -> [u8; 10] {
    let source = Uuid::new_v4();
    let bytes = source.as_bytes();
    // Bytes 6 and 8 of a version 4 id hold its version and variant: those around them are random in every bit.
    let mut tail = [0; 10];
    tail[..6].copy_from_slice(&bytes[..6]);
    tail[6..].copy_from_slice(&bytes[12..]);
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_the_published_vector_and_reads_it_back() {
        let id = Uuid::parse_str("01890a5d-ac96-774b-bcce-b302099a8057").unwrap();

        let text = encode_id("key", id);

        assert_eq!(text, "key_01h455vb4pex5vsknk084sn02q");
        assert_eq!(decode_id("key", &text), Some(id));
    }

    #[test]
    fn every_bit_has_its_place() {
        for bit in 0..128 {
            let id = Uuid::from_u128(1 << bit);

            assert_eq!(decode_id("key", &encode_id("key", id)), Some(id), "{bit}");
            assert_eq!(KeyId(id).to_string(), String::from(KeyId(id)));
        }
    }

    #[test]
    fn refuses_foreign_prefixes_lengths_and_letters() {
        for text in [
            "ten_01h455vb4pex5vsknk084sn02q",
            "key_01h455vb4pex5vsknk084sn02",
            "key_81h455vb4pex5vsknk084sn02q",
            "key_01h455vb4pex5vsknk084sn02l",
        ] {
            assert_eq!(decode_id("key", text), None, "{text}");
        }
    }

    #[test]
    fn ids_carry_the_time_of_their_clock_and_do_not_repeat() {
        let clock = Clock::manual(crate::Timestamp::from_micros(1_763_629_200_000_000));
        let ids = Ids::new(clock);

        let (first, second) = (ids.next(), ids.next());

        assert_ne!(first, second);
        assert_eq!(first.get_version_num(), 7);
        assert_eq!(first.as_u128() >> 80, 1_763_629_200_000);
    }
}
