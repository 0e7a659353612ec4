//! Rate limits of one process, or of several that count together in Redis. Who is limited, and how tightly, is decided by
//! the caller. Spawns nothing: who holds a [`Redis`] calls [`Redis::refresh`] again and again.

mod gate;
mod gcra;
mod lease;
mod limiter;
mod local;
mod policy;
mod redis;
mod shards;
mod take;
mod window;

pub use crate::redis::Redis;
pub use gate::{Entry, Gate, Leaving, Place};
pub use limiter::{Charge, Decision, Limiter, Shared};
pub use policy::{Algorithm, Mode, OnStoreFailure, Policy, Window};
