//! Keys that are asked for again with the same idempotency key: the secret must be told again, so it is kept for as long,
//! sealed.

use manifold_bus::Asked;
use manifold_core::{Error, KeyId, Principal, Result, Secret};
use uuid::Uuid;

use super::NewKey;
use crate::vault::ring::Ring;

/// Seals and opens answers that hold a secret: `id of the key ‖ sealed secret`.
pub struct Answers(pub Ring);

/// What the wish asks for, if it may come again.
pub fn asked(caller: &Principal, new: &NewKey) -> Option<Asked> {
    let key = new.idempotency_key.as_ref()?;
    let expires_at = new.expires_at.map(|time| time.micros().to_be_bytes());
    let expires_at = expires_at.as_ref().map_or(&[][..], |bytes| bytes);
    let terms = new.terms.to_json().to_string();
    let canary = [u8::from(new.canary)];
    let mut request =
        vec![new.name.as_bytes(), new.environment.name().as_bytes(), expires_at, terms.as_bytes(), &canary];
    request.extend(new.permissions.iter().map(String::as_bytes));
    Some(Asked::new(caller, "keys.create", key, &request))
}

impl Answers {
    /// The answer about a new key.
    pub fn seal(&self, id: KeyId, secret: &Secret<String>) -> Vec<u8> {
        let id = id.0.into_bytes();
        let sealed = self.0.seal(secret.expose().as_bytes(), &id);
        [&id, sealed.as_slice()].concat()
    }

    /// What [`Answers::seal`] sealed.
    pub fn open(&self, answer: &[u8]) -> Result<(KeyId, Secret<String>)> {
        let opened = answer.split_first_chunk::<16>().and_then(|(id, sealed)| {
            let text = self.0.open(sealed, id)?;
            Some((KeyId(Uuid::from_bytes(*id)), Secret::new(std::str::from_utf8(text.expose()).ok()?.to_owned())))
        });
        opened.ok_or_else(|| Error::internal("an answer that was kept does not open"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(versions: &[u8]) -> Answers {
        let keys = versions.iter().map(|version| (i32::from(*version), Secret::new([*version; 32])));
        Answers(Ring::new(keys).unwrap())
    }

    #[test]
    fn an_answer_opens_with_every_version_and_not_for_another_key() {
        let (id, secret) = (KeyId(Uuid::from_u128(7)), Secret::new("mfk_live_x".to_owned()));
        let answer = answers(&[1]).seal(id, &secret);
        let mut moved = answer.clone();
        moved[15] ^= 1;

        let (opened_id, opened) = answers(&[2, 1]).open(&answer).unwrap();

        assert_eq!((opened_id, opened.expose()), (id, secret.expose()));
        assert!(!answer.windows(4).any(|bytes| bytes == b"live"));
        for (answers, answer) in [(answers(&[2]), answer.as_slice()), (answers(&[1]), &moved), (answers(&[1]), &[])] {
            assert!(answers.open(answer).is_err());
        }
        assert!(Ring::new([]).is_none());
    }
}
