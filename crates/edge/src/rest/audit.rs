//! `/v1/audit`: what was done in the caller's tenant, and whether the record of it is whole.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, LINK};
use http::{HeaderValue, StatusCode};
use manifold_core::{Error, Timestamp};
use manifold_identity::{AuditEntry, AuditFilter, AuditFormat, AuditKey, Verdict};
use serde::Serialize;
use serde_json::value::RawValue;
use url::form_urlencoded;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::call::{Call, Query};
use crate::edge::House;
use crate::headers::value;
use crate::refusal::{Answer, Refusal};
use crate::rest::respond;

/// What was done.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditedAction {
    /// Its place in the chain, from 1 on without gaps.
    #[schema(example = 42)]
    seq: i64,
    #[schema(value_type = String, format = DateTime)]
    at: String,
    /// Who: a person, a key, or a service.
    #[schema(example = "usr_01h455vb4pex5vsknk084sn02q")]
    actor: String,
    /// What was done.
    #[schema(example = "identity.key.created")]
    action: String,
    /// To what.
    #[schema(example = "key_01h455vb4pex5vsknk084sn02q")]
    target: String,
    /// `ok`, `failed` or `denied`.
    #[schema(example = "ok")]
    outcome: String,
    /// The request that did it.
    #[schema(example = "req_01h455vb4pex5vsknk084sn02q")]
    request_id: Option<String>,
    /// The trace of that request.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: Option<String>,
    /// What was done in particular; null when it was erased.
    #[schema(value_type = Option<Object>)]
    detail: Option<Box<RawValue>>,
    /// Holds everything up to here, 64 hexadecimal digits.
    #[schema(example = "a67f48c8519c83a0cd39bc8c81c9019d500a20c71c8d3d4a4d6217ed7520a6fa")]
    hash: String,
}

/// A page of what was done, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditedActions {
    data: Vec<AuditedAction>,
    /// Pass it as `cursor` for the next page; null = this is the last.
    next_cursor: Option<String>,
    has_more: bool,
}

/// Whether the record of what was done is whole.
#[derive(Serialize, ToSchema)]
pub(crate) struct AuditVerdict {
    /// Nothing was changed, left out, or cut off.
    intact: bool,
    /// The first bad entry.
    #[schema(example = json!(null))]
    first_bad_seq: Option<i64>,
    /// `altered`, `detail_altered`, `missing`, `reordered`, `truncated`, `foreign` or `checkpoint_differs`.
    #[schema(example = json!(null))]
    fault: Option<&'static str>,
    /// Entries that were looked at.
    #[schema(example = 1_204)]
    n_entries: i64,
    /// Entries whose detail was erased; all else of them holds.
    #[schema(example = 0)]
    n_erased: i64,
    /// Signatures that hold.
    #[schema(example = 7)]
    n_checkpoints: i64,
    key: SigningKey,
}

/// What checkpoints are signed with. Keep it elsewhere: it verifies exports without this server.
#[derive(Serialize, ToSchema)]
pub(crate) struct SigningKey {
    #[schema(example = "audit-1")]
    kid: String,
    /// Ed25519 public key, base64url.
    #[schema(example = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")]
    public: String,
}

impl From<AuditEntry> for AuditedAction {
    fn from(entry: AuditEntry) -> Self {
        Self {
            seq: entry.seq,
            at: entry.at.to_string(),
            hash: entry.hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            actor: entry.actor,
            action: entry.action,
            target: entry.target,
            outcome: entry.outcome,
            request_id: entry.request_id,
            trace_id: entry.trace_id,
            detail: entry.detail.and_then(|detail| RawValue::from_string(detail).ok()),
        }
    }
}

impl AuditVerdict {
    fn new(verdict: &Verdict, key: AuditKey) -> Self {
        Self {
            intact: verdict.broken.is_none(),
            first_bad_seq: verdict.broken.map(|broken| broken.seq),
            fault: verdict.broken.map(|broken| broken.fault.name()),
            n_entries: verdict.n_entries,
            n_erased: verdict.n_erased,
            n_checkpoints: verdict.n_checkpoints,
            key: SigningKey { kid: key.kid, public: key.public },
        }
    }
}

/// List what was done
///
/// Every change of the tenant with who made it, the newest first. Refused calls and failed logins are one entry per minute and
/// caller, with a count. Entries are never changed or deleted.
#[utoipa::path(
    get,
    path = "/v1/audit",
    operation_id = "listAuditEntries",
    tag = "Audit",
    params(
        ("actor" = Option<String>, Query, description = "Who did it", example = "usr_01h455vb4pex5vsknk084sn02q", pattern = r"^[^\x00]*$"),
        ("action" = Option<String>, Query, description = "What was done", example = "identity.key.created", pattern = r"^[^\x00]*$"),
        ("target" = Option<String>, Query, description = "To what", example = "key_01h455vb4pex5vsknk084sn02q", pattern = r"^[^\x00]*$"),
        ("outcome" = Option<String>, Query, description = "`ok`, `failed` or `denied`", example = "ok", pattern = "^(ok|failed|denied)$"),
        ("from" = Option<String>, Query, description = "Not before this time (RFC 3339)", format = DateTime, example = "2026-11-20T00:00:00Z"),
        ("to" = Option<String>, Query, description = "Before this time (RFC 3339)", format = DateTime, example = "2026-11-21T00:00:00Z"),
        ("limit" = Option<u32>, Query, description = "1 to 200, default 50", example = 50, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of what was done", body = AuditedActions, example = json!({"data": [{
        "seq": 42, "at": "2026-11-20T09:00:10Z", "actor": "usr_01h455vb4pex5vsknk084sn02q", "action": "identity.key.revoked",
        "target": "key_01h455vb4pex5vsknk084sn02q", "outcome": "ok", "request_id": "req_01h455vb4pex5vsknk084sn02q",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "detail": {"id": "key_01h455vb4pex5vsknk084sn02q"},
        "hash": "a67f48c8519c83a0cd39bc8c81c9019d500a20c71c8d3d4a4d6217ed7520a6fa"}], "next_cursor": null, "has_more": false}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("audit.entry.read")))
)]
pub(crate) async fn list_audit_entries(
    State(house): State<Arc<House>>,
    Query(query): Query,
    call: Call,
) -> Answer<Response> {
    let asked = read(&query, &["limit", "cursor"])?;
    let (tenant, list) = (call.context.principal.tenant, format!("/v1/audit?{}", filters(&query)));
    let before = asked.cursor.map(|text| house.identity.read_cursor(tenant, &list, &text)).transpose()?;
    let before = before.map(|seq| i64::try_from(seq.as_u128()).unwrap_or(i64::MAX));
    let page = house.identity.list_audit(&call.context, &asked.filter, asked.limit, before).await?;
    let place = |seq: i64| Uuid::from_u128(seq.unsigned_abs().into());
    let next_cursor = page.next.map(|seq| house.identity.print_cursor(tenant, &list, place(seq)));
    let link = next_cursor.as_deref().map(|cursor| next(&query, cursor));
    let data = page.data.into_iter().map(AuditedAction::from).collect();
    let has_more = next_cursor.is_some();
    let mut response = respond(StatusCode::OK, &AuditedActions { data, next_cursor, has_more })?;
    if let Some(link) = link {
        response.headers_mut().insert(LINK, value(link));
    }
    Ok(response)
}

/// Export what was done
///
/// The record as a file, the oldest entry first. NDJSON can be verified by `manifold audit verify` if only `from` chose the
/// entries; CSV is for spreadsheets. That it was exported is an entry itself.
#[utoipa::path(
    get,
    path = "/v1/audit/export",
    operation_id = "exportAuditEntries",
    tag = "Audit",
    params(
        ("format" = Option<String>, Query, description = "`ndjson` (default) or `csv`", example = "ndjson", pattern = "^(ndjson|csv)$"),
        ("actor" = Option<String>, Query, description = "Who did it", example = "usr_01h455vb4pex5vsknk084sn02q", pattern = r"^[^\x00]*$"),
        ("action" = Option<String>, Query, description = "What was done", example = "identity.key.created", pattern = r"^[^\x00]*$"),
        ("target" = Option<String>, Query, description = "To what", example = "key_01h455vb4pex5vsknk084sn02q", pattern = r"^[^\x00]*$"),
        ("outcome" = Option<String>, Query, description = "`ok`, `failed` or `denied`", example = "ok", pattern = "^(ok|failed|denied)$"),
        ("from" = Option<String>, Query, description = "Not before this time (RFC 3339)", format = DateTime, example = "2026-11-20T00:00:00Z"),
        ("to" = Option<String>, Query, description = "Before this time (RFC 3339)", format = DateTime, example = "2026-11-21T00:00:00Z"),
    ),
    responses((status = 200, description = "The file", content(
        (String = "application/x-ndjson", example = "{\"format\":\"manifold-audit-v1\",\"tenant\":\"ten_…\",\"last\":42,\"checkpoints\":[]}"),
        (String = "text/csv", example = "seq,at,actor,action,target,outcome,request_id,trace_id,detail,detail_sha256,hash"),
    ))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("audit.entry.export")))
)]
pub(crate) async fn export_audit_entries(
    State(house): State<Arc<House>>,
    Query(query): Query,
    call: Call,
) -> Answer<Response> {
    let asked = read(&query, &["format"])?;
    let (kind, name) = match asked.format {
        AuditFormat::Ndjson => ("application/x-ndjson", "attachment; filename=\"audit.ndjson\""),
        AuditFormat::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"audit.csv\""),
    };
    let pieces = house.identity.export_audit(&call.context, asked.filter, asked.format).await?;
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
    Ok(response)
}

/// Verify the record
///
/// Looks at every entry of the tenant, and at the signatures. An erased detail is no fault. The first entry that is not what
/// it was is named.
#[utoipa::path(
    post,
    path = "/v1/audit/verify",
    operation_id = "verifyAuditChain",
    tag = "Audit",
    responses((status = 200, description = "Whether it is whole", body = AuditVerdict, example = json!({
        "intact": true, "first_bad_seq": null, "fault": null, "n_entries": 1204, "n_erased": 0, "n_checkpoints": 7,
        "key": {"kid": "audit-1", "public": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("audit.chain.verify")))
)]
pub(crate) async fn verify_audit_chain(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let verdict = house.identity.verify_audit(&call.context).await?;
    Ok(respond(StatusCode::OK, &AuditVerdict::new(&verdict, house.identity.audit_key()))?)
}

/// How what was tried can have ended.
const OUTCOMES: [&str; 3] = ["ok", "failed", "denied"];

/// What a query asks for.
struct Asked {
    filter: AuditFilter,
    format: AuditFormat,
    limit: Option<u32>,
    cursor: Option<String>,
}

/// Reads the filters and those of `others` that the operation knows; anything else, and anything twice, is refused.
fn read(query: &str, others: &[&str]) -> Answer<Asked> {
    let mut asked = Asked { filter: AuditFilter::default(), format: AuditFormat::Ndjson, limit: None, cursor: None };
    let mut seen = Vec::new();
    for (name, text) in form_urlencoded::parse(query.as_bytes()) {
        if seen.contains(&name) {
            return Err(Refusal::bad("PARAMETER_REPEATED", "a parameter was given twice"));
        }
        let filter = &mut asked.filter;
        match &*name {
            "actor" => filter.actor = Some(text.into_owned()),
            "action" => filter.action = Some(text.into_owned()),
            "target" => filter.target = Some(text.into_owned()),
            "outcome" if OUTCOMES.contains(&&*text) => filter.outcome = Some(text.into_owned()),
            "outcome" => {
                let message = format!("outcome is one of {}", OUTCOMES.join(", "));
                return Err(Error::invalid("FILTER_INVALID", message).at("outcome").into());
            }
            "from" => filter.from = Some(time(&text, "from")?),
            "to" => filter.to = Some(time(&text, "to")?),
            other if !others.contains(&other) => {
                let known = "actor, action, target, outcome, from, to";
                let message = format!("the parameters are {known} and {}", others.join(" and "));
                return Err(Refusal::bad("PARAMETER_UNKNOWN", message));
            }
            "limit" => {
                let number = text.parse().map_err(|_| Refusal::bad("LIMIT_INVALID", "limit is a number").at("limit"));
                asked.limit = Some(number?);
            }
            "cursor" => asked.cursor = Some(text.into_owned()),
            _ => {
                let wrong = || Error::invalid("FILTER_INVALID", "format is ndjson or csv").at("format");
                asked.format = AuditFormat::parse(&text).ok_or_else(wrong)?;
            }
        }
        seen.push(name);
    }
    Ok(asked)
}

fn time(text: &str, name: &'static str) -> Answer<Timestamp> {
    let wrong = || Error::invalid("FILTER_INVALID", "a time is RFC 3339, such as 2026-11-20T00:00:00Z").at(name);
    Ok(Timestamp::parse(text).ok_or_else(wrong)?)
}

/// The link to the next page (RFC 8288), with the same filters.
fn next(query: &str, cursor: &str) -> String {
    let mut link = form_urlencoded::Serializer::new(String::new());
    link.extend_pairs(form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "cursor"));
    format!("</v1/audit?{}>; rel=\"next\"", link.append_pair("cursor", cursor).finish())
}

/// What makes one list another: all of the query but which page of it.
fn filters(query: &str) -> String {
    let mut filters: Vec<_> =
        form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name != "cursor" && name != "limit").collect();
    filters.sort();
    form_urlencoded::Serializer::new(String::new()).extend_pairs(filters).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_a_whitelist() {
        let asked = read("actor=usr_1&from=2026-11-20T00%3A00%3A00Z&limit=2&cursor=place", &["limit", "cursor"]).ok();
        let asked = asked.expect("these are known");
        assert_eq!(
            (asked.filter.actor.as_deref(), asked.limit, asked.cursor.as_deref()),
            (Some("usr_1"), Some(2), Some("place"))
        );
        assert_eq!(asked.filter.from, Timestamp::parse("2026-11-20T00:00:00Z"));
        for (query, reason) in [
            ("sort=at", "PARAMETER_UNKNOWN"),
            ("format=csv", "PARAMETER_UNKNOWN"),
            ("actor=a&actor=b", "PARAMETER_REPEATED"),
            ("from=yesterday", "FILTER_INVALID"),
            ("outcome=", "FILTER_INVALID"),
            ("outcome=good", "FILTER_INVALID"),
            ("limit=x", "LIMIT_INVALID"),
        ] {
            let refused = read(query, &["limit", "cursor"]).err().expect("this is refused");
            assert_eq!(refused.error.reason(), reason, "{query}");
        }
        assert_eq!(filters("limit=2&from=b&actor=a&cursor=x"), filters("actor=a&from=b"));
        assert!(read("format=xml", &["format"]).is_err());
    }

    #[test]
    fn the_next_page_keeps_the_filters() {
        assert_eq!(
            next("actor=usr_1&cursor=50&from=2026-11-20T00%3A00%3A00Z", "41"),
            "</v1/audit?actor=usr_1&from=2026-11-20T00%3A00%3A00Z&cursor=41>; rel=\"next\""
        );
    }
}
