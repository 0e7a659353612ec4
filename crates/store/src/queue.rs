//! The queue in front of the writer. Pushing never waits: it is done from `Drop`. Whoever is about to cause rows can wait
//! for room instead, so that what a killed process loses stays below a batch.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::error;

use crate::Group;
use crate::command::Job;

/// How long anybody waits for room. A commit takes a few milliseconds: a database that needs longer is away.
const PATIENCE: Duration = Duration::from_millis(50);

/// One piece of work.
pub(crate) enum Piece {
    /// Rows that must land together.
    Rows(Group),
    /// A command.
    Command(Box<dyn Job>),
}

/// What the writer waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Nothing: it is at work.
    Nothing,
    /// So many pieces.
    Pieces(usize),
    /// A command, for which somebody waits.
    Command,
}

struct State {
    pieces: VecDeque<Piece>,
    until: Until,
    closed: bool,
}

pub(crate) struct Queue {
    pub(crate) service: &'static str,
    state: Mutex<State>,
    wake: Notify,
    // Pieces that wait and pieces that are being written.
    depth: AtomicUsize,
    dropped: AtomicU64,
    limit: usize,
    /// How many pieces may be on their way before new work waits.
    pace: usize,
    freed: Notify,
    /// The database does not take anything: nobody waits for it.
    stalled: AtomicBool,
}

impl Queue {
    pub(crate) fn new(service: &'static str, limit: usize, batch: usize) -> Self {
        let state = State { pieces: VecDeque::new(), until: Until::Nothing, closed: false };
        let (depth, dropped) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self {
            service,
            state: Mutex::new(state),
            wake: Notify::new(),
            depth,
            dropped,
            limit,
            // Three quarters: the rest is for calls that are under way when the others have to wait.
            pace: (batch - batch / 4).max(1),
            freed: Notify::new(),
            stalled: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts work at the end; gives it back if the queue is full or closed.
    pub(crate) fn push(&self, piece: Piece) -> Result<(), Piece> {
        let mut state = self.lock();
        if state.closed || self.depth.load(Ordering::Relaxed) >= self.limit {
            return Err(piece);
        }
        self.depth.fetch_add(1, Ordering::Relaxed);
        let command = matches!(piece, Piece::Command(_));
        state.pieces.push_back(piece);
        let wanted = match state.until {
            Until::Nothing => false,
            Until::Pieces(n) => state.pieces.len() >= n,
            Until::Command => command,
        };
        if wanted {
            state.until = Until::Nothing;
            drop(state);
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Waits until there is as much as asked for.
    pub(crate) async fn wait(&self, until: Until) {
        loop {
            {
                let mut state = self.lock();
                let reached = match until {
                    Until::Nothing => true,
                    Until::Pieces(n) => state.pieces.len() >= n,
                    Until::Command => state.pieces.iter().any(|piece| matches!(piece, Piece::Command(_))),
                };
                if reached {
                    state.until = Until::Nothing;
                    return;
                }
                state.until = until;
            }
            self.wake.notified().await;
        }
    }

    /// Takes up to `max` pieces from the front.
    pub(crate) fn take(&self, max: usize) -> Vec<Piece> {
        let mut state = self.lock();
        state.until = Until::Nothing;
        let n = max.min(state.pieces.len());
        state.pieces.drain(..n).collect()
    }

    /// Puts taken rows back to the front, in their order, and takes the commands that wait behind them.
    pub(crate) fn put_back(&self, groups: Vec<Group>) -> Vec<Piece> {
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.pieces);
        let (rows, commands): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|piece| matches!(piece, Piece::Rows(_)));
        state.pieces = groups.into_iter().map(Piece::Rows).chain(rows).collect();
        commands
    }

    /// Taken pieces are done with.
    pub(crate) fn finished(&self, n: usize) {
        self.depth.fetch_sub(n, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// How many pieces are worth a commit, if so many came in during the last one. A large commit costs less for each
    /// piece, a small one keeps others from their core for a shorter while: small ones as long as there is time for
    /// them. Never more than two thirds of what may be on its way, so that the rest can come in meanwhile.
    pub(crate) fn worthwhile(&self, arrived: usize) -> usize {
        (5 * arrived).clamp(self.pace.div_ceil(3), (self.pace * 2).div_ceil(3))
    }

    /// Whether the database takes what it is given.
    pub(crate) fn flows(&self, flows: bool) {
        self.stalled.store(!flows, Ordering::Relaxed);
    }

    fn has_room(&self) -> bool {
        self.depth() < self.pace || self.stalled.load(Ordering::Relaxed)
    }

    async fn room(&self) {
        while !self.has_room() {
            let mut freed = pin!(self.freed.notified());
            freed.as_mut().enable();
            if !self.has_room() && timeout(PATIENCE, freed).await.is_err() {
                self.flows(false);
            }
        }
    }

    /// How much waits.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().pieces.len()
    }

    /// Refuses work from now on and gives back what waits.
    pub(crate) fn close(&self) -> Vec<Piece> {
        let mut state = self.lock();
        state.closed = true;
        state.pieces.drain(..).collect()
    }

    /// Refuses work from now on, if nothing waits.
    pub(crate) fn close_if_empty(&self) -> bool {
        let mut state = self.lock();
        state.closed = state.pieces.is_empty();
        state.closed
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth.load(Ordering::Relaxed)
    }

    /// Counts rows that will not be written, and says so without flooding the log.
    pub(crate) fn dropped(&self, group: &Group, reason: &'static str) {
        let n = group.rows().count() as u64;
        metrics::counter!("manifold_rows_dropped_total", "service" => self.service, "reason" => reason).increment(n);
        let before = self.dropped.fetch_add(n, Ordering::Relaxed);
        if (before + n).ilog2() > before.checked_ilog2().unwrap_or(0) || before == 0 {
            error!(service = self.service, reason, total = before + n, "rows dropped");
        }
    }
}

/// Where hot rows are pushed. Cheap to clone.
#[derive(Clone)]
pub struct Rows(pub(crate) Arc<Queue>);

impl Rows {
    /// Hands rows to the writer. Never waits and never fails: may be called from `Drop`. When the queue holds as much
    /// as it may, the rows are dropped, counted and logged; [`Rows::is_full`] tells earlier.
    pub fn push(&self, group: Group) {
        if group.is_empty() {
            return;
        }
        if let Err(Piece::Rows(group)) = self.0.push(Piece::Rows(group)) {
            self.0.dropped(&group, "queue_full");
        }
    }

    /// Waits while three quarters of a batch are not in the database yet. Called before work that ends in rows, this
    /// bounds what a killed process loses to one batch, as long as no more than a quarter of a batch works at the same
    /// time. Nobody waits for a database that is away, nor longer than 50 ms for a slow one.
    pub async fn room(&self) {
        self.0.room().await;
    }

    /// Ends with the next commit of this process. From the moment it is made, it misses none.
    pub fn next_commit(&self) -> impl Future<Output = ()> + Send + '_ {
        self.0.freed.notified()
    }

    /// How many groups and commands are not in the database yet.
    pub fn depth(&self) -> usize {
        self.0.depth()
    }

    /// Whether new requests should be refused. A tenth of the queue is left for requests that have begun.
    pub fn is_full(&self) -> bool {
        self.depth() >= self.0.limit - self.0.limit / 10
    }
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Rows").field("service", &self.0.service).field("depth", &self.depth()).finish()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{Row, Values};

    struct Line;

    impl Row for Line {
        const TABLE: &'static str = "line";
        const COLUMNS: &'static [&'static str] = &[];
        fn bind(&self, _: &mut Values<'_>) {}
    }

    /// A queue with a batch of 8 and so many groups in it.
    fn rows(n: usize) -> Rows {
        let rows = Rows(Arc::new(Queue::new("test", 100, 8)));
        (0..n).for_each(|_| rows.push(Group::new().with(Line)));
        rows
    }

    #[tokio::test]
    async fn new_work_waits_once_three_quarters_of_a_batch_are_on_their_way() {
        let (early, late) = (rows(5), rows(6));
        assert!(early.room().now_or_never().is_some());
        let mut waiting = pin!(late.room());
        assert!(waiting.as_mut().now_or_never().is_none());

        late.0.finished(late.0.take(1).len());

        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn commits_are_large_only_while_much_comes_in() {
        let queue = Queue::new("test", 100, 128);

        let sizes = [0, 6, 10, 13, 100].map(|arrived| queue.worthwhile(arrived));

        assert_eq!(sizes, [32, 32, 50, 64, 64]);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_database_that_is_away() {
        let rows = rows(6);

        rows.room().await;
        let after_the_first = rows.room().now_or_never();
        rows.0.flows(true);
        let once_it_is_back = rows.room().now_or_never();

        assert_eq!((after_the_first, once_it_is_back), (Some(()), None));
    }
}
