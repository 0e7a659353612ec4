//! What the database keeps of a secret: HMAC-SHA256 under a pepper. A secret has 256 random bits, so a slow hash would
//! add nothing. Pure.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::vault::envelope::KeyBytes;

/// What is stored of a secret.
pub type Hash = [u8; 32];

/// Every version of the pepper: the newest hashes new secrets, the others verify old ones.
pub struct Peppers {
    current: Pepper,
    earlier: Vec<Pepper>,
}

struct Pepper {
    id: i32,
    /// Keyed once, cloned per secret.
    mac: Hmac<Sha256>,
}

impl Peppers {
    /// From all versions; None if there is none.
    pub fn new(keys: impl IntoIterator<Item = (i32, KeyBytes)>) -> Option<Self> {
        let mut earlier: Vec<_> = keys.into_iter().map(|(id, key)| Pepper::new(id, &key)).collect();
        earlier.sort_by_key(|pepper| pepper.id);
        Some(Self { current: earlier.pop()?, earlier })
    }

    /// The version that hashes new secrets.
    pub fn current(&self) -> i32 {
        self.current.id
    }

    /// Hashes a secret under version `id`; None if there is no such version.
    pub fn hash(&self, id: i32, secret: &str) -> Option<Hash> {
        let mut all = std::iter::once(&self.current).chain(&self.earlier);
        all.find(|pepper| pepper.id == id).map(|pepper| pepper.hash(secret))
    }

    /// Hashes a new secret.
    pub fn hash_new(&self, secret: &str) -> Hash {
        self.current.hash(secret)
    }
}

impl Pepper {
    fn new(id: i32, key: &KeyBytes) -> Self {
        Self { id, mac: Hmac::new_from_slice(key.expose()).expect("HMAC takes keys of any length") }
    }

    fn hash(&self, secret: &str) -> Hash {
        self.mac.clone().chain_update(secret).finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use manifold_core::Secret;

    use super::*;

    const SECRET: &str = "003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf";

    #[test]
    fn hashes_the_published_vector() {
        let peppers = Peppers::new([(1, Secret::new([0x0b; 32]))]).unwrap();

        let hash: String = peppers.hash_new(SECRET).iter().map(|byte| format!("{byte:02x}")).collect();

        assert_eq!(hash, "1fe71a20c9064dda22b979d333e901a01f82e3a80677cf772b64f9b2b2a8c56f");
    }

    #[test]
    fn earlier_versions_verify_and_the_newest_hashes() {
        let peppers = Peppers::new([(2, Secret::new([2; 32])), (1, Secret::new([1; 32]))]).unwrap();

        assert_eq!(peppers.current(), 2);
        assert_eq!(peppers.hash(2, SECRET), Some(peppers.hash_new(SECRET)));
        assert_ne!(peppers.hash(1, SECRET), peppers.hash(2, SECRET));
        assert_eq!(peppers.hash(3, SECRET), None);
        assert!(Peppers::new([]).is_none());
    }
}
