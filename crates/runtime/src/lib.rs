//! What every process of the house runs on: configuration, telemetry, the mesh between services, tasks, health and
//! the outbound HTTP client. No words of any domain.

mod channel;
pub mod config;
mod context;
mod guard;
pub mod health;
pub mod http;
mod lanes;
mod mesh;
mod routes;
mod rpc;
mod server;
mod status;
pub mod tasks;
pub mod telemetry;
mod wire;

pub use channel::{Channel, ChannelError};
pub use context::{CallContext, Mark, context, request};
pub use health::Health;
pub use lanes::Lanes;
pub use mesh::{Mesh, MeshConfig};
pub use routes::Routes;
pub use status::{from_status, to_status};
pub use tasks::Tasks;
