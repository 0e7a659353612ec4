//! Hands over many events at once, and finds the one that fails.

use std::ops::Range;

use super::Stumble;
use crate::failure::Failure;

/// What is done with a batch of events.
pub(super) trait Halves {
    /// One transaction with the effects of these events.
    async fn attempt(&mut self, part: Range<usize>) -> Result<(), Stumble>;
    /// One transaction that takes this event out of the way.
    async fn set_aside(&mut self, index: usize, failure: Failure) -> Result<(), Stumble>;
}

/// All of them, and what fails in halves, until the event that fails stands alone. That one is set aside and the others
/// go on.
pub(super) async fn in_halves(n: usize, work: &mut impl Halves) -> Result<(), Stumble> {
    let whole = 0..n;
    let mut parts = vec![whole];
    while let Some(part) = parts.pop().filter(|part| !part.is_empty()) {
        match work.attempt(part.clone()).await {
            Ok(()) => {}
            Err(Stumble::Refused(_)) if part.len() > 1 => {
                let middle = part.start + part.len() / 2;
                parts.extend([middle..part.end, part.start..middle]);
            }
            Err(Stumble::Refused(failure)) => work.set_aside(part.start, failure).await?,
            Err(stumble) => return Err(stumble),
        }
    }
    Ok(())
}
