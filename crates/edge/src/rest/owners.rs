//! `/v1/owners`: for whom keys are, customers or programs of the caller's tenant.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use http::header::LOCATION;
use manifold_identity::{NewKeyOwner, Owner as OwnerInfo, OwnerChange, parse_owner_id};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::call::{Call, Id, Query};
use crate::edge::House;
use crate::headers::value;
use crate::json;
use crate::page::List;
use crate::refusal::Answer;
use crate::rest::usage::{HourOfUsage, KeyUsage, window};
use crate::rest::{nothing, respond};

/// For whom keys are.
#[derive(Serialize, ToSchema)]
pub(crate) struct Owner {
    #[schema(example = "own_01h455vb4pex5vsknk084sn02q")]
    id: String,
    /// What the tenant calls it among its own.
    #[schema(example = "customer-42")]
    external_id: String,
    #[schema(example = "Ada's shop")]
    name: String,
    #[schema(value_type = Object)]
    metadata: Map<String, Value>,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
}

/// A page of owners, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnerPage {
    data: Vec<Owner>,
    /// Pass it as `cursor` for the next page; null = this is the last.
    next_cursor: Option<String>,
    has_more: bool,
}

/// What a new owner shall be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateOwnerRequest {
    /// What the tenant calls it among its own: visible ASCII characters, once in a tenant, for good.
    #[schema(example = "customer-42", min_length = 1, max_length = 128, pattern = r"^[\x21-\x7e]+$")]
    external_id: String,
    /// What a person calls it, 1 to 100 characters.
    #[schema(
        example = "Ada's shop",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
    /// What shall be remembered with it, up to 4 KiB of JSON.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// What shall be different; what is left out stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateOwnerRequest {
    /// What a person calls it, 1 to 100 characters.
    #[schema(
        example = "Ada's shop",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: Option<String>,
    /// What shall be remembered with it, up to 4 KiB of JSON. This and nothing else.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

impl From<OwnerInfo> for Owner {
    fn from(owner: OwnerInfo) -> Self {
        let OwnerInfo { id, external_id, name, metadata, created_at } = owner;
        Self { id: id.to_string(), external_id, name, metadata, created_at: created_at.to_string() }
    }
}

/// Create an owner
///
/// A customer or program of the tenant, for whom keys are made with its `owner`.
#[utoipa::path(
    post,
    path = "/v1/owners",
    operation_id = "createOwner",
    tag = "Keys",
    request_body(content = CreateOwnerRequest, example = json!({"external_id": "customer-42", "name": "Ada's shop"})),
    responses((status = 201, description = "The owner", body = Owner, example = json!({
        "id": "own_01h455vb4pex5vsknk084sn02q", "external_id": "customer-42", "name": "Ada's shop", "metadata": {},
        "created_at": "2026-11-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("keys.owner.write")))
)]
pub(crate) async fn create_owner(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let body: CreateOwnerRequest = json::read_strictly(&call.body)?;
    let metadata = body.metadata.unwrap_or_default();
    let new = NewKeyOwner { external_id: body.external_id, name: body.name, metadata };
    let owner = Owner::from(house.identity.create_owner(&call.context, new).await?);
    let location = value(format!("/v1/owners/{}", owner.id));
    let mut response = respond(StatusCode::CREATED, &owner)?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// List owners
///
/// The owners of the caller's tenant, newest first.
#[utoipa::path(
    get,
    path = "/v1/owners",
    operation_id = "listOwners",
    tag = "Keys",
    params(
        ("limit" = Option<u32>, Query, description = "Owners per page, 1 to 200; default 50", example = 50, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses((status = 200, description = "A page of owners", body = OwnerPage,
        example = json!({"data": [], "next_cursor": null, "has_more": false}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("keys.owner.read")))
)]
pub(crate) async fn list_owners(State(house): State<Arc<House>>, list: List, call: Call) -> Answer<Response> {
    let page = house.identity.list_owners(&call.context, list.request()?).await?;
    list.respond(page, |rows, next_cursor, has_more| OwnerPage {
        data: rows.into_iter().map(Owner::from).collect(),
        next_cursor,
        has_more,
    })
}

/// Show an owner
///
/// One owner of the caller's tenant. Unknown and foreign ids are the same 404.
#[utoipa::path(
    get,
    path = "/v1/owners/{id}",
    operation_id = "getOwner",
    tag = "Keys",
    params(("id" = String, Path, description = "Id of the owner", example = "own_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The owner", body = Owner, example = json!({
        "id": "own_01h455vb4pex5vsknk084sn02q", "external_id": "customer-42", "name": "Ada's shop", "metadata": {},
        "created_at": "2026-11-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("keys.owner.read")))
)]
pub(crate) async fn get_owner(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let owner = house.identity.get_owner(&call.context, parse_owner_id(&id)?).await?;
    Ok(respond(StatusCode::OK, &Owner::from(owner))?)
}

/// Change an owner
///
/// What a person calls it, and what is remembered with it. What is left out stays as it is.
#[utoipa::path(
    patch,
    path = "/v1/owners/{id}",
    operation_id = "updateOwner",
    tag = "Keys",
    params(("id" = String, Path, description = "Id of the owner", example = "own_01h455vb4pex5vsknk084sn02q")),
    request_body(content = UpdateOwnerRequest, example = json!({"name": "Ada's shop"})),
    responses((status = 200, description = "The owner", body = Owner, example = json!({
        "id": "own_01h455vb4pex5vsknk084sn02q", "external_id": "customer-42", "name": "Ada's shop", "metadata": {},
        "created_at": "2026-11-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("keys.owner.write")))
)]
pub(crate) async fn update_owner(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let UpdateOwnerRequest { name, metadata } = json::read_strictly(&call.body)?;
    let change = OwnerChange { name, metadata };
    let owner = house.identity.update_owner(&call.context, parse_owner_id(&id)?, change).await?;
    Ok(respond(StatusCode::OK, &Owner::from(owner))?)
}

/// Delete an owner
///
/// Refused while it has keys that were not revoked.
#[utoipa::path(
    delete,
    path = "/v1/owners/{id}",
    operation_id = "deleteOwner",
    tag = "Keys",
    params(("id" = String, Path, description = "Id of the owner", example = "own_01h455vb4pex5vsknk084sn02q")),
    responses((status = 204, description = "It is gone")),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("keys.owner.write")))
)]
pub(crate) async fn delete_owner(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    house.identity.delete_owner(&call.context, parse_owner_id(&id)?).await?;
    Ok(nothing())
}

/// Show what the keys of an owner were used for
///
/// Requests, tokens and cost of all its keys together by hour, operation and outcome, about a second late.
#[utoipa::path(
    get,
    path = "/v1/owners/{id}/usage",
    operation_id = "getOwnerUsage",
    tag = "Keys",
    params(
        ("id" = String, Path, description = "Id of the owner", example = "own_01h455vb4pex5vsknk084sn02q"),
        ("window" = Option<String>, Query, description = "How far back: hours or days up to 90d. Default: 24h", example = "7d", pattern = "^(([1-9]|[1-8][0-9]|90)d|([1-9][0-9]{0,2}|1[0-9]{3}|20[0-9]{2}|21[0-5][0-9]|2160)h)$"),
    ),
    responses((status = 200, description = "The usage of its keys", body = KeyUsage, example = json!({"data": [{
        "hour": "2026-11-20T09:00:00Z", "operation": "chat", "outcome": "ok", "n_requests": 120, "input_tokens": 5400,
        "output_tokens": 9100, "cost": "0.004120", "n_unpriced": 0, "mean_duration_ms": 412
    }]}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("keys.owner.read")))
)]
pub(crate) async fn get_owner_usage(
    State(house): State<Arc<House>>,
    Id(id): Id,
    query: Query,
    call: Call,
) -> Answer<Response> {
    let usage = house.identity.owner_usage(&call.context, parse_owner_id(&id)?, window(&query)?).await?;
    Ok(respond(StatusCode::OK, &KeyUsage { data: usage.into_iter().map(HourOfUsage::from).collect() })?)
}
