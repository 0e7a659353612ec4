//! The provider codecs against fixtures of every provider and feature. Nothing here opens a socket.

mod collect;
mod cut;
mod encode;
mod errors;
mod fixtures;
mod property;
mod walk;
