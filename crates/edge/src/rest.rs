//! Our own resources: strict JSON in, problems out. One resource per file.

pub(crate) mod document;
pub(crate) mod errors;
pub(crate) mod keys;
pub(crate) mod probes;
pub(crate) mod usage;
