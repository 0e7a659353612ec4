//! Keyset pages: the two values that a statement binds. Cut the rows with `core::Page::cut`.

use manifold_core::PageRequest;
use uuid::Uuid;

/// For `… AND id > $1 ORDER BY id LIMIT $2`: where the page begins and how many rows to read.
pub fn oldest_first(request: &PageRequest) -> (Uuid, i64) {
    (request.after.unwrap_or(Uuid::nil()), request.fetch())
}

/// For `… AND id < $1 ORDER BY id DESC LIMIT $2`: where the page begins and how many rows to read.
pub fn newest_first(request: &PageRequest) -> (Uuid, i64) {
    (request.after.unwrap_or(Uuid::max()), request.fetch())
}
