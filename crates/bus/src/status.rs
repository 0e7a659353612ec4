//! How events stand, for people.

use futures::TryStreamExt;
use manifold_core::{Result, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, on};

use crate::jetstream::{Broker, away};

/// An outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxStatus {
    /// Events that are there.
    pub n_events: i64,
    /// Those of them that no stream has. Without a broker that is all of them.
    pub n_waiting: i64,
    /// Since when the oldest of those waits.
    pub waiting_since: Option<Timestamp>,
}

/// The stream.
#[derive(Clone, Debug)]
pub struct StreamStatus {
    /// Events that are there.
    pub n_events: u64,
    /// How much room they take.
    pub n_bytes: u64,
    /// How much room there is; None = no limit.
    pub max_bytes: Option<u64>,
    /// Who reads it.
    pub consumers: Vec<ConsumerStatus>,
}

/// A consumer of the stream.
#[derive(Clone, Debug)]
pub struct ConsumerStatus {
    /// Its name.
    pub name: String,
    /// Events that it has not been given.
    pub n_pending: u64,
    /// Events that it was given and that have no outcome yet.
    pub n_unfinished: usize,
}

/// How the outbox in this database stands.
pub async fn outbox_status(db: &Db) -> Result<OutboxStatus> {
    type Columns = (i64, i64, Option<Micros>);
    let sql = match db {
        // No relay looks for them here, so they are not marked.
        Db::Sqlite(_) => "SELECT COUNT(*), COUNT(*), MIN(created_at) FROM outbox",
        Db::Postgres(_) => {
            "SELECT (SELECT COUNT(*) FROM outbox), COUNT(*), MIN(created_at) FROM outbox WHERE published_at IS NULL"
        }
    };
    let row: Result<Columns, _> = on!(db, |pool| sqlx::query_as(sql).fetch_one(pool).await);
    let (n_events, n_waiting, since) = row.during("look how the outbox stands")?;
    Ok(OutboxStatus { n_events, n_waiting, waiting_since: since.map(Timestamp::from) })
}

impl Broker {
    /// How the stream stands.
    pub async fn status(&self) -> Result<StreamStatus> {
        let stream = self.stream().await?;
        let info = stream.cached_info();
        let consumers: std::result::Result<Vec<_>, _> = stream.consumers().try_collect().await;
        let consumers = consumers.map_err(|error| away("the consumers of the stream are not known").because(error))?;
        let consumer = |found: async_nats::jetstream::consumer::Info| ConsumerStatus {
            name: found.name,
            n_pending: found.num_pending,
            n_unfinished: found.num_ack_pending,
        };
        Ok(StreamStatus {
            n_events: info.state.messages,
            n_bytes: info.state.bytes,
            max_bytes: u64::try_from(info.config.max_bytes).ok().filter(|bytes| *bytes > 0),
            consumers: consumers.into_iter().map(consumer).collect(),
        })
    }
}
