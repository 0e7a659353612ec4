//! Events: the envelope, and the outbox that makes an event durable together with the state it reports.
//! What an event means is the business of who publishes it.

mod event;
mod outbox;
mod subject;

pub use event::{Cause, Draft};
pub use outbox::{Outbox, OutboxRow};

/// Tables of the bus: part of every service's database.
pub fn migrations() -> manifold_store::Migrations {
    manifold_store::migrations!()
}
