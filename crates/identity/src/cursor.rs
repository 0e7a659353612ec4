//! Places in lists, as clients carry them to the next page: sealed against change, good for one list of one tenant, and not
//! forever.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use manifold_core::{Error, Result, TenantId, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::Identity;
use crate::vault::envelope::KeyBytes;

/// How long a cursor works at least; at most twice as long.
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// Bytes of what a list is recognised by.
const LIST: usize = 16;
/// Id of the last row, list, end of life in microseconds.
const PAYLOAD: usize = 16 + LIST + 8;
/// Bytes of the tag.
const TAG: usize = 16;

/// Key of the tags.
pub(crate) struct CursorKey(KeyBytes);

impl Identity {
    /// The place behind row `after` of `list`, which is everything that makes a list another one: its path and filters.
    /// `base64url(payload).base64url(HMAC-SHA256(key, tenant ‖ payload)[..16])`
    pub fn print_cursor(&self, tenant: TenantId, list: &str, after: Uuid) -> String {
        self.inner.cursor.print(tenant, list, after, end_of_life(self.inner.clock.now()))
    }

    /// The row behind which the next page begins.
    ///
    /// # Errors
    /// `INVALID_CURSOR`, whatever is wrong with it.
    pub fn read_cursor(&self, tenant: TenantId, list: &str, cursor: &str) -> Result<Uuid> {
        let found = self.inner.cursor.read(tenant, list, cursor, self.inner.clock.now());
        found.ok_or_else(|| {
            Error::invalid("INVALID_CURSOR", "this cursor is not one of this list, or too old").at("cursor")
        })
    }
}

/// The same all day, so that a page that has not changed is the same page.
fn end_of_life(now: Timestamp) -> Timestamp {
    let life = i64::try_from(LIFETIME.as_micros()).unwrap_or(i64::MAX / 4);
    Timestamp::from_micros((now.micros().div_euclid(life) + 2) * life)
}

impl CursorKey {
    /// Of all versions the newest: cursors do not live long.
    pub(crate) fn newest(versions: Vec<(i32, KeyBytes)>) -> Option<Self> {
        versions.into_iter().max_by_key(|(version, _)| *version).map(|(_, key)| Self(key))
    }

    fn print(&self, tenant: TenantId, list: &str, after: Uuid, until: Timestamp) -> String {
        let payload = [after.as_bytes().as_slice(), &recognise(list), &until.micros().to_be_bytes()].concat();
        let tag = self.tag(tenant, &payload);
        [URL_SAFE_NO_PAD.encode(payload), URL_SAFE_NO_PAD.encode(tag)].join(".")
    }

    fn read(&self, tenant: TenantId, list: &str, cursor: &str, now: Timestamp) -> Option<Uuid> {
        let (payload, tag) = cursor.split_once('.')?;
        let payload: [u8; PAYLOAD] = URL_SAFE_NO_PAD.decode(payload).ok()?.try_into().ok()?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?;
        if !bool::from(self.tag(tenant, &payload).ct_eq(tag.as_slice())) {
            return None;
        }
        let (after, rest) = payload.split_first_chunk::<16>()?;
        let (of, until) = rest.split_first_chunk::<LIST>()?;
        let until = Timestamp::from_micros(i64::from_be_bytes(until.try_into().ok()?));
        (*of == recognise(list) && now < until).then(|| Uuid::from_bytes(*after))
    }

    fn tag(&self, tenant: TenantId, payload: &[u8]) -> [u8; TAG] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose()).expect("any length of key will do");
        mac.update(tenant.0.as_bytes());
        mac.update(payload);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&mac.finalize().into_bytes()[..TAG]);
        tag
    }
}

fn recognise(list: &str) -> [u8; LIST] {
    let mut begin = [0; LIST];
    begin.copy_from_slice(&Sha256::digest(list)[..LIST]);
    begin
}

#[cfg(test)]
mod tests {
    use manifold_core::Secret;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000);
    const LATER: Timestamp = Timestamp::from_micros(2_000_000);
    const TENANT: TenantId = TenantId(Uuid::from_u128(1));
    const ROW: Uuid = Uuid::from_u128(7);

    fn key(byte: u8) -> CursorKey {
        CursorKey(Secret::new([byte; 32]))
    }

    #[test]
    fn a_cursor_leads_back_to_its_row() {
        let cursor = key(1).print(TENANT, "/v1/keys", ROW, LATER);

        assert_eq!(key(1).read(TENANT, "/v1/keys", &cursor, NOW), Some(ROW));
        assert!(cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{cursor}");
    }

    #[test]
    fn case_68_cursors_that_are_foreign_forged_old_or_of_another_list_lead_nowhere() {
        let cursor = key(1).print(TENANT, "/v1/keys", ROW, LATER);
        let other = key(1).print(TENANT, "/v1/keys", Uuid::from_u128(8), LATER);
        let (payload, tag) = (other.split_once('.').unwrap().0, cursor.split_once('.').unwrap().1);
        let forged = format!("{payload}.{tag}");

        for (key, tenant, list, cursor, now) in [
            (key(2), TENANT, "/v1/keys", cursor.as_str(), NOW),
            (key(1), TenantId(Uuid::from_u128(2)), "/v1/keys", &cursor, NOW),
            (key(1), TENANT, "/v1/users", &cursor, NOW),
            (key(1), TENANT, "/v1/keys?state=active", &cursor, NOW),
            (key(1), TENANT, "/v1/keys", &cursor, LATER),
            (key(1), TENANT, "/v1/keys", &forged, NOW),
            (key(1), TENANT, "/v1/keys", payload, NOW),
            (key(1), TENANT, "/v1/keys", "", NOW),
            (key(1), TENANT, "/v1/keys", "key_01h455vb4pex5vsknk084sn02q", NOW),
            (key(1), TENANT, "/v1/keys", &format!("{cursor}="), NOW),
            (key(1), TENANT, "/v1/keys", &cursor[..cursor.len() - 2], NOW),
        ] {
            assert_eq!(key.read(tenant, list, cursor, now), None, "{list} {cursor}");
        }
    }
}
