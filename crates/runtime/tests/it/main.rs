//! The runtime as its users see it: calls over both paths, outbound HTTP against misbehaving servers, settings, traces.

mod config;
mod echo;
mod http;
mod http_limits;
mod mesh;
mod mesh_trust;
mod server;
mod traces;
