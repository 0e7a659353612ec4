//! Keys that sign access tokens: their public parts at `/.well-known/jwks.json`, and `/v1/signing-keys`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::call::Call;
use crate::edge::House;
use crate::refusal::Answer;
use crate::rest::respond;

/// The key that signs from now on.
#[derive(Serialize, ToSchema)]
pub(crate) struct SigningKey {
    /// Its name in the header of tokens and in the key set.
    #[schema(example = "sig_01h455vb4pex5vsknk084sn02q")]
    kid: String,
}

/// Show the keys of access tokens
///
/// The public parts of the keys that sign access tokens, as a JSON Web Key Set (RFC 7517). The next key is in it for at least
/// an hour before it signs, and the last one until its last token is over.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    operation_id = "getJwks",
    tag = "Documents",
    responses((status = 200, description = "The key set", body = Object, content_type = "application/json",
        example = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
            "kid": "sig_01h455vb4pex5vsknk084sn02q", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}))),
    security(()),
    extensions(("x-public" = json!(true)))
)]
pub(crate) async fn get_jwks(State(house): State<Arc<House>>) -> Response {
    let mut response = Response::new(Body::from(house.identity.jwks()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    response
}

/// Rotate the signing key
///
/// The next key signs from now on, and the present one only verifies what it signed. It happens by itself every 30 days; the
/// next key must have been public for an hour.
#[utoipa::path(
    post,
    path = "/v1/signing-keys/rotate",
    operation_id = "rotateSigningKey",
    tag = "Sessions",
    responses((status = 200, description = "The key that signs now", body = SigningKey,
        example = json!({"kid": "sig_01h455vb4pex5vsknk084sn02q"}))),
    security(("api_key" = []), ("session" = [])),
    extensions(("x-permission" = json!("system.signing.write")))
)]
pub(crate) async fn rotate_signing_key(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let kid = house.identity.rotate_signing_key(&call.context).await?;
    Ok(respond(StatusCode::OK, &SigningKey { kid })?)
}
