//! The management listener of every role: probes and metrics, for operators and never for the public.

use std::future::ready;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::response::Response;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use manifold_core::{Result, ResultExt};
use manifold_runtime::{Health, Lanes, Tasks, telemetry};

use crate::caps::Caps;
use crate::guard::Timers;
use crate::listen::{self, Manners, Peer};
use crate::rest::probes;

const CONNECTIONS: usize = 256;
const PATIENCE: Duration = Duration::from_secs(30);

/// Listens and answers `/healthz`, `/readyz` and `/metrics` until the tasks are told to stop.
pub async fn start(listen: SocketAddr, health: Health, tasks: &Tasks) -> Result<SocketAddr> {
    let listener = listen::bind(listen)?;
    let address = listener.local_addr().or_err(manifold_core::Code::Internal, "read the address of a listener")?;
    let timers = Timers { first_byte: PATIENCE, head: PATIENCE, idle: PATIENCE, write_stall: PATIENCE };
    let manners = Manners {
        caps: Caps::new(CONNECTIONS, CONNECTIONS, Vec::new()),
        timers,
        max_head: 8 << 10,
        max_headers: 100,
        drain: Duration::from_secs(1),
    };
    let handler = move |peer: Arc<Peer>, request: Request<Incoming>| {
        peer.line.begin();
        let response = answer(&request, &health);
        peer.line.end();
        ready(response)
    };
    tasks.spawn("management listener", listen::accept(listener, manners, handler, Lanes::none(), tasks.clone()));
    tracing::info!(%address, "management listener is open");
    Ok(address)
}

fn answer<B>(request: &Request<B>, health: &Health) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return probes::respond(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET only".to_owned());
    }
    match request.uri().path() {
        "/healthz" => probes::health(),
        "/readyz" => probes::readiness(health),
        "/metrics" => {
            let text = telemetry::prometheus().render();
            probes::respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
        }
        _ => probes::respond(StatusCode::NOT_FOUND, "text/plain", "/healthz, /readyz or /metrics".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, path: &str, health: &Health) -> u16 {
        answer(&Request::builder().method(method).uri(path).body(()).unwrap(), health).status().as_u16()
    }

    #[test]
    fn readiness_follows_the_components_and_health_does_not() {
        let health = Health::new();
        let store = health.component("store");

        let starting = (status(Method::GET, "/healthz", &health), status(Method::GET, "/readyz", &health));
        store.ready();
        let ready = status(Method::GET, "/readyz", &health);

        assert_eq!((starting, ready), ((200, 503), 200));
    }

    #[test]
    fn nothing_else_is_served() {
        assert_eq!(status(Method::GET, "/metrics", &Health::new()), 200);
        assert_eq!(status(Method::GET, "/v1/keys", &Health::new()), 404);
        assert_eq!(status(Method::POST, "/metrics", &Health::new()), 405);
    }
}
