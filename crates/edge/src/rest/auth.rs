//! `/v1/auth`: the first account, registering, logging in and out, the caller's own session.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use http::header::{SET_COOKIE, USER_AGENT};
use manifold_core::{Error, Secret};
use manifold_identity::{Entered, Login, NewAccount, NewOwner, Newcomer, OneTime, Present, SESSION_LIFETIME, Visitor};
use serde::{Deserialize, Serialize};
use utoipa::{ToResponse, ToSchema};

use crate::call::{Call, Query};
use crate::csrf;
use crate::edge::House;
use crate::json;
use crate::refusal::Answer;
use crate::rest::mail::{Posted, posted};
use crate::rest::tokens::{Mode, Tokens};
use crate::rest::users::User;
use crate::rest::{nothing, respond};

/// Who becomes the first owner.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetupRequest {
    /// From `setup.token` in the data folder, printed at the first start.
    #[schema(value_type = String, example = "mfs_2q7…")]
    token: Secret<String>,
    #[schema(example = "ada@example.org", format = Email)]
    email: String,
    /// 8 to 128 characters that are not easily guessed.
    #[schema(value_type = String, example = "correct horse battery staple", min_length = 8, max_length = 128,
        format = Password)]
    password: Secret<String>,
    /// What the person is called, 1 to 100 characters.
    #[schema(
        example = "Ada",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
}

/// Who logs in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoginRequest {
    #[schema(example = "ada@example.org", format = Email)]
    email: String,
    #[schema(value_type = String, example = "correct horse battery staple")]
    password: Secret<String>,
    /// Of the app, or a recovery code; who has a second factor and sends none gets a ticket.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "287082")]
    code: Option<Secret<String>>,
}

/// Who knew the password, and has a second factor.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeRequest {
    /// From the answer to `POST /v1/auth/login`.
    #[schema(value_type = String, example = "mft_2q7…")]
    ticket: Secret<String>,
    /// Of the app, or a recovery code.
    #[schema(value_type = String, example = "287082")]
    code: Secret<String>,
}

/// Who follows an invitation, with `token` and `password`; or registers where anybody may, with `email`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterRequest {
    /// The token of the invitation.
    #[schema(value_type = Option<String>, example = "mfi_2q7…")]
    token: Option<Secret<String>>,
    /// The address of who registers without one.
    #[schema(example = "grace@example.org", format = Email)]
    email: Option<String>,
    /// What the person is called, 1 to 100 characters; of who has an account it stays as it is.
    #[schema(
        example = "Grace",
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
    /// Of who follows an invitation: a new one; who has an account gives the one of the account. Who registers chooses it once
    /// the address is proven.
    #[schema(value_type = Option<String>, example = "correct horse battery staple", min_length = 8, max_length = 128,
        format = Password)]
    password: Option<Secret<String>>,
    /// Of the app, or a recovery code, if the account has a second factor.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "287082")]
    code: Option<Secret<String>>,
}

/// The session of the caller. Where it begins, the answer sets its cookie.
#[derive(Serialize, ToSchema, ToResponse)]
#[response(
    headers(("Set-Cookie" = String, description = "The session, where it begins")),
    example = json!({
        "id": "ses_01h455vb4pex5vsknk084sn02q",
        "user": {"id": "usr_01h455vb4pex5vsknk084sn02q", "email": "ada@example.org", "name": "Ada",
            "created_at": "2026-11-20T09:00:10Z"},
        "tenant": "ten_01h455vb4pex5vsknk084sn02q", "roles": ["owner"], "permissions": ["*"], "csrf": "hVJ9…",
        "expires_at": "2026-11-20T21:00:10Z"
    })
)]
pub(crate) struct Session {
    #[schema(example = "ses_01h455vb4pex5vsknk084sn02q")]
    id: String,
    user: User,
    /// Where the person acts.
    #[schema(example = "ten_01h455vb4pex5vsknk084sn02q")]
    tenant: String,
    roles: Vec<String>,
    /// What the roles grant.
    permissions: Vec<String>,
    /// To be sent as the header `manifold-csrf` with whatever changes something.
    #[schema(example = "hVJ9…")]
    csrf: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: String,
}

/// A session in a cookie, a ticket for who has a second factor and gave no code, or tokens if `mode=token` asks for them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Entrance {
    /// In a cookie.
    Session(Box<Session>),
    /// A code is needed.
    Ticket(Ticket),
    /// By tokens.
    Tokens(Tokens),
}

/// A session in a cookie, a ticket for who has a second factor and gave no code, or tokens if `mode=token` asks for them.
#[derive(Serialize, ToResponse)]
#[response(
    headers(("Set-Cookie" = String, description = "The session, unless a code is needed or tokens were asked for")),
    examples(
        ("cookie" = (summary = "In a cookie", value = json!({
            "id": "ses_01h455vb4pex5vsknk084sn02q",
            "user": {"id": "usr_01h455vb4pex5vsknk084sn02q", "email": "ada@example.org", "name": "Ada",
                "created_at": "2026-11-20T09:00:10Z"},
            "tenant": "ten_01h455vb4pex5vsknk084sn02q", "roles": ["owner"], "permissions": ["*"], "csrf": "hVJ9…",
            "expires_at": "2026-11-20T21:00:10Z"
        }))),
        ("ticket" = (summary = "A code is needed", value = json!({"mfa_required": true, "ticket": "mft_2q7…",
            "expires_at": "2026-11-20T09:05:10Z"}))),
        ("tokens" = (summary = "By tokens", value = json!({"access_token": "eyJhbGciOiJFZERTQSIs…",
            "token_type": "Bearer", "expires_in": 600, "refresh_token": "mfrt_2q7…"})))
    )
)]
pub(crate) struct Entry(pub(crate) Entrance);

/// What works once, together with a code.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ticket {
    /// Always true.
    mfa_required: bool,
    /// For `POST /v1/auth/login/mfa`.
    #[schema(example = "mft_2q7…")]
    ticket: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: String,
}

impl From<OneTime> for Ticket {
    fn from(made: OneTime) -> Self {
        Self { mfa_required: true, ticket: made.token.expose().clone(), expires_at: made.expires_at.to_string() }
    }
}

impl From<Present> for Session {
    fn from(present: Present) -> Self {
        Self {
            id: present.id.to_string(),
            user: present.user.into(),
            tenant: present.tenant.to_string(),
            roles: present.roles,
            permissions: present.permissions,
            csrf: present.csrf,
            expires_at: present.expires_at.to_string(),
        }
    }
}

/// Make the first account
///
/// The owner of a new installation, logged in at once. The token is printed at the first start and lies in the data folder as
/// `setup.token`; it works once, and only while nobody has an account.
#[utoipa::path(
    post,
    path = "/v1/auth/setup",
    operation_id = "setUp",
    tag = "Sessions",
    request_body(content = SetupRequest, example = json!({"token": "mfs_2q7…", "email": "ada@example.org",
        "password": "correct horse battery staple", "name": "Ada"})),
    responses((status = 201, response = inline(Session))),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn set_up(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    come_in(&house, &call)?;
    let body: SetupRequest = json::read_strictly(&call.body)?;
    let new = NewOwner { token: body.token, email: body.email, name: body.name, password: body.password };
    let entered = house.identity.set_up(&call.context, visitor(&call), new).await?;
    enter(&house, StatusCode::CREATED, entered)
}

/// Follow an invitation, or register
///
/// With the token of an invitation: makes an account, or adds the tenant to the account of the invited address, whose password
/// is then asked for; and logs in (201). With an address, where the house is open to anybody: mails a link for
/// `POST /v1/auth/verify-email`, where the password is chosen, or says in the mail that there is an account; the answer (202) is
/// the same.
#[utoipa::path(
    post,
    path = "/v1/auth/register",
    operation_id = "register",
    tag = "Sessions",
    request_body(content = RegisterRequest,
        example = json!({"token": "mfi_2q7…", "name": "Grace", "password": "correct horse battery staple"})),
    responses((status = 201, response = inline(Session)), (status = 202, response = inline(Posted))),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn register(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    come_in(&house, &call)?;
    let body: RegisterRequest = json::read_strictly(&call.body)?;
    match (body.token, body.password, body.email) {
        (Some(token), Some(password), None) => {
            let new = Newcomer { token, name: body.name, password, code: body.code };
            let entered = house.identity.join(&call.context, visitor(&call), new).await?;
            enter(&house, StatusCode::CREATED, entered)
        }
        (None, None, Some(email)) => {
            house.identity.register(&visitor(&call), NewAccount { email, name: body.name }).await?;
            posted()
        }
        _ => {
            let message = "give either the token of an invitation and a password, or an address alone";
            Err(Error::invalid("INVALID_ARGUMENT", message).into())
        }
    }
}

/// Log in
///
/// The session is in a cookie that no script can read; with `mode=token` there is no cookie, but an access token that works for
/// ten minutes and a refresh token for the next one. The answer is the same for an unknown address and a wrong password;
/// after five tries each further one has to wait longer. Who has a second factor and sends no code gets a ticket for
/// `POST /v1/auth/login/mfa` instead of a session.
#[utoipa::path(
    post,
    path = "/v1/auth/login",
    operation_id = "logIn",
    tag = "Sessions",
    params(("mode" = Option<String>, Query, description = "`token` for tokens instead of a cookie", example = "token", pattern = "^token$")),
    request_body(content = LoginRequest,
        example = json!({"email": "ada@example.org", "password": "correct horse battery staple"})),
    responses((status = 200, response = inline(Entry))),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn log_in(State(house): State<Arc<House>>, Query(query): Query, call: Call) -> Answer<Response> {
    come_in(&house, &call)?;
    let body: LoginRequest = json::read_strictly(&call.body)?;
    let mode = Mode::read(&query)?;
    let login = house.identity.log_in(&call.context, visitor(&call), &body.email, body.password, body.code).await?;
    match login {
        Login::Done(entered) => mode.enter(&house, *entered).await,
        Login::Ticket(ticket) => Ok(respond(StatusCode::OK, &Entry(Entrance::Ticket(ticket.into())))?),
    }
}

/// Log in with a code
///
/// The second half of logging in, for who has a second factor: the ticket of the first half, and a code of the app or a recovery
/// code. Each code works once; five wrong ones lock the factor for 15 minutes, and then for longer, but not recovery codes.
#[utoipa::path(
    post,
    path = "/v1/auth/login/mfa",
    operation_id = "logInWithCode",
    tag = "Sessions",
    params(("mode" = Option<String>, Query, description = "`token` for tokens instead of a cookie", example = "token", pattern = "^token$")),
    request_body(content = CodeRequest, example = json!({"ticket": "mft_2q7…", "code": "287082"})),
    responses((status = 200, response = inline(Entry))),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn log_in_with_code(
    State(house): State<Arc<House>>,
    Query(query): Query,
    call: Call,
) -> Answer<Response> {
    come_in(&house, &call)?;
    let body: CodeRequest = json::read_strictly(&call.body)?;
    let mode = Mode::read(&query)?;
    let entered = house.identity.log_in_with_code(&call.context, visitor(&call), &body.ticket, body.code).await?;
    mode.enter(&house, *entered).await
}

/// Log out
///
/// Ends the caller's session at once and forgets the cookie.
#[utoipa::path(
    post,
    path = "/v1/auth/logout",
    operation_id = "logOut",
    tag = "Sessions",
    responses((status = 204, description = "Nobody is logged in any more")),
    security(("session" = [])),
    extensions(("x-user" = json!(true)), ("x-factor-setup" = json!(true)))
)]
pub(crate) async fn log_out(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    house.identity.log_out(&call.context).await?;
    let mut response = nothing();
    response.headers_mut().insert(SET_COOKIE, house.cookie.clear());
    Ok(response)
}

/// Show the caller's session
///
/// Who is logged in, with which roles, and the token that everything must bring that changes something.
#[utoipa::path(
    get,
    path = "/v1/auth/session",
    operation_id = "getSession",
    tag = "Sessions",
    responses((status = 200, response = inline(Session))),
    security(("session" = [])),
    extensions(("x-user" = json!(true)), ("x-factor-setup" = json!(true)))
)]
pub(crate) async fn get_session(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let session = house.identity.session(&call.context).await?;
    Ok(respond(StatusCode::OK, &Session::from(session))?)
}

/// Refuses people whose password others could read on the way, and pages that log somebody in behind his back.
pub(crate) fn come_in(house: &House, call: &Call) -> Answer<()> {
    house.cookie.check(call.client, &call.headers)?;
    csrf::from_own_page(&call.headers, house.public_url.as_deref())
}

pub(crate) fn visitor(call: &Call) -> Visitor {
    let agent = call.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok());
    Visitor { ip: call.client, agent: agent.unwrap_or_default().to_owned() }
}

pub(crate) fn enter(house: &House, status: StatusCode, entered: Entered) -> Answer<Response> {
    let cookie = house.cookie.set(&entered.token, SESSION_LIFETIME.as_secs());
    let mut response = respond(status, &Entry(Entrance::Session(Box::new(entered.session.into()))))?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}
