//! How something is sealed under a key: `0x01 ‖ nonce ‖ AES-256-GCM(key, text, associated data)`. The associated data of a
//! sealed key is `mfw1|<owner>|<version>|<master id>`. A value also names the version of the tenant's key:
//! `0x01 ‖ version ‖ nonce ‖ …`, big-endian, with `mfv1|<tenant>|<table>|<column>|<row>|<version>`. Pure: the nonce comes
//! from outside, nothing is read or written.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use manifold_core::{Secret, TenantId};
use uuid::Uuid;

use crate::store::system::SystemKey;

/// 32 bytes that open something.
pub type KeyBytes = Secret<[u8; 32]>;

/// The only layout there is so far.
const LAYOUT: u8 = 1;
const NONCE_LENGTH: usize = 12;

/// What a wrapped key belongs to. It is part of the seal: a wrapped key that was moved to another row does not open.
#[derive(Clone, Copy, Debug)]
pub struct Label<'a> {
    /// The tenant, or the name of a system key. Must not contain `|`.
    pub owner: &'a str,
    /// Which of the owner's keys.
    pub version: i32,
    /// The master key that seals it. Must not contain `|`.
    pub master_id: &'a str,
}

/// Where a sealed value stands. It is part of the seal: a value that was moved elsewhere does not open.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Whose it is; nil if no tenant's.
    pub tenant: TenantId,
    /// Table. Must not contain `|`.
    pub table: &'a str,
    /// Column. Must not contain `|`.
    pub column: &'a str,
    /// Id of the row.
    pub row: Uuid,
}

/// Seals `key` under `master`. The nonce must never be used again with this master key.
pub fn wrap(master: &KeyBytes, key: &KeyBytes, nonce: [u8; NONCE_LENGTH], label: Label<'_>) -> Vec<u8> {
    seal(master, key.expose(), nonce, label.associated_data().as_bytes())
}

/// Opens what [`wrap`] sealed; None for another master key, another label or altered bytes.
pub fn unwrap(master: &KeyBytes, wrapped: &[u8], label: Label<'_>) -> Option<KeyBytes> {
    let opened = open(master, wrapped, label.associated_data().as_bytes())?;
    opened.expose().as_slice().try_into().ok().map(Secret::new)
}

/// Seals `text`, which belongs to `context` and nowhere else. The nonce must never be used again with this key.
pub fn seal(key: &KeyBytes, text: &[u8], nonce: [u8; NONCE_LENGTH], context: &[u8]) -> Vec<u8> {
    encrypt(&[LAYOUT], key, text, nonce, context)
}

/// Opens what [`seal`] sealed; None for another key, another context or altered bytes.
pub fn open(key: &KeyBytes, sealed: &[u8], context: &[u8]) -> Option<Secret<Vec<u8>>> {
    decrypt(key, sealed.strip_prefix(&[LAYOUT])?, context)
}

/// Seals a value of `place` under version `version` of its tenant's key. The nonce must never be used again with this key.
pub fn seal_value(key: &KeyBytes, version: i32, text: &[u8], nonce: [u8; NONCE_LENGTH], place: Place<'_>) -> Vec<u8> {
    encrypt(&head(version), key, text, nonce, place.associated_data(version).as_bytes())
}

/// Which version of the tenant's key seals this value; None if it is no sealed value.
pub fn version_of(sealed: &[u8]) -> Option<i32> {
    let version = sealed.strip_prefix(&[LAYOUT])?.first_chunk()?;
    Some(i32::from_be_bytes(*version)).filter(|version| *version > 0)
}

/// Opens what [`seal_value`] sealed; None for another key, another place or altered bytes.
pub fn open_value(key: &KeyBytes, sealed: &[u8], place: Place<'_>) -> Option<Secret<Vec<u8>>> {
    let version = version_of(sealed)?;
    decrypt(key, sealed.strip_prefix(&head(version))?, place.associated_data(version).as_bytes())
}

/// How every value under version `version` begins.
pub fn head(version: i32) -> [u8; 5] {
    let [first, second, third, fourth] = version.to_be_bytes();
    [LAYOUT, first, second, third, fourth]
}

fn encrypt(head: &[u8], key: &KeyBytes, text: &[u8], nonce: [u8; NONCE_LENGTH], context: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: text, aad: context };
    let sealed = cipher(key).encrypt(&Nonce::from(nonce), payload).expect("what is sealed is far below 64 GiB");
    [head, nonce.as_slice(), sealed.as_slice()].concat()
}

fn decrypt(key: &KeyBytes, sealed: &[u8], context: &[u8]) -> Option<Secret<Vec<u8>>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LENGTH>()?;
    let payload = Payload { msg: sealed, aad: context };
    cipher(key).decrypt(&Nonce::from(*nonce), payload).ok().map(Secret::new)
}

impl Place<'_> {
    fn associated_data(&self, version: i32) -> String {
        let Self { tenant, table, column, row } = self;
        debug_assert!(!table.contains('|') && !column.contains('|'));
        format!("mfv1|{}|{table}|{column}|{row}|{version}", tenant.0)
    }
}

impl<'a> Label<'a> {
    /// Of a system key.
    pub fn of(key: &'a SystemKey) -> Self {
        Self { owner: &key.name, version: key.version, master_id: &key.master_id }
    }

    fn associated_data(&self) -> String {
        debug_assert!(!self.owner.contains('|') && !self.master_id.contains('|'));
        format!("mfw1|{}|{}|{}", self.owner, self.version, self.master_id)
    }
}

fn cipher(key: &KeyBytes) -> Aes256Gcm {
    Aes256Gcm::new(key.expose().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: Label<'_> = Label { owner: "01890a5d-ac96-774b-bcce-b302099a8057", version: 3, master_id: "k1" };

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn sealed() -> (KeyBytes, Vec<u8>) {
        let master = Secret::new([0x11; 32]);
        let wrapped = wrap(&master, &Secret::new([0x22; 32]), [0xaa; 12], LABEL);
        (master, wrapped)
    }

    #[test]
    fn seals_the_published_vector() {
        let (_, wrapped) = sealed();

        let expected = concat!(
            "01aaaaaaaaaaaaaaaaaaaaaaaa7bcc3f47277a60ba94b2d1980475212b",
            "94534f33da81e885658f6107f44fd053615e983f7803ddeab19a3e9f4343495b"
        );
        assert_eq!(hex(&wrapped), expected);
    }

    const PLACE: Place<'_> = Place {
        tenant: TenantId(Uuid::from_u128(0x01890a5d_ac96_774b_bcce_b302099a8057)),
        table: "connection",
        column: "secret",
        row: Uuid::from_u128(0x01890a5d_ac96_7000_8000_000000000001),
    };

    fn value() -> (KeyBytes, Vec<u8>) {
        let key = Secret::new([0x22; 32]);
        let sealed = seal_value(&key, 3, b"sk-canary-1234", std::array::from_fn(|index| index as u8), PLACE);
        (key, sealed)
    }

    #[test]
    fn seals_the_published_value() {
        let (_, sealed) = value();

        let expected = concat!(
            "0100000003000102030405060708090a0b35abba7cda43e9b6",
            "411b24bb7768f5c0dda2064d99aa49e0fda0fecb413b"
        );
        assert_eq!(hex(&sealed), expected);
    }

    #[test]
    fn a_value_opens_in_its_place_and_nowhere_else() {
        let (key, sealed) = value();

        assert_eq!(version_of(&sealed), Some(3));
        assert_eq!(open_value(&key, &sealed, PLACE).unwrap().expose(), b"sk-canary-1234");
        for place in [
            Place { tenant: TenantId(Uuid::nil()), ..PLACE },
            Place { table: "factor", ..PLACE },
            Place { column: "token", ..PLACE },
            Place { row: Uuid::nil(), ..PLACE },
        ] {
            assert!(open_value(&key, &sealed, place).is_none(), "{place:?}");
        }
        assert!(open_value(&Secret::new([0x23; 32]), &sealed, PLACE).is_none());
        for position in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[position] ^= 1;
            assert!(open_value(&key, &altered, PLACE).is_none(), "byte {position}");
            assert!(open_value(&key, &sealed[..position], PLACE).is_none(), "cut at {position}");
        }
    }

    #[test]
    fn opens_what_it_sealed() {
        let (master, wrapped) = sealed();

        let opened = unwrap(&master, &wrapped, LABEL).unwrap();

        assert_eq!(opened.expose(), &[0x22; 32]);
    }

    #[test]
    fn another_master_key_or_label_opens_nothing() {
        let (master, wrapped) = sealed();

        assert!(unwrap(&Secret::new([0x12; 32]), &wrapped, LABEL).is_none());
        for label in [
            Label { owner: "01890a5d-ac96-7000-8000-000000000001", ..LABEL },
            Label { version: 4, ..LABEL },
            Label { master_id: "k2", ..LABEL },
        ] {
            assert!(unwrap(&master, &wrapped, label).is_none(), "{label:?}");
        }
    }

    #[test]
    fn every_altered_or_missing_byte_is_noticed() {
        let (master, wrapped) = sealed();

        for position in 0..wrapped.len() {
            let mut altered = wrapped.clone();
            altered[position] ^= 1;
            assert!(unwrap(&master, &altered, LABEL).is_none(), "byte {position}");
            assert!(unwrap(&master, &wrapped[..position], LABEL).is_none(), "cut at {position}");
        }
    }
}
