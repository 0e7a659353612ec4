//! The writer: takes what waits, writes it in one transaction, and never loses a row because the database is away.

mod block;
mod direct;
mod insert;
mod link;
mod log;

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{Fuse, OptionFuture};
use manifold_core::Error;
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{PgConnection, SqliteConnection};
use tokio::time::sleep;
use tracing::{error, info, warn};

use crate::Engine;
use crate::fault::Fault;
use crate::queue::{Piece, Queue, Until};
use block::{Block, Failure};
use link::Link;
use log::{Keeper, Log};

/// First and longest pause after the database failed.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long to go on trying at shutdown while the database is away.
const DRAIN: Duration = Duration::from_secs(10);

/// What survives a power cut of a SQLite database. kill -9 loses nothing in either case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Every command that succeeded, and rows a few milliseconds after they were pushed.
    #[default]
    Full,
    /// The last commands and rows may be lost with the power.
    Normal,
}

/// How a service's database is written.
#[derive(Clone, Debug)]
pub struct WriterConfig {
    /// SQLite only.
    pub durability: Durability,
    /// Groups and commands per commit.
    pub batch: usize,
    /// How long a busy writer waits for a batch to fill.
    pub linger: Duration,
    /// Groups and commands that may wait, in particular while the database is away.
    pub max_queue: usize,
    /// Connections beside the writer's.
    pub connections: u32,
}

impl Default for WriterConfig {
    fn default() -> Self {
        let (batch, linger) = (128, Duration::from_millis(5));
        Self { durability: Durability::Full, batch, linger, max_queue: 100_000, connections: 8 }
    }
}

/// Writes what [`Db`](crate::Db) hands over.
pub struct Writer {
    queue: Arc<Queue>,
    link: Link,
    /// SQLite only.
    log: Option<Log>,
    keeper: Option<Keeper>,
    config: WriterConfig,
    failures: u32,
}

impl Writer {
    pub(crate) fn new(
        queue: Arc<Queue>,
        options: Engine<SqliteConnectOptions, PgConnectOptions>,
        connection: Option<Engine<SqliteConnection, PgConnection>>,
        config: WriterConfig,
    ) -> Self {
        let (log, keeper) = match &options {
            Engine::Sqlite(options) => Some(log::log(queue.service, options, config.durability)),
            Engine::Postgres(_) => None,
        }
        .unzip();
        Self { queue, link: Link::new(options, connection), log, keeper, config, failures: 0 }
    }

    /// Writes until `shutdown`, then writes everything that still waits and returns. Work that comes later is refused.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let keeper = OptionFuture::from(self.keeper.take().map(Keeper::run));
        tokio::join!(self.work(shutdown), keeper);
    }

    async fn work(mut self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown.fuse());
        // Only if work arrived during the previous commit, more is about to come and waiting pays.
        let mut arrived = 0;
        loop {
            let worthwhile = self.queue.worthwhile(arrived);
            let (wanted, patience) = if arrived > 0 { (worthwhile, self.config.linger) } else { (1, Duration::MAX) };
            if !self.gather(wanted, patience, shutdown.as_mut()).await {
                break;
            }
            if let Err(fault) = self.write_some(worthwhile).await {
                self.pause(fault, shutdown.as_mut()).await;
            }
            arrived = self.queue.waiting();
        }
        self.drain().await;
    }

    /// Waits for so many pieces, for so long; false at shutdown.
    async fn gather(
        &self,
        wanted: usize,
        patience: Duration,
        mut shutdown: std::pin::Pin<&mut Fuse<impl Future<Output = ()>>>,
    ) -> bool {
        tokio::select! {
            biased;
            () = &mut shutdown => false,
            () = self.queue.wait(Until::Pieces(wanted)) => true,
            () = sleep(patience), if patience != Duration::MAX => true,
        }
    }

    /// After a failure: waits, but not when somebody waits for a command.
    async fn pause(&self, fault: Fault, mut shutdown: std::pin::Pin<&mut Fuse<impl Future<Output = ()>>>) {
        if fault == Fault::Contended {
            return;
        }
        tokio::select! {
            () = &mut shutdown => {}
            () = sleep(self.backoff()) => {}
            () = self.queue.wait(Until::Command) => {}
        }
    }

    fn backoff(&self) -> Duration {
        (BACKOFF.0 * 2u32.saturating_pow(self.failures.saturating_sub(1).min(10))).min(BACKOFF.1)
    }

    /// Writes everything that waits; gives up on a database that stays away.
    async fn drain(&mut self) {
        let end = Instant::now() + DRAIN;
        while !self.queue.close_if_empty() {
            if self.write_some(self.config.batch).await.is_err() {
                if Instant::now() >= end {
                    error!(service = self.queue.service, left = self.queue.depth(), "shut down without the database");
                    return;
                }
                sleep(self.backoff().min(Duration::from_millis(500))).await;
            }
        }
    }

    /// How much of what waits goes into the next commit: of plenty, what fills a whole statement, because a commit with
    /// leftovers costs a statement for each power of two of them. The rest comes soon.
    fn portion(&self, worthwhile: usize) -> usize {
        match self.queue.waiting().min(self.config.batch) {
            few if few < worthwhile => few,
            plenty => insert::whole(plenty),
        }
    }

    /// Writes one batch. A fault of the database leaves its rows at the front of the queue.
    async fn write_some(&mut self, worthwhile: usize) -> Result<(), Fault> {
        let pieces = self.queue.take(self.portion(worthwhile));
        if pieces.is_empty() {
            return Ok(());
        }
        let n = pieces.len();
        let begun = Instant::now();
        let outcome = self.write(Block::new(pieces)).await;
        let service = self.queue.service;
        metrics::histogram!("manifold_commit_batch_size", "service" => service).record(n as f64);
        metrics::histogram!("manifold_commit_seconds", "service" => service).record(begun.elapsed());
        metrics::gauge!("manifold_write_queue_depth", "service" => service).set(self.queue.depth() as f64);
        self.queue.flows(outcome.is_ok());
        match outcome {
            Ok(()) if self.failures > 0 => {
                info!(service, failures = self.failures, "database is back");
                self.failures = 0;
            }
            Ok(()) => {}
            Err(_) => self.failures = self.failures.saturating_add(1),
        }
        outcome
    }

    /// Writes a block in one transaction. If a piece is refused, the block is cut until that piece stands alone.
    async fn write(&mut self, block: Block) -> Result<(), Fault> {
        let mut blocks = vec![block];
        while let Some(mut block) = blocks.pop() {
            if self.link.separates(&block) {
                let (commands, rows) = block.apart();
                blocks.extend([rows, commands]);
                continue;
            }
            let attempt = match self.link.attempt(&mut block).await {
                Ok(()) => self.settle(block.lasts()).await,
                failed => failed,
            };
            match attempt {
                Ok(()) => self.queue.finished(block.succeed()),
                Err(Failure::Refused { cut, error }) => match block.cut(cut) {
                    Ok((first, rest)) => blocks.extend([rest, first]),
                    Err(single) => self.queue.finished(single.refuse(&self.queue, error)),
                },
                Err(Failure::Fault { fault, error }) => {
                    if self.failures == 0 {
                        let waiting = self.queue.depth();
                        warn!(
                            service = self.queue.service,
                            waiting,
                            error = error.chain(),
                            "database failed, rows are kept"
                        );
                    }
                    blocks.push(block);
                    self.keep(blocks, fault);
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// After a commit: nobody hears of the success of a command that a power cut would undo.
    async fn settle(&self, lasts: bool) -> Result<(), Failure> {
        match &self.log {
            Some(log) if !lasts => log.grew(),
            Some(log) if !log.synced().await => {
                let error = Error::internal("the log of the database cannot be synced");
                return Err(Failure::Fault { fault: Fault::Away, error });
            }
            _ => {}
        }
        Ok(())
    }

    /// Rows go back to the queue; whoever waits for a command is told.
    fn keep(&self, mut blocks: Vec<Block>, fault: Fault) {
        let mut groups = Vec::new();
        // The last block is the next one.
        while let Some(block) = blocks.pop() {
            self.queue.finished(block.commands.len());
            groups.extend(block.keep(fault));
        }
        let behind = self.queue.put_back(groups);
        self.queue.finished(behind.len());
        Block::new(behind).keep(fault);
    }
}

/// Nobody writes any more: commands fail, rows are counted as lost.
impl Drop for Writer {
    fn drop(&mut self) {
        let left = self.queue.close();
        self.queue.finished(left.len());
        for piece in left {
            match piece {
                Piece::Command(job) => job.finish(Err(Fault::Away.error())),
                Piece::Rows(group) => self.queue.dropped(&group, "shutdown"),
            }
        }
    }
}
