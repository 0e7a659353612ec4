//! Timestamps in rows: `core::Timestamp` as BIGINT.

use manifold_core::Timestamp;

/// Microseconds since 1970 as the database holds them. Bind it, or read it into a
/// `Timestamp` field with `#[sqlx(try_from = "manifold_store::Micros")]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct Micros(pub i64);

impl From<Timestamp> for Micros {
    fn from(time: Timestamp) -> Self {
        Self(time.micros())
    }
}

impl From<Micros> for Timestamp {
    fn from(micros: Micros) -> Self {
        Self::from_micros(micros.0)
    }
}
