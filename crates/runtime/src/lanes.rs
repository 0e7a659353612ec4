//! Lanes: one thread per core, each with a scheduler, timers and sockets of its own. What begins on a lane stays there, so
//! that answering a request wakes no other thread.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::thread;

use manifold_core::{Code, Result, ResultExt};
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::Tasks;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The lanes of one process. They end when the last clone is dropped and their last task has ended.
#[derive(Clone)]
pub struct Lanes {
    lanes: Arc<[Lane]>,
    stop: Option<Arc<DropGuard>>,
}

struct Lane {
    handle: Handle,
    /// Every task that runs on it holds one more.
    seat: Arc<()>,
}

/// How many lanes a process has: one per core that it may use.
pub(crate) fn count() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Number of the lane that the caller runs on, from 1; 0 on every other thread.
pub(crate) fn current() -> usize {
    CURRENT.get()
}

impl Lanes {
    /// Starts one lane per core.
    pub fn start() -> Result<Self> {
        let stop = CancellationToken::new();
        let lanes = (1..=count()).map(|number| start(number, stop.clone())).collect::<Result<_>>()?;
        Ok(Self { lanes, stop: Some(Arc::new(stop.drop_guard())) })
    }

    /// No lanes: tasks run where they are started from.
    pub fn none() -> Self {
        Self { lanes: Arc::new([]), stop: None }
    }

    /// Starts a task on the lane with the fewest tasks. Its sockets and timers have to be made inside of it.
    pub fn spawn<F>(&self, tasks: &Tasks, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(lane) = self.lanes.iter().min_by_key(|lane| Arc::strong_count(&lane.seat)) else {
            tasks.spawn(name, future);
            return;
        };
        let (seat, stop) = (Arc::clone(&lane.seat), self.stop.clone());
        let _inside = lane.handle.enter();
        tasks.spawn(name, async move {
            future.await;
            drop((seat, stop));
        });
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Lanes").field(&self.lanes.len()).finish()
    }
}

fn start(number: usize, stop: CancellationToken) -> Result<Lane> {
    let runtime = Builder::new_current_thread().enable_all().build().or_err(Code::Internal, "start a scheduler")?;
    let handle = runtime.handle().clone();
    let run = move || {
        CURRENT.set(number);
        runtime.block_on(stop.cancelled());
    };
    let thread = thread::Builder::new().name(format!("lane-{number}")).spawn(run);
    thread.or_err(Code::Internal, "start a thread")?;
    Ok(Lane { handle, seat: Arc::default() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use tokio::sync::{mpsc, oneshot};

    use super::*;

    #[tokio::test]
    async fn tasks_are_spread_evenly_over_the_lanes() {
        let (lanes, tasks) = (Lanes::start().unwrap(), Tasks::new());
        let (tell, mut told) = mpsc::unbounded_channel();
        let token = tasks.token();

        for _ in 0..count() {
            let (tell, token) = (tell.clone(), token.clone());
            lanes.spawn(&tasks, "busy", async move {
                tell.send(current()).unwrap();
                token.cancelled().await;
            });
        }

        let mut used = BTreeSet::new();
        for _ in 0..count() {
            used.insert(told.recv().await.unwrap());
        }
        assert_eq!(used, (1..=count()).collect());
        assert!(tasks.shutdown(Duration::from_secs(5)).await);
        assert_eq!(current(), 0);
    }

    #[tokio::test]
    async fn lanes_outlive_their_owner_until_the_last_task_has_ended() {
        let (lanes, tasks) = (Lanes::start().unwrap(), Tasks::new());
        let (finish, finished) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        lanes.spawn(&tasks, "slow", async move {
            finished.await.unwrap();
            tell.send(current()).unwrap();
        });
        let handle = lanes.lanes[0].handle.clone();

        drop(lanes);
        finish.send(()).unwrap();

        assert_ne!(told.await.unwrap(), 0);
        assert!(tasks.shutdown(Duration::from_secs(5)).await);
        // A lane that has ended takes no tasks: it drops them.
        while handle.spawn(async {}).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
