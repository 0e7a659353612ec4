//! What the service publishes. Customers may subscribe, so payloads are JSON in snake case.

use manifold_bus::Draft;
use manifold_core::{KeyId, RequestId, TenantId};
use serde::Serialize;

use crate::store::RequestRow;

/// Room for most payloads without growing.
const USUAL_SIZE: usize = 512;

/// `ai.request.completed`: the request of `row` came to its end, well or not. `provider` and `model` answered it; both are
/// empty if nobody was asked.
pub fn request_completed(row: &RequestRow, provider: &str, model: &str) -> Draft {
    let request_id = String::from(RequestId(row.id));
    let data = Object::new()
        .with("request_id", &request_id)
        .with("key_id", row.key_id.map(|id| String::from(KeyId(id))))
        .with("operation", row.operation)
        .with("requested_model", &row.requested)
        .with("provider", provider)
        .with("model", model)
        .with("stream", row.stream)
        .with("outcome", row.outcome)
        .with("class", &row.class)
        .with("n_attempts", row.n_attempts)
        .with("input_tokens", row.input_tokens)
        .with("output_tokens", row.output_tokens)
        .with("cost_nanos", row.cost_nanos)
        .with("price_state", row.price_state)
        .with("ttft_us", row.ttft_us)
        .with("duration_us", row.duration_us)
        .end();
    Draft { type_: "ai.request.completed", subject: request_id, tenant: TenantId(row.tenant_id), data: data.into() }
}

/// A JSON object whose names are written as they stand. Looking in each of them for characters to escape, as a derived
/// `Serialize` does, takes longer than all values.
struct Object(Vec<u8>);

impl Object {
    fn new() -> Self {
        Self(Vec::with_capacity(USUAL_SIZE))
    }

    fn with(mut self, name: &'static str, value: impl Serialize) -> Self {
        self.0.extend_from_slice(if self.0.is_empty() { b"{\"" } else { b",\"" });
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        serde_json::to_writer(&mut self.0, &value).expect("numbers and texts are JSON");
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.0.push(b'}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_payload_is_what_customers_read() {
        let row = RequestRow { operation: "chat", requested: "a\"b".to_owned(), outcome: "ok", ..Default::default() };

        let draft = request_completed(&row, "groq", "llama");

        assert_eq!(
            std::str::from_utf8(&draft.data).unwrap(),
            r#"{"request_id":"req_00000000000000000000000000","key_id":null,"operation":"chat","requested_model":"a\"b","provider":"groq","model":"llama","stream":false,"outcome":"ok","class":"","n_attempts":0,"input_tokens":0,"output_tokens":0,"cost_nanos":null,"price_state":"","ttft_us":null,"duration_us":0}"#
        );
    }
}
