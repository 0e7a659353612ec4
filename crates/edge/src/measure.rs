//! What is measured at the door. Handles are looked up once per route and status, never per request.

use std::sync::OnceLock;
use std::time::Duration;

use http::Method;
use metrics::{Gauge, Histogram};

const DURATION: &str = "http_server_request_duration_seconds";
/// The client was gone before it was answered: nginx's number, for the metric only.
pub(crate) const ABANDONED: u16 = 499;
const STATUSES: [u16; 29] = [
    200, 201, 202, 204, 301, 304, 400, 401, 402, 403, 404, 405, 408, 409, 410, 412, 413, 414, 415, 417, 422, 429, 431,
    ABANDONED, 500, 501, 502, 503, 504,
];

/// How an answer goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// At once.
    Whole,
    /// As it is made.
    Streamed,
}

/// Requests being answered now.
pub(crate) fn in_flight() -> Gauge {
    metrics::gauge!("manifold_http_in_flight")
}

/// How long one operation takes, by status and by plain or streamed answer.
pub(crate) struct Durations {
    method: Method,
    route: String,
    cells: Box<[OnceLock<Histogram>]>,
}

impl Durations {
    /// Durations of one operation; `route` is its template, never a raw path.
    pub(crate) fn new(method: Method, route: &str) -> Self {
        let cells = (0..STATUSES.len() * 2).map(|_| OnceLock::new()).collect();
        Self { method, route: route.to_owned(), cells }
    }

    /// Counts one answer.
    pub(crate) fn record(&self, status: u16, delivery: Delivery, took: Duration) {
        let Some(position) = STATUSES.iter().position(|known| *known == status) else {
            return histogram(&self.method, &self.route, status, delivery).record(took);
        };
        let cell = &self.cells[position * 2 + delivery as usize];
        cell.get_or_init(|| histogram(&self.method, &self.route, status, delivery)).record(took);
    }
}

/// Counts an answer of no operation, such as a 404.
pub(crate) fn record_unmatched(status: u16, took: Duration) {
    histogram(&Method::GET, "unmatched", status, Delivery::Whole).record(took);
}

fn histogram(method: &Method, route: &str, status: u16, delivery: Delivery) -> Histogram {
    metrics::histogram!(
        DURATION,
        "http_request_method" => method.to_string(),
        "http_route" => route.to_owned(),
        "http_response_status_code" => status.to_string(),
        "stream" => if delivery == Delivery::Streamed { "true" } else { "false" },
    )
}
