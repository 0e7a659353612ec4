//! `/v1/tenants`: the tenants that the caller sees, and going from one to another.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use http::header::LOCATION;
use manifold_identity::{NewTenantInfo, Registration, Settings, TenantChange, TenantInfo, parse_tenant_id};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::call::{Call, Id};
use crate::edge::House;
use crate::headers::value;
use crate::json;
use crate::page::List;
use crate::refusal::Answer;
use crate::rest::auth::{self, Session};
use crate::rest::invitations::CreatedInvitation;
use crate::rest::respond;

/// What a new tenant shall be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTenantRequest {
    /// What people call it, 1 to 100 characters.
    #[schema(
        example = "Acme",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
    /// What addresses call it: lower case letters, digits and hyphens. It stays as it is.
    #[schema(example = "acme", min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    slug: String,
    /// Address of the person who shall own it. Default: the caller.
    #[schema(example = "grace@example.org", format = Email)]
    owner: Option<String>,
}

/// How strangers become members.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RegistrationMode {
    /// Anybody who proves an address.
    Open,
    /// Who was invited.
    Invite,
    /// Nobody.
    Closed,
}

/// What a tenant decides for itself. What is not given has its default.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TenantSettings {
    /// How strangers become members. Default: `invite`.
    registration: RegistrationMode,
    /// Members act only after they have proven a second factor. Default: false.
    mfa_required: bool,
    /// A session that is not used for so long is over. Default: 30.
    #[schema(example = 30, minimum = 1, maximum = 30)]
    session_idle_minutes: u32,
    /// A session is over after this time in any case. Default: 720.
    #[schema(example = 720, minimum = 1, maximum = 720)]
    session_lifetime_minutes: u32,
    /// Pages of these origins may call the API from browsers; at most 100. Default: none.
    #[schema(example = json!(["https://app.example"]), max_items = 100, format = "origin")]
    origins: Vec<String>,
}

/// What shall change. What is not given stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateTenantRequest {
    /// What people call it, 1 to 100 characters.
    #[schema(
        example = "Acme",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: Option<String>,
    /// All of them.
    settings: Option<TenantSettings>,
    /// Only the tenant that was made first decides.
    state: Option<TenantState>,
}

/// Whether a tenant works.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TenantState {
    Active,
    Suspended,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tenant {
    #[schema(example = "ten_01h455vb4pex5vsknk084sn02q")]
    id: String,
    #[schema(example = "acme")]
    slug: String,
    #[schema(example = "Acme")]
    name: String,
    /// `active`, `suspended` or `deleting`.
    #[schema(example = "active")]
    state: String,
    settings: TenantSettings,
    #[schema(value_type = String, format = DateTime)]
    created_at: String,
    /// When everything of it is removed, if it was deleted.
    #[schema(value_type = Option<String>, format = DateTime)]
    delete_after: Option<String>,
}

/// A new tenant, and how its owner gets in if it is not the caller.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedTenant {
    #[serde(flatten)]
    tenant: Tenant,
    invitation: Option<CreatedInvitation>,
}

/// A page of tenants, the newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct TenantPage {
    data: Vec<Tenant>,
    /// Pass it as `cursor` for the next page; null = this is the last.
    next_cursor: Option<String>,
    has_more: bool,
}

/// Where to go.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SwitchRequest {
    #[schema(example = "ten_01h455vb4pex5vsknk084sn02q")]
    tenant: String,
}

impl Default for TenantSettings {
    fn default() -> Self {
        Settings::default().into()
    }
}

impl From<Settings> for TenantSettings {
    fn from(settings: Settings) -> Self {
        Self {
            registration: match settings.registration {
                Registration::Open => RegistrationMode::Open,
                Registration::Invite => RegistrationMode::Invite,
                Registration::Closed => RegistrationMode::Closed,
            },
            mfa_required: settings.mfa_required,
            session_idle_minutes: settings.session_idle_minutes,
            session_lifetime_minutes: settings.session_lifetime_minutes,
            origins: settings.origins,
        }
    }
}

impl From<TenantSettings> for Settings {
    fn from(given: TenantSettings) -> Self {
        Self {
            registration: match given.registration {
                RegistrationMode::Open => Registration::Open,
                RegistrationMode::Invite => Registration::Invite,
                RegistrationMode::Closed => Registration::Closed,
            },
            mfa_required: given.mfa_required,
            session_idle_minutes: given.session_idle_minutes,
            session_lifetime_minutes: given.session_lifetime_minutes,
            origins: given.origins,
        }
    }
}

impl From<TenantInfo> for Tenant {
    fn from(info: TenantInfo) -> Self {
        Self {
            id: info.id.to_string(),
            slug: info.slug,
            name: info.name,
            state: info.state,
            settings: info.settings.into(),
            created_at: info.created_at.to_string(),
            delete_after: info.delete_after.map(|time| time.to_string()),
        }
    }
}

/// Create a tenant
///
/// People, keys and all they own are apart from those of every other tenant. Only the tenant that was made first makes others.
/// The owner is the caller, or whoever follows the invitation in the answer.
#[utoipa::path(
    post,
    path = "/v1/tenants",
    operation_id = "createTenant",
    tag = "Tenants",
    request_body(content = CreateTenantRequest,
        example = json!({"name": "Acme", "slug": "acme", "owner": "grace@example.org"})),
    responses((status = 201, description = "The tenant", body = CreatedTenant, example = json!({
        "id": "ten_01h455vb4pex5vsknk084sn02q", "slug": "acme", "name": "Acme", "state": "active",
        "settings": {"registration": "invite", "mfa_required": false, "session_idle_minutes": 30,
            "session_lifetime_minutes": 720, "origins": []},
        "created_at": "2026-11-20T09:00:10Z", "delete_after": null, "invitation": null}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("tenants.tenant.create")))
)]
pub(crate) async fn create_tenant(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let body: CreateTenantRequest = json::read_strictly(&call.body)?;
    let new = NewTenantInfo { name: body.name, slug: body.slug, owner: body.owner };
    let (tenant, invited) = house.identity.create_tenant(&call.context, new).await?;
    let location = value(format!("/v1/tenants/{}", tenant.id));
    let body = CreatedTenant { tenant: tenant.into(), invitation: invited.map(CreatedInvitation::from) };
    let mut response = respond(StatusCode::CREATED, &body)?;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

/// List tenants
///
/// Those that the caller sees, the newest first: all of them for who runs the server, those where a person is a member, and
/// the own one for a key.
#[utoipa::path(
    get,
    path = "/v1/tenants",
    operation_id = "listTenants",
    tag = "Tenants",
    params(
        ("limit" = Option<u32>, Query, description = "Tenants per page, 1 to 200; default 50", example = 50, minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before")
    ),
    responses((status = 200, description = "A page of tenants", body = TenantPage,
        example = json!({"data": [], "next_cursor": null, "has_more": false}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("tenants.tenant.read")))
)]
pub(crate) async fn list_tenants(State(house): State<Arc<House>>, list: List, call: Call) -> Answer<Response> {
    let page = house.identity.list_tenants(&call.context, list.request()?).await?;
    list.respond(page, |rows, next_cursor, has_more| TenantPage {
        data: rows.into_iter().map(Tenant::from).collect(),
        next_cursor,
        has_more,
    })
}

/// Show a tenant
///
/// One that the caller sees. All others are the same 404 as one that does not exist.
#[utoipa::path(
    get,
    path = "/v1/tenants/{id}",
    operation_id = "getTenant",
    tag = "Tenants",
    params(("id" = String, Path, description = "Id of the tenant", example = "ten_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The tenant", body = Tenant, example = json!({
        "id": "ten_01h455vb4pex5vsknk084sn02q", "slug": "acme", "name": "Acme", "state": "active",
        "settings": {"registration": "invite", "mfa_required": false, "session_idle_minutes": 30,
            "session_lifetime_minutes": 720, "origins": []},
        "created_at": "2026-11-20T09:00:10Z", "delete_after": null}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("tenants.tenant.read")))
)]
pub(crate) async fn get_tenant(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let tenant = house.identity.get_tenant(&call.context, parse_tenant_id(&id)?).await?;
    Ok(respond(StatusCode::OK, &Tenant::from(tenant))?)
}

/// Change a tenant
///
/// Name and settings, at once, in open sessions, too. `state` is for who runs the server: keys and sessions of a suspended
/// tenant are refused within a second, and `active` brings it back, also after it was deleted.
#[utoipa::path(
    patch,
    path = "/v1/tenants/{id}",
    operation_id = "updateTenant",
    tag = "Tenants",
    params(("id" = String, Path, description = "Id of the tenant", example = "ten_01h455vb4pex5vsknk084sn02q")),
    request_body(content = UpdateTenantRequest, example = json!({"name": "Acme"})),
    responses((status = 200, description = "The tenant", body = Tenant, example = json!({
        "id": "ten_01h455vb4pex5vsknk084sn02q", "slug": "acme", "name": "Acme", "state": "active",
        "settings": {"registration": "invite", "mfa_required": false, "session_idle_minutes": 30,
            "session_lifetime_minutes": 720, "origins": []},
        "created_at": "2026-11-20T09:00:10Z", "delete_after": null}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("tenants.tenant.write")), ("x-permission-too" = json!("tenants.tenant.suspend")))
)]
pub(crate) async fn update_tenant(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let id = parse_tenant_id(&id)?;
    let body: UpdateTenantRequest = json::read_strictly(&call.body)?;
    let change = TenantChange {
        name: body.name,
        settings: body.settings.map(Settings::from),
        suspended: body.state.map(|state| matches!(state, TenantState::Suspended)),
    };
    let tenant = house.identity.update_tenant(&call.context, id, change).await?;
    Ok(respond(StatusCode::OK, &Tenant::from(tenant))?)
}

/// Delete a tenant
///
/// Its keys and sessions are refused within a second. Everything of it is removed after 30 days, until which who runs the
/// server can bring it back.
#[utoipa::path(
    delete,
    path = "/v1/tenants/{id}",
    operation_id = "deleteTenant",
    tag = "Tenants",
    params(("id" = String, Path, description = "Id of the tenant", example = "ten_01h455vb4pex5vsknk084sn02q")),
    responses((status = 200, description = "The tenant that ends", body = Tenant, example = json!({
        "id": "ten_01h455vb4pex5vsknk084sn02q", "slug": "acme", "name": "Acme", "state": "deleting",
        "settings": {"registration": "invite", "mfa_required": false, "session_idle_minutes": 30,
            "session_lifetime_minutes": 720, "origins": []},
        "created_at": "2026-11-20T09:00:10Z", "delete_after": "2026-12-20T09:00:10Z"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("tenants.tenant.delete")))
)]
pub(crate) async fn delete_tenant(State(house): State<Arc<House>>, Id(id): Id, call: Call) -> Answer<Response> {
    let tenant = house.identity.delete_tenant(&call.context, parse_tenant_id(&id)?).await?;
    Ok(respond(StatusCode::OK, &Tenant::from(tenant))?)
}

/// Go to another tenant
///
/// Moves the caller's session to a tenant where the person is a member: it gets a new cookie, and lasts as long as before.
#[utoipa::path(
    post,
    path = "/v1/auth/switch",
    operation_id = "switchTenant",
    tag = "Sessions",
    request_body(content = SwitchRequest, example = json!({"tenant": "ten_01h455vb4pex5vsknk084sn02q"})),
    responses((status = 200, response = inline(Session))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)))
)]
pub(crate) async fn switch_tenant(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let body: SwitchRequest = json::read_strictly(&call.body)?;
    let tenant = parse_tenant_id(&body.tenant)?;
    let entered = house.identity.switch_tenant(&call.context, auth::visitor(&call), tenant).await?;
    auth::enter(&house, StatusCode::OK, entered)
}
