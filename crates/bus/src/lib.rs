//! Events: the envelope, the outbox that makes an event durable together with the state it reports, and consumers, in which
//! it takes effect exactly once. Jobs: work that outlives its process. What an event or a job means is the business of those
//! who publish, consume and work.

mod chain;
mod consumer;
mod dead;
mod event;
mod failure;
mod inbox;
mod jetstream;
mod job;
mod once;
mod outbox;
mod place;
mod redrive;
mod relay;
mod status;
mod store;
mod subject;
mod subscription;
mod verify;

pub use chain::Chain;
pub use consumer::{Bus, Handler, consume};
pub use dead::{Buried, Kind, Which, dead_letters, prune_dead_letters};
pub use event::{Cause, Draft};
pub use failure::Failure;
pub use jetstream::{Broker, BrokerConfig};
pub use job::{Done, Job, JobFilter, Jobs, NewJob, Progress, Running, State, Worker, all_jobs};
pub use once::{Asked, Claimed, Turn, prune_answers};
pub use outbox::{Outbox, OutboxRow};
pub use place::Source;
pub use redrive::redrive;
pub use relay::{expect_relay, relay};
pub use status::{ConsumerStatus, OutboxStatus, StreamStatus, outbox_status};
pub use store::{Cursor, cursors, follow_move, leave_numbers_out};
pub use subscription::{Consumer, Filter};
pub use verify::{Finding, verify};

/// Tables of the bus: part of every service's database.
pub fn migrations() -> manifold_store::Migrations {
    manifold_store::migrations!()
}
