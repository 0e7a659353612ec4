//! Limits and cached values of one process, or of several that share them in Redis. Who is limited, how tightly, and what is
//! cached for how long, is decided by the caller. Spawns nothing: who holds a [`Redis`] calls [`Redis::refresh`] again and
//! again.

mod gate;
mod gcra;
mod key;
mod lease;
mod limiter;
mod local;
mod policy;
mod redis;
mod shards;
mod shelf;
mod span;
mod take;
mod values;
mod window;

pub use crate::redis::Redis;
pub use gate::{Entry, Gate, Leaving, Place};
pub use key::{Group, Key};
pub use limiter::{Charge, Decision, Limiter, Shared};
pub use policy::{Algorithm, Mode, OnStoreFailure, Policy};
pub use span::Window;
pub use values::{Terms, Value, Values};
