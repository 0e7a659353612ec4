//! Our own resources: strict JSON in, problems out. One resource per file.

pub(crate) mod auth;
pub(crate) mod document;
pub(crate) mod errors;
pub(crate) mod invitations;
pub(crate) mod keys;
pub(crate) mod probes;
pub(crate) mod roles;
pub(crate) mod sessions;
pub(crate) mod usage;
pub(crate) mod users;
