//! `/v1/keys/{id}/usage`: what a key was used for.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_core::Nanos;
use manifold_identity::{DEFAULT_WINDOW, UsageRow, parse_key_id};
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::{Call, Id, Query};
use crate::edge::House;
use crate::refusal::{Answer, Refusal};
use crate::rest::respond;

const HOUR: u64 = 3_600;

/// What a key was used for, by hour, the oldest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyUsage {
    /// Hours in which nothing happened are left out.
    pub(crate) data: Vec<HourOfUsage>,
}

/// The requests of one hour that had the same operation and outcome.
#[derive(Serialize, ToSchema)]
pub(crate) struct HourOfUsage {
    /// When the hour began.
    #[schema(value_type = String, format = DateTime)]
    hour: String,
    /// `chat`, `embeddings` …
    #[schema(example = "chat")]
    operation: String,
    /// `ok`, `failed` …
    #[schema(example = "ok")]
    outcome: String,
    #[schema(example = 120)]
    n_requests: i64,
    #[schema(example = 5_400)]
    input_tokens: i64,
    #[schema(example = 9_100)]
    output_tokens: i64,
    /// US dollars, of those requests whose price is known.
    #[schema(example = "0.004120")]
    cost: String,
    /// Requests whose price is not known.
    #[schema(example = 0)]
    n_unpriced: i64,
    /// Mean time from the first to the last byte.
    #[schema(example = 412)]
    mean_duration_ms: i64,
}

impl From<UsageRow> for HourOfUsage {
    fn from(row: UsageRow) -> Self {
        Self {
            hour: row.hour.to_string(),
            operation: row.operation,
            outcome: row.outcome,
            n_requests: row.sums.n,
            input_tokens: row.sums.input_tokens,
            output_tokens: row.sums.output_tokens,
            cost: Nanos(row.sums.cost_nanos).to_string(),
            n_unpriced: row.sums.n_unpriced,
            mean_duration_ms: row.sums.duration_us / row.sums.n.max(1) / 1_000,
        }
    }
}

/// Show what an API key was used for
///
/// Requests, tokens and cost by hour, operation and outcome, about a second late. The first hour of the window is whole.
#[utoipa::path(
    get,
    path = "/v1/keys/{id}/usage",
    operation_id = "getKeyUsage",
    tag = "Keys",
    params(
        ("id" = String, Path, description = "Id of the key", example = "key_01h455vb4pex5vsknk084sn02q"),
        ("window" = Option<String>, Query, description = "How far back: hours or days up to 90d. Default: 24h", example = "7d", pattern = "^(([1-9]|[1-8][0-9]|90)d|([1-9][0-9]{0,2}|1[0-9]{3}|20[0-9]{2}|21[0-5][0-9]|2160)h)$"),
    ),
    responses((status = 200, description = "The usage of the key", body = KeyUsage, example = json!({"data": [{
        "hour": "2026-11-20T09:00:00Z", "operation": "chat", "outcome": "ok", "n_requests": 120, "input_tokens": 5400,
        "output_tokens": 9100, "cost": "0.004120", "n_unpriced": 0, "mean_duration_ms": 412
    }]}))),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("keys.key.read")))
)]
pub(crate) async fn get_key_usage(
    State(house): State<Arc<House>>,
    Id(id): Id,
    query: Query,
    call: Call,
) -> Answer<Response> {
    let usage = house.identity.key_usage(&call.context, parse_key_id(&id)?, window(&query)?).await?;
    Ok(respond(StatusCode::OK, &KeyUsage { data: usage.into_iter().map(HourOfUsage::from).collect() })?)
}

/// Reads `window`.
pub(crate) fn window(query: &Query) -> Answer<Duration> {
    let asked = query.only("window")?;
    Ok(asked.map(|text| duration(text).ok_or_else(no_window)).transpose()?.unwrap_or(DEFAULT_WINDOW))
}

/// `24h` or `7d`.
fn duration(text: &str) -> Option<Duration> {
    let (number, hours) = match text.strip_suffix('d') {
        Some(days) => (days, 24),
        None => (text.strip_suffix('h')?, 1),
    };
    Some(Duration::from_secs(number.parse::<u16>().ok()? as u64 * hours * HOUR))
}

fn no_window() -> Refusal {
    Refusal::bad("WINDOW_INVALID", "window is a number of hours or days, such as 24h or 7d").at("window")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_is_a_number_of_hours_or_days() {
        let hours = |query: &str| window(&Query(query.to_owned())).map(|window| window.as_secs() / HOUR);

        assert_eq!(hours("").ok(), Some(24));
        assert_eq!(hours("window=3h").ok(), Some(3));
        assert_eq!(hours("window=7d").ok(), Some(168));
        for wrong in ["window=", "window=7", "window=-1d", "window=1w", "window=1d&window=2d", "from=1"] {
            assert!(hours(wrong).is_err(), "{wrong}");
        }
    }
}
