//! Where events stand: which outbox, where in it, and what is kept of each.

use bytes::Bytes;
use manifold_store::Db;
use sqlx::FromRow;
use uuid::Uuid;

/// An outbox that can be read.
#[derive(Clone, Debug)]
pub struct Source {
    /// The service whose events these are.
    pub name: &'static str,
    /// Its database.
    pub db: Db,
}

/// Where a reader stands: behind which event, in the order of commits. On SQLite numbers follow that order and `xid` is
/// 0; Postgres gives numbers out before commit, and a transaction with a lower id may commit later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, FromRow)]
pub(crate) struct Place {
    pub(crate) xid: i64,
    pub(crate) seq: i64,
}

/// An event in an outbox.
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) payload: Bytes,
}

/// An event as it is stored: its bytes are kept, because decoding drops what a newer version added.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) id: Uuid,
    pub(crate) payload: Bytes,
}
