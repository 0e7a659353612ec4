//! `/v1/audit/incidents` and `/v1/audit/blocks`: what looks like an attack, and who is kept out for it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use manifold_identity::{Block, Incident, parse_block_id, parse_incident_id};
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::{Call, Id};
use crate::edge::House;
use crate::page::List;
use crate::refusal::Answer;
use crate::rest::{nothing, respond};

/// What looks like an attack.
#[derive(Serialize, ToSchema)]
pub(crate) struct FoundIncident {
    #[schema(example = "inc_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// `stuffing`, `brute_force`, `key_guessing`, `dead_credential`, `probing`, `bulk_keys`, `bulk_exports` or `chain_broken`.
    #[schema(example = "key_guessing")]
    rule: String,
    /// `medium`, `high` or `critical`.
    #[schema(example = "high")]
    severity: String,
    /// Who or what shows it: a network, a person, a key.
    #[schema(example = "203.0.113.0/24")]
    subject: String,
    /// Signs so far.
    #[schema(example = 20)]
    count: i64,
    #[schema(value_type = String, format = DateTime)]
    first_at: String,
    #[schema(value_type = String, format = DateTime)]
    last_at: String,
    /// What was seen in particular.
    #[schema(example = "GET /v1/keys")]
    seen: String,
    /// Who has looked into it; null = it is open.
    #[schema(example = json!(null))]
    acknowledged_by: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    acknowledged_at: Option<String>,
}

/// A page of incidents, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct IncidentPage {
    data: Vec<FoundIncident>,
    /// Pass it as `cursor` for the next page; null = this is the last.
    next_cursor: Option<String>,
    has_more: bool,
}

/// A network that nothing is taken from for a while.
#[derive(Serialize, ToSchema)]
pub(crate) struct BlockedNetwork {
    #[schema(example = "blk_01h455vb4pex5vsknk084sn02q")]
    id: String,
    #[schema(example = "203.0.113.0/24")]
    network: String,
    /// The rule that made it.
    #[schema(example = "key_guessing")]
    rule: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: String,
}

/// The networks that are blocked now, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct BlockedNetworks {
    data: Vec<BlockedNetwork>,
}

impl From<Incident> for FoundIncident {
    fn from(incident: Incident) -> Self {
        let (acknowledged_by, acknowledged_at) = incident.acknowledged.unzip();
        Self {
            id: incident.id.to_string(),
            rule: incident.rule,
            severity: incident.severity,
            subject: incident.subject,
            count: incident.count,
            first_at: incident.first_at.to_string(),
            last_at: incident.last_at.to_string(),
            seen: incident.seen,
            acknowledged_by,
            acknowledged_at: acknowledged_at.map(|time| time.to_string()),
        }
    }
}

impl From<Block> for BlockedNetwork {
    fn from(block: Block) -> Self {
        Self {
            id: block.id.to_string(),
            network: block.network,
            rule: block.rule,
            created_at: block.created_at.to_string(),
            expires_at: block.expires_at.to_string(),
        }
    }
}

/// List incidents
///
/// What looks like an attack on the tenant, the newest first: one entry per rule and subject until it is acknowledged. What
/// happens before anybody knows who calls, such as guessing keys, is told to the tenant that was made first.
#[utoipa::path(
    get,
    path = "/v1/audit/incidents",
    operation_id = "listIncidents",
    tag = "Audit",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 200, default 50", example = 50, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses((status = 200, description = "A page of incidents", body = IncidentPage, example = json!({"data": [{
        "id": "inc_01h455vb4pex5vsknk084sn02q", "rule": "key_guessing", "severity": "high", "subject": "203.0.113.0/24",
        "count": 20, "first_at": "2026-11-20T09:00:10Z", "last_at": "2026-11-20T09:00:12Z", "seen": "GET /v1/keys",
        "acknowledged_by": null, "acknowledged_at": null}], "next_cursor": null, "has_more": false}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("audit.incident.read")))
)]
pub(crate) async fn list_incidents(State(house): State<Arc<House>>, list: List, call: Call) -> Answer<Response> {
    let page = house.identity.list_incidents(&call.context, list.request()?).await?;
    list.respond(page, |rows, next_cursor, has_more| IncidentPage {
        data: rows.into_iter().map(FoundIncident::from).collect(),
        next_cursor,
        has_more,
    })
}

/// Acknowledge an incident
///
/// Notes that the caller has looked into it; the next sign begins a new incident. Repeating it changes nothing.
#[utoipa::path(
    post,
    path = "/v1/audit/incidents/{id}/acknowledge",
    operation_id = "acknowledgeIncident",
    tag = "Audit",
    params(("id" = String, Path, description = "Id of the incident", example = "inc_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The incident", body = FoundIncident, example = json!({
        "id": "inc_01h455vb4pex5vsknk084sn02q", "rule": "key_guessing", "severity": "high", "subject": "203.0.113.0/24",
        "count": 20, "first_at": "2026-11-20T09:00:10Z", "last_at": "2026-11-20T09:00:12Z", "seen": "GET /v1/keys",
        "acknowledged_by": "usr_01h455vb4pex5vsknk084sn02q", "acknowledged_at": "2026-11-20T09:30:00Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("audit.incident.write")))
)]
pub(crate) async fn acknowledge_incident(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let incident = house.identity.acknowledge_incident(&call.context, parse_incident_id(&id)?).await?;
    Ok(respond(StatusCode::OK, &FoundIncident::from(incident))?)
}

/// List blocked networks
///
/// Networks that nothing is taken from for a while, because what came from there looked like an attack. Only the tenant that was
/// made first sees them: they are everybody's.
#[utoipa::path(
    get,
    path = "/v1/audit/blocks",
    operation_id = "listBlocks",
    tag = "Audit",
    responses((status = 200, description = "The blocks", body = BlockedNetworks, example = json!({"data": [{
        "id": "blk_01h455vb4pex5vsknk084sn02q", "network": "203.0.113.0/24", "rule": "key_guessing",
        "created_at": "2026-11-20T09:00:12Z", "expires_at": "2026-11-20T09:15:12Z"}]}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("audit.block.read")))
)]
pub(crate) async fn list_blocks(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let blocks = house.identity.list_blocks(&call.context).await?;
    Ok(respond(StatusCode::OK, &BlockedNetworks { data: blocks.into_iter().map(BlockedNetwork::from).collect() })?)
}

/// Unblock a network
///
/// Takes requests from the network again, in every process within a second.
#[utoipa::path(
    delete,
    path = "/v1/audit/blocks/{id}",
    operation_id = "removeBlock",
    tag = "Audit",
    params(("id" = String, Path, description = "Id of the block", example = "blk_01h455vb4pex5vsknk084sn02q")),
    responses((status = 204, description = "It is over")),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("audit.block.write")))
)]
pub(crate) async fn remove_block(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    house.identity.remove_block(&call.context, parse_block_id(&id)?).await?;
    Ok(nothing())
}
