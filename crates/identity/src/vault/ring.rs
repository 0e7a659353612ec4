//! All versions of a system key: the newest seals, each of them opens. Pure but for the nonces.

use manifold_core::Secret;

use super::envelope::{self, KeyBytes};
use crate::random;

/// Seals and opens what one system key is for.
pub struct Ring {
    /// The newest first.
    keys: Vec<KeyBytes>,
}

impl Ring {
    /// With all versions of the key; None if there is none.
    pub fn new(keys: impl IntoIterator<Item = (i32, KeyBytes)>) -> Option<Self> {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
        Some(Self { keys: keys.into_iter().map(|(_, key)| key).collect() }).filter(|ring| !ring.keys.is_empty())
    }

    /// Seals `text`, which belongs to `context` and nowhere else.
    pub fn seal(&self, text: &[u8], context: &[u8]) -> Vec<u8> {
        envelope::seal(&self.keys[0], text, random::bytes(), context)
    }

    /// What [`Ring::seal`] sealed; None for another key, another context or altered bytes.
    pub fn open(&self, sealed: &[u8], context: &[u8]) -> Option<Secret<Vec<u8>>> {
        self.keys.iter().find_map(|key| envelope::open(key, sealed, context))
    }
}
