//! Chains of events that cause each other.

use manifold_contract::events::v1::Event;
use manifold_core::{Code, Error, Result};

/// Longest chain of events that cause each other. What comes behind it is taken for a loop.
const MAX_HOP: u32 = 8;
/// The reason of dead letters of events that stand behind such a chain, and of the error that refuses them.
pub(crate) const HOP_LIMIT: &str = "HOP_LIMIT";

/// A place in a chain of events: what all that has this cause tells of it. Kept by a job for the events that it causes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain(pub(crate) Event);

impl Chain {
    /// The printed id of the request at its beginning; empty if there is none.
    pub fn request(&self) -> &str {
        &self.0.correlation_id
    }

    /// The id of its trace, 32 hexadecimal digits; empty if there is none.
    pub fn trace(&self) -> &str {
        self.0.traceparent.split('-').nth(1).unwrap_or_default()
    }

    /// Refuses a place behind the longest chain that is no loop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.hop <= MAX_HOP {
            return Ok(());
        }
        let message =
            format!("{MAX_HOP} events caused each other one after the other: their consumers answer in a loop");
        Err(Error::new(Code::Precondition, "HOP_LIMIT", message))
    }
}
