//! The one timer of an exchange.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Rings at the end of whatever is waited for now. Setting a timer costs more than most waits, so it is only set to an
/// earlier time when it has to be, and to a later one when it has rung too early.
pub(super) struct Timer(Pin<Box<Sleep>>);

impl Timer {
    pub(super) fn new(until: Instant) -> Self {
        Self(Box::pin(sleep_until(until)))
    }

    /// What the future brings; None if it has not by then.
    pub(super) async fn wait<F: Future>(&mut self, until: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => self.poll(until, context).map(|()| None),
        })
        .await
    }

    fn poll(&mut self, until: Instant, context: &mut Context<'_>) -> Poll<()> {
        if until < self.0.deadline() {
            self.0.as_mut().reset(until);
        }
        loop {
            ready!(self.0.as_mut().poll(context));
            if until <= self.0.deadline() {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_wait_ends_when_it_has_to_whatever_the_timer_was_set_to() {
        let start = Instant::now();
        let [soon, later, last] = [1, 2, 3].map(|seconds| start + Duration::from_secs(seconds));
        let mut timer = Timer::new(later);

        for until in [soon, later, last] {
            assert_eq!(timer.wait(last, ready(7)).await, Some(7));
            assert_eq!(timer.wait(until, pending::<()>()).await, None);
            assert_eq!(Instant::now(), until);
        }
    }
}
