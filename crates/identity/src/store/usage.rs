//! SQL of `key_usage`.

use std::borrow::Cow;

use manifold_core::{KeyId, Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use uuid::Uuid;

/// Which sum.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot<'e> {
    /// The key.
    pub key: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// When the hour began.
    pub hour: Timestamp,
    /// `ok`, `failed` …
    pub outcome: Cow<'e, str>,
    /// `chat`, `embeddings` …
    pub operation: Cow<'e, str>,
}

/// What is added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromRow)]
pub struct Sums {
    /// Requests.
    pub n: i64,
    /// Tokens that models read.
    pub input_tokens: i64,
    /// Tokens that models wrote.
    pub output_tokens: i64,
    /// Billionths of a dollar.
    pub cost_nanos: i64,
    /// Requests whose price is not known.
    pub n_unpriced: i64,
    /// From the first to the last byte.
    pub duration_us: i64,
}

/// Sums of one hour.
#[derive(Clone, Debug, FromRow)]
pub struct UsageRow {
    /// When the hour began.
    #[sqlx(try_from = "Micros")]
    pub hour: Timestamp,
    /// `ok`, `failed` …
    pub outcome: String,
    /// `chat`, `embeddings` …
    pub operation: String,
    /// The sums.
    #[sqlx(flatten)]
    pub sums: Sums,
}

/// Adds to a sum.
pub async fn add(tx: &mut Tx<'_>, slot: &Slot<'_>, sums: &Sums) -> Result<()> {
    let sql = "INSERT INTO key_usage (key_id, tenant_id, hour, outcome, operation, n, input_tokens, output_tokens, cost_nanos, \
               n_unpriced, duration_us) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
               ON CONFLICT (key_id, hour, outcome, operation) DO UPDATE SET n = key_usage.n + excluded.n, \
               input_tokens = key_usage.input_tokens + excluded.input_tokens, \
               output_tokens = key_usage.output_tokens + excluded.output_tokens, \
               cost_nanos = key_usage.cost_nanos + excluded.cost_nanos, \
               n_unpriced = key_usage.n_unpriced + excluded.n_unpriced, \
               duration_us = key_usage.duration_us + excluded.duration_us";
    let added = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(slot.key.0).bind(slot.tenant.0).bind(Micros::from(slot.hour));
        let query = query.bind(&*slot.outcome).bind(&*slot.operation).bind(sums.n).bind(sums.input_tokens);
        let query = query.bind(sums.output_tokens).bind(sums.cost_nanos).bind(sums.n_unpriced).bind(sums.duration_us);
        query.execute(executor).await.map(|_| ())
    });
    added.during("add to the usage of a key")
}

/// The sums of a tenant's key since `from`, oldest first.
pub async fn list(db: &Db, tenant: TenantId, key: Uuid, from: Timestamp) -> Result<Vec<UsageRow>> {
    let sql = "SELECT hour, outcome, operation, n, input_tokens, output_tokens, cost_nanos, n_unpriced, duration_us \
               FROM key_usage WHERE tenant_id = $1 AND key_id = $2 AND hour >= $3 ORDER BY hour, outcome, operation";
    on!(db, |pool| sqlx::query_as(sql).bind(tenant.0).bind(key).bind(Micros::from(from)).fetch_all(pool).await)
        .during("read the usage of a key")
}
