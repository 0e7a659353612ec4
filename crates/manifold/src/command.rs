//! One file per command.

pub mod api;
pub mod audit;
pub mod bus;
pub mod config;
pub mod db;
pub mod doctor;
pub mod keys;
pub mod migrate;
pub mod roles;
pub mod secrets;
pub mod serve;
pub mod status;
pub mod tenants;
pub mod users;
pub mod vault;
