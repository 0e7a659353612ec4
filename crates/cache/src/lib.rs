//! Rate limits inside one process. Who is limited, and how tightly, is decided by the caller.

mod gcra;
mod limiter;
mod policy;

pub use limiter::{Decision, Limiter};
pub use policy::Policy;
