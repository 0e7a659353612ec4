//! `/v1/limits`: limits of single keys, owners and people, and of the tenant as a whole, beside those that everybody meets.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_cache::{Algorithm, Mode, OnStoreFailure, Window};
use manifold_core::Error;
use manifold_identity::{Limited, Rule, Rules};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{Call, Id};
use crate::edge::House;
use crate::json;
use crate::refusal::Answer;
use crate::rest::{nothing, respond};

/// The limits that somebody shall have: these and no others.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetLimitsRequest {
    /// At most 10; none takes all away.
    #[schema(max_items = 10)]
    limits: Vec<LimitRule>,
}

/// One limit of requests in time.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitRule {
    /// Lower-case letters, digits, `-` and `_`; once per subject. Headers show it as `key/…`, `owner/…`, `user/…` or
    /// `tenant/…`.
    #[schema(example = "minute", min_length = 1, max_length = 40, pattern = "^[a-z0-9_-]+$")]
    name: String,
    /// Requests per window.
    #[schema(example = 600, minimum = 1)]
    quota: u64,
    /// A length of time such as `60s`, or `day` or `month` of the calendar in UTC.
    #[schema(example = "60s", format = "window")]
    window: String,
    /// Requests that may come within a moment. Default: the quota. Only with `gcra`.
    #[schema(example = 60, minimum = 1)]
    burst: Option<u64>,
    /// `gcra` (units come back one by one), `sliding` or `fixed`. Default: `gcra`, and `fixed` for a day or month.
    #[schema(value_type = Option<String>, example = "gcra", pattern = "^(gcra|sliding|fixed)$")]
    algorithm: Option<Algorithm>,
    /// Who counts together: `local` (each process, default), `leased` or `strict` (all processes of one Redis).
    #[serde(default)]
    #[schema(value_type = String, example = "local", pattern = "^(local|leased|strict)$")]
    mode: Mode,
    /// A shared limit while Redis is away: `local` (default) or `deny`.
    #[serde(default)]
    #[schema(value_type = String, example = "local", pattern = "^(local|deny)$")]
    on_store_failure: OnStoreFailure,
}

/// The limits of one subject.
#[derive(Serialize, ToSchema)]
pub(crate) struct LimitRules {
    /// `key_…`, `own_…`, `usr_…` or `tenant`.
    #[schema(example = "key_01h455vb4pex5vsknk084sn02q")]
    subject: String,
    /// In the order in which they are charged.
    limits: Vec<LimitRule>,
    /// Who set them; null = nobody.
    #[schema(example = "usr_01h455vb4pex5vsknk084sn02q")]
    updated_by: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<String>,
}

impl LimitRules {
    fn of(subject: Limited, rules: Rules) -> Self {
        let (updated_by, updated_at) = rules.updated.map(|(by, at)| (by, at.to_string())).unzip();
        let limits = rules.rules.into_iter().map(LimitRule::from).collect();
        Self { subject: subject.print(), limits, updated_by, updated_at }
    }
}

impl From<Rule> for LimitRule {
    fn from(rule: Rule) -> Self {
        let Rule { name, quota, window, burst, algorithm, mode, on_store_failure } = rule;
        Self { name, quota, window: window.to_string(), burst, algorithm, mode, on_store_failure }
    }
}

impl LimitRule {
    fn read(self, index: usize) -> Answer<Rule> {
        let Self { name, quota, window, burst, algorithm, mode, on_store_failure } = self;
        let window = Window::parse(&window).ok_or_else(|| {
            let message = "window is a length of time such as 60s, or day, or month";
            Error::invalid("LIMIT_INVALID", message).at(format!("limits[{index}].window"))
        })?;
        Ok(Rule { name, quota, window, burst, algorithm, mode, on_store_failure })
    }
}

/// Show limits
///
/// What was given to one key, all keys of an owner, one person or the tenant as a whole, beside the limits that everybody meets.
#[utoipa::path(
    get,
    path = "/v1/limits/{subject}",
    operation_id = "getLimits",
    tag = "Limits",
    params(("subject" = String, Path, description = "`key_…`, `own_…`, `usr_…` or `tenant`", example = "tenant",
        pattern = "^(tenant|[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25})$")),
    responses((status = 200, description = "The limits", body = LimitRules, example = json!({
        "subject": "tenant", "limits": [{"name": "minute", "quota": 600, "window": "1m", "burst": 60, "algorithm": null,
        "mode": "local", "on_store_failure": "local"}], "updated_by": "usr_01h455vb4pex5vsknk084sn02q",
        "updated_at": "2026-11-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("limits.rule.read")))
)]
pub(crate) async fn get_limits(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let subject = Limited::parse(&id)?;
    let rules = house.identity.get_limits(&call.context, subject).await?;
    Ok(respond(StatusCode::OK, &LimitRules::of(subject, rules))?)
}

/// Set limits
///
/// These and no others, everywhere within a second. They are charged beside the limits that everybody meets and never lift
/// one. This operation and its neighbours are not charged to them, so that nobody is locked out by them for good.
#[utoipa::path(
    put,
    path = "/v1/limits/{subject}",
    operation_id = "setLimits",
    tag = "Limits",
    params(("subject" = String, Path, description = "`key_…`, `own_…`, `usr_…` or `tenant`", example = "tenant",
        pattern = "^(tenant|[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25})$")),
    request_body(content = SetLimitsRequest, example = json!({"limits": [{"name": "minute", "quota": 600, "window": "60s",
        "burst": 60}]})),
    responses((status = 200, description = "The limits", body = LimitRules, example = json!({
        "subject": "tenant", "limits": [{"name": "minute", "quota": 600, "window": "1m", "burst": 60, "algorithm": null,
        "mode": "local", "on_store_failure": "local"}], "updated_by": "usr_01h455vb4pex5vsknk084sn02q",
        "updated_at": "2026-11-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("limits.rule.write")))
)]
pub(crate) async fn set_limits(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let subject = Limited::parse(&id)?;
    let body: SetLimitsRequest = json::read_strictly(&call.body)?;
    let rules = body.limits.into_iter().enumerate().map(|(index, rule)| rule.read(index)).collect::<Answer<_>>()?;
    let rules = house.identity.set_limits(&call.context, subject, rules).await?;
    Ok(respond(StatusCode::OK, &LimitRules::of(subject, rules))?)
}

/// Take limits away
///
/// All that were given to the key, the owner, the person or the tenant. Those that everybody meets stay. Repeating it changes nothing.
#[utoipa::path(
    delete,
    path = "/v1/limits/{subject}",
    operation_id = "deleteLimits",
    tag = "Limits",
    params(("subject" = String, Path, description = "`key_…`, `own_…`, `usr_…` or `tenant`", example = "tenant",
        pattern = "^(tenant|[a-z]{3}_[0-7][0-9a-hjkmnp-tv-z]{25})$")),
    responses((status = 204, description = "There are none any more")),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("limits.rule.write")))
)]
pub(crate) async fn delete_limits(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    house.identity.set_limits(&call.context, Limited::parse(&id)?, Vec::new()).await?;
    Ok(nothing())
}
