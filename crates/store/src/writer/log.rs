//! SQLite's write-ahead log, on the disk and into the file, outside the transactions. A commit ends once it stands in the
//! log, which survives kill -9; a power cut is survived once the log is synced. Only commands wait for that. Syncing and
//! copying take milliseconds, sometimes many, in which the next transactions go on.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tracing::{error, warn};

use super::Durability;
use super::link::STUCK;

/// How long a power cut may undo rows that nobody waits for. Each sync costs CPU and stops whoever writes for a moment.
const SYNC_AFTER: Duration = Duration::from_millis(25);
/// How often the log is copied into the file while it grows. A commit that finds it longer than
/// [`CHECKPOINT`](crate::location) copies the rest itself, so that SQLite can begin the log anew.
const COPY_EVERY: Duration = Duration::from_millis(25);

/// Whoever waits for a sync.
type Waiting = Option<oneshot::Sender<bool>>;

/// Told of every commit.
pub(super) struct Log {
    commits: mpsc::UnboundedSender<Waiting>,
}

/// Works until its [`Log`] is gone.
pub(super) struct Keeper {
    commits: mpsc::UnboundedReceiver<Waiting>,
    service: &'static str,
    path: PathBuf,
    durability: Durability,
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
}

/// The log of a database that is opened with these options.
pub(super) fn log(service: &'static str, options: &SqliteConnectOptions, durability: Durability) -> (Log, Keeper) {
    let mut path = options.get_filename().as_os_str().to_owned();
    path.push("-wal");
    let (sender, commits) = mpsc::unbounded_channel();
    let keeper = Keeper { commits, service, path: path.into(), durability, options: options.clone(), connection: None };
    (Log { commits: sender }, keeper)
}

impl Log {
    /// There is a new commit. Nobody waits for its sync.
    pub(super) fn grew(&self) {
        // The keeper ends after this end of the channel.
        let _ = self.commits.send(None);
    }

    /// There is a new commit. Whether it will survive a power cut.
    pub(super) async fn synced(&self) -> bool {
        let (sender, synced) = oneshot::channel();
        let _ = self.commits.send(Some(sender));
        matches!(timeout(STUCK, synced).await, Ok(Ok(true)))
    }
}

impl Keeper {
    pub(super) async fn run(mut self) {
        let mut copied_at = Instant::now();
        while let Some(first) = self.commits.recv().await {
            let waiting = self.gather(first).await;
            let synced = self.sync().await;
            for waiting in waiting {
                // Who does not wait any more does not mind.
                let _ = waiting.send(synced);
            }
            if copied_at.elapsed() >= COPY_EVERY {
                self.copy().await;
                copied_at = Instant::now();
            }
        }
    }

    /// Who waits for the next sync. It comes at once for somebody, and a little later, together for many commits, if nobody
    /// waits.
    async fn gather(&mut self, first: Waiting) -> Vec<oneshot::Sender<bool>> {
        let mut waiting: Vec<_> = first.into_iter().collect();
        let somebody = async {
            while waiting.is_empty()
                && let Some(next) = self.commits.recv().await
            {
                waiting.extend(next);
            }
        };
        // In time or not: what came is in the list.
        let _ = timeout(SYNC_AFTER, somebody).await;
        while let Ok(more) = self.commits.try_recv() {
            waiting.extend(more);
        }
        waiting
    }

    async fn sync(&self) -> bool {
        if self.durability == Durability::Normal {
            return true;
        }
        let begun = Instant::now();
        let path = self.path.clone();
        let outcome = spawn_blocking(move || sync(&path)).await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        metrics::histogram!("manifold_log_sync_seconds", "service" => self.service).record(begun.elapsed());
        if let Err(error) = &outcome {
            error!(service = self.service, %error, "the log of the database is not on the disk");
        }
        outcome.is_ok()
    }

    /// As far as it goes without stopping anybody (`PASSIVE`).
    async fn copy(&mut self) {
        if let Err(error) = self.checkpoint().await {
            warn!(service = self.service, %error, "the log of the database is not copied, trying again");
            self.connection = None;
        }
    }

    async fn checkpoint(&mut self) -> Result<(), sqlx::Error> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(self.options.connect().await?),
        };
        sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(connection).await.map(|_| ())
    }
}

/// Opened anew each time: after a reconnect, the log may be another file of the same name. SQLite holds no locks on it.
fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_data()
}
