//! Limits and values that several processes share, on a real Redis.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod away;
mod bounds;
mod crowd;
mod gate;
mod same;
mod server;
mod values;
