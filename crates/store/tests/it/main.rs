//! The store on real engines. Whatever holds on both is one scenario, run twice.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod engines;
mod faults;
mod proxy;
mod scratch;
mod sqlite;
mod thing;
mod transfer;
mod writer;
