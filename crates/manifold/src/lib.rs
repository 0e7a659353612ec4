//! The composition root: reads the configuration, starts the services of this process, and offers the command line.
//! Knows everyone and contains no business logic.

pub mod cli;
mod command;
pub mod config;
mod explain;
mod lock;
pub mod node;
mod output;
