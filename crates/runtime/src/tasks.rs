//! The only home of `tokio::spawn`: every task has a name, shutdown waits for it and its panic is reported.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, warn};

use crate::telemetry::Scope;

/// The tasks of one process. Clones share the same tasks.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    token: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task. It should end soon after [`Tasks::token`] is cancelled. It works for the request, if any, that
    /// the caller works for.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_boxed(name, Box::pin(future))
    }

    /// One body for all: each layer around a future would double its size.
    #[expect(clippy::disallowed_methods, reason = "this is the home of spawning")]
    fn spawn_boxed(&self, name: &'static str, future: BoxFuture<'static, ()>) -> AbortHandle {
        let reported = async move {
            if let Err(panic) = AssertUnwindSafe(future).catch_unwind().await {
                metrics::counter!("manifold_task_panics_total", "task" => name).increment(1);
                error!(task = name, error = panic_text(&*panic), "task panicked");
            }
        };
        let scope = Scope::current();
        let task = self.tracker.track_future(async move { scope.run(reported).await });
        tokio::spawn(task).abort_handle()
    }

    /// Starts a task that is simply dropped when [`Tasks::token`] is cancelled: one that loops and has nothing to finish.
    pub fn spawn_until_stop<F>(&self, name: &'static str, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let token = self.token();
        self.spawn(name, async move {
            token.run_until_cancelled(future).await;
        })
    }

    /// Tells tasks when to stop.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// How many tasks run.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task runs.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Tells every task to stop and waits for them, at most `within`. True if all ended.
    pub async fn shutdown(&self, within: Duration) -> bool {
        self.token.cancel();
        self.tracker.close();
        let ended = tokio::time::timeout(within, self.tracker.wait()).await.is_ok();
        if !ended {
            warn!(n_tasks = self.tracker.len(), "tasks were still running when time was up");
        }
        ended
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutdown_waits_for_tasks_that_listen_to_the_token() {
        let tasks = Tasks::new();
        let token = tasks.token();
        tasks.spawn("listener", async move { token.cancelled().await });

        let ended = tasks.shutdown(Duration::from_secs(5)).await;

        assert!(ended);
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn shutdown_gives_up_on_tasks_that_do_not_listen() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending());

        let ended = tasks.shutdown(Duration::from_millis(10)).await;

        assert!(!ended);
        assert_eq!(tasks.len(), 1);
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_and_nothing_else() {
        let tasks = Tasks::new();
        tasks.spawn("clumsy", async { panic!("dropped the vase") });

        let ended = tasks.shutdown(Duration::from_secs(5)).await;

        assert!(ended);
    }
}
