//! Events: the envelope, the outbox that makes an event durable together with the state it reports, and consumers, in which
//! it takes effect exactly once. Jobs: work that outlives its process. What an event or a job means is the business of those
//! who publish, consume and work.

mod consumer;
mod dead;
mod event;
mod inbox;
mod jetstream;
mod job;
mod once;
mod outbox;
mod relay;
mod status;
mod store;
mod subject;
mod verify;

pub use consumer::{Bus, Consumer, Failure, Filter, Handler, Source, consume};
pub use dead::{Buried, Kind, Which, dead_letters, prune_dead_letters, redrive};
pub use event::{Cause, Chain, Draft};
pub use jetstream::{Broker, BrokerConfig};
pub use job::{Done, Job, JobFilter, Jobs, NewJob, Progress, Running, State, Worker, all_jobs};
pub use once::{Asked, prune_answers};
pub use outbox::{Outbox, OutboxRow};
pub use relay::{expect_relay, relay};
pub use status::{ConsumerStatus, OutboxStatus, StreamStatus, outbox_status};
pub use store::{Cursor, cursors, follow_move, leave_numbers_out};
pub use verify::{Finding, verify};

/// Tables of the bus: part of every service's database.
pub fn migrations() -> manifold_store::Migrations {
    manifold_store::migrations!()
}
