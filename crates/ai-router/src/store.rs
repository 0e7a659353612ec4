//! All SQL of the service: the tables of usage, as rows that the writer merges.

use std::sync::Arc;

use manifold_core::{Result, Timestamp};
use manifold_store::{Db, Row, Values};
use uuid::Uuid;

/// One request of a caller.
#[derive(Debug, Default)]
pub struct RequestRow {
    /// Same as in the answer's `x-manifold-request-id`.
    pub id: Uuid,
    /// Whose it is.
    pub tenant_id: Uuid,
    /// When it came.
    pub created_at: Timestamp,
    /// The key that made it.
    pub key_id: Option<Uuid>,
    /// Wire format of the caller.
    pub dialect: &'static str,
    /// `chat` or `embed`.
    pub operation: &'static str,
    /// The model as the caller named it.
    pub requested: String,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// `ok`, `failed` or `cancelled`.
    pub outcome: &'static str,
    /// Class of the failure; empty = none.
    pub class: String,
    /// HTTP requests sent to providers.
    pub n_attempts: i64,
    /// Of all attempts.
    pub input_tokens: i64,
    /// Of all attempts.
    pub output_tokens: i64,
    /// Of all attempts; None = some price is unknown.
    pub cost_nanos: Option<i64>,
    /// How sure the cost is.
    pub price_state: &'static str,
    /// Microseconds to the first content.
    pub ttft_us: Option<i64>,
    /// Microseconds in all.
    pub duration_us: i64,
    /// Microseconds outside providers.
    pub overhead_us: i64,
    /// W3C trace id.
    pub trace_id: String,
}

/// One HTTP request to a provider.
#[derive(Clone, Debug)]
pub struct AttemptRow {
    /// The request that it served.
    pub request_id: Uuid,
    /// From 1.
    pub n: i64,
    /// Whose it is.
    pub tenant_id: Uuid,
    /// When it was sent.
    pub created_at: Timestamp,
    /// Such as `groq`.
    pub provider: Arc<str>,
    /// The provider's own name.
    pub model: Arc<str>,
    /// `free`, `paid` or `local`.
    pub tier: &'static str,
    /// Class of the failure; `ok` = none.
    pub class: &'static str,
    /// HTTP status; None = no answer came.
    pub status: Option<i64>,
    /// Tokens of the prompt.
    pub input_tokens: i64,
    /// Of them cached by the provider.
    pub cached_tokens: i64,
    /// Tokens of the answer.
    pub output_tokens: i64,
    /// Of them thinking.
    pub reasoning_tokens: i64,
    /// `provider`, `counted` or `none`.
    pub usage_source: &'static str,
    /// None = a price is unknown.
    pub cost_nanos: Option<i64>,
    /// How sure the cost is.
    pub price_state: &'static str,
    /// Microseconds to the first content.
    pub ttft_us: Option<i64>,
    /// Microseconds in all.
    pub duration_us: i64,
}

impl Row for RequestRow {
    const TABLE: &'static str = "ai_request";
    const COLUMNS: &'static [&'static str] = &[
        "id",
        "tenant_id",
        "created_at",
        "key_id",
        "dialect",
        "operation",
        "requested",
        "stream",
        "outcome",
        "class",
        "n_attempts",
        "input_tokens",
        "output_tokens",
        "cost_nanos",
        "price_state",
        "ttft_us",
        "duration_us",
        "overhead_us",
        "trace_id",
    ];

    fn bind(&self, values: &mut Values<'_>) {
        values.uuid(self.id);
        values.uuid(self.tenant_id);
        values.int(self.created_at.micros());
        values.opt_uuid(self.key_id);
        values.text(self.dialect);
        values.text(self.operation);
        values.text(&self.requested);
        values.bool(self.stream);
        values.text(self.outcome);
        values.text(&self.class);
        values.int(self.n_attempts);
        values.int(self.input_tokens);
        values.int(self.output_tokens);
        values.opt_int(self.cost_nanos);
        values.text(self.price_state);
        values.opt_int(self.ttft_us);
        values.int(self.duration_us);
        values.int(self.overhead_us);
        values.text(&self.trace_id);
    }
}

impl Row for AttemptRow {
    const TABLE: &'static str = "ai_attempt";
    const COLUMNS: &'static [&'static str] = &[
        "request_id",
        "n",
        "tenant_id",
        "created_at",
        "provider",
        "model",
        "tier",
        "class",
        "status",
        "input_tokens",
        "cached_tokens",
        "output_tokens",
        "reasoning_tokens",
        "usage_source",
        "cost_nanos",
        "price_state",
        "ttft_us",
        "duration_us",
    ];

    fn bind(&self, values: &mut Values<'_>) {
        values.uuid(self.request_id);
        values.int(self.n);
        values.uuid(self.tenant_id);
        values.int(self.created_at.micros());
        values.text(&self.provider);
        values.text(&self.model);
        values.text(self.tier);
        values.text(self.class);
        values.opt_int(self.status);
        values.int(self.input_tokens);
        values.int(self.cached_tokens);
        values.int(self.output_tokens);
        values.int(self.reasoning_tokens);
        values.text(self.usage_source);
        values.opt_int(self.cost_nanos);
        values.text(self.price_state);
        values.opt_int(self.ttft_us);
        values.int(self.duration_us);
    }
}

/// Deletes usage older than `before`, in small batches. Returns the number of rows.
pub async fn prune_usage(db: &Db, before: Timestamp) -> Result<u64> {
    let attempts = manifold_store::prune(db, "ai_attempt", "request_id, n", "created_at", before).await?;
    let requests = manifold_store::prune(db, "ai_request", "id", "created_at", before).await?;
    Ok(attempts + requests)
}
