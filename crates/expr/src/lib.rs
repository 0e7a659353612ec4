//! Expressions that users write: what they may contain, and what they say. No IO.

mod condition;
mod scan;

pub use condition::{Condition, Fact, Facts};
