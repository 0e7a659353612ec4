//! What the service publishes. Customers may subscribe, so payloads are JSON in snake case.

use manifold_bus::Draft;
use manifold_core::{KeyId, RequestId, TenantId};
use serde::Serialize;

use crate::store::RequestRow;

/// Room for most payloads without growing.
const USUAL_SIZE: usize = 512;

/// `ai.request.completed`: one request came to its end, well or not.
#[derive(Serialize)]
struct RequestCompleted<'a> {
    request_id: String,
    key_id: Option<String>,
    operation: &'a str,
    requested_model: &'a str,
    provider: &'a str,
    model: &'a str,
    stream: bool,
    outcome: &'a str,
    class: &'a str,
    n_attempts: i64,
    input_tokens: i64,
    output_tokens: i64,
    cost_nanos: Option<i64>,
    price_state: &'a str,
    ttft_us: Option<i64>,
    duration_us: i64,
}

/// The event of `row`, answered by `provider` and `model`; both empty if nobody was asked.
pub fn request_completed(row: &RequestRow, provider: &str, model: &str) -> Draft {
    let payload = RequestCompleted {
        request_id: RequestId(row.id).to_string(),
        key_id: row.key_id.map(|id| KeyId(id).to_string()),
        operation: row.operation,
        requested_model: &row.requested,
        provider,
        model,
        stream: row.stream,
        outcome: row.outcome,
        class: &row.class,
        n_attempts: row.n_attempts,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        cost_nanos: row.cost_nanos,
        price_state: row.price_state,
        ttft_us: row.ttft_us,
        duration_us: row.duration_us,
    };
    Draft {
        type_: "ai.request.completed",
        subject: payload.request_id.clone(),
        tenant: TenantId(row.tenant_id),
        data: json(&payload).into(),
    }
}

fn json(payload: &RequestCompleted<'_>) -> Vec<u8> {
    let mut json = Vec::with_capacity(USUAL_SIZE);
    serde_json::to_writer(&mut json, payload).expect("a struct of numbers and texts is JSON");
    json
}
