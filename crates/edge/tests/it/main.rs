//! The door with real sockets, a real identity on SQLite and a service behind it that does as told.
#![expect(clippy::unwrap_used, reason = "a story fails where it cannot go on")]

mod batch;
mod chat;
mod connection;
mod fake;
mod house;
mod keys;
mod refusals;
mod stream;
mod surface;
