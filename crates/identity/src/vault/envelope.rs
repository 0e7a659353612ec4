//! How something is sealed under a key: `0x01 ‖ nonce ‖ AES-256-GCM(key, text, associated data)`. The associated data of a
//! sealed key is `mfw1|<owner>|<version>|<master id>`. Pure: the nonce comes from outside, nothing is read or written.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use manifold_core::Secret;
use zeroize::Zeroizing;

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

/// Seals `key` under `master`. The nonce must never be used again with this master key.
pub fn wrap(master: &KeyBytes, key: &KeyBytes, nonce: [u8; NONCE_LENGTH], label: Label<'_>) -> Vec<u8> {
    seal(master, key.expose(), nonce, label.associated_data().as_bytes())
}

/// Opens what [`wrap`] sealed; None for another master key, another label or altered bytes.
pub fn unwrap(master: &KeyBytes, wrapped: &[u8], label: Label<'_>) -> Option<KeyBytes> {
    let opened = open(master, wrapped, label.associated_data().as_bytes())?;
    opened.as_slice().try_into().ok().map(Secret::new)
}

/// Seals `text`, which belongs to `context` and nowhere else. The nonce must never be used again with this key.
pub fn seal(key: &KeyBytes, text: &[u8], nonce: [u8; NONCE_LENGTH], context: &[u8]) -> Vec<u8> {
    let payload = Payload { msg: text, aad: context };
    let sealed = cipher(key).encrypt(&Nonce::from(nonce), payload).expect("what is sealed is far below 64 GiB");
    [&[LAYOUT], nonce.as_slice(), sealed.as_slice()].concat()
}

/// Opens what [`seal`] sealed; None for another key, another context or altered bytes.
pub fn open(key: &KeyBytes, sealed: &[u8], context: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (layout, rest) = sealed.split_first()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_LENGTH>()?;
    if *layout != LAYOUT {
        return None;
    }
    let payload = Payload { msg: sealed, aad: context };
    cipher(key).decrypt(&Nonce::from(*nonce), payload).ok().map(Zeroizing::new)
}

impl Label<'_> {
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
