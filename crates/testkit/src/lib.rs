//! What stories are told with: a whole Manifold on real sockets and real databases, simulated providers that misbehave on
//! command, and clients that can vanish. For tests only.

mod client;
pub mod dialect;
mod http1;
mod mailbox;
mod sandbox;
mod upstream;
mod wire;

pub use client::{Client, Reply, Stream};
pub use mailbox::{Mail, Mailbox};
pub use sandbox::{Builder, Sandbox, Shape, postgres_url};
pub use upstream::{Answer, End, Seen, Upstream};
pub use wire::Wire;
