//! Events: the envelope, the outbox that makes an event durable together with the state it reports, and consumers, in which
//! it takes effect exactly once. Jobs: work that outlives its process. What an event or a job means is the business of those
//! who publish, consume and work.

mod consumer;
mod dead;
mod event;
mod job;
mod outbox;
mod store;
mod subject;

pub use consumer::{Consumer, Failure, Filter, Handler, Source, consume};
pub use dead::{Buried, Kind, Which, dead_letters, prune_dead_letters, redrive};
pub use event::{Cause, Draft};
pub use job::{Done, Job, JobFilter, Jobs, NewJob, Progress, Running, State, Worker, all_jobs};
pub use outbox::{Outbox, OutboxRow};
pub use store::{Cursor, cursors, leave_numbers_out};

/// Tables of the bus: part of every service's database.
pub fn migrations() -> manifold_store::Migrations {
    manifold_store::migrations!()
}
