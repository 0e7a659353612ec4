//! The provider codecs against fixtures of every provider and feature. Nothing here opens a socket.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod collect;
mod cut;
mod encode;
mod errors;
mod fixtures;
mod property;
mod requests;
mod walk;
