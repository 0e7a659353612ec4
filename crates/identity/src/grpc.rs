//! The gRPC service `Keys`: decode, call, encode.

pub mod audit;
pub mod directory;
mod terms;
pub mod vault;

use std::time::Duration;

use manifold_contract::identity::v1 as proto;
use manifold_contract::identity::v1::keys_server::Keys;
use manifold_core::{Error, IdempotencyKey, PageRequest, Result, Timestamp};
use manifold_runtime::{context, to_status};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::Identity;
use crate::key::format::Environment;
use crate::key::rotation::Finish;
use crate::key::{KeyInfo, NewKey, parse_key_id};
use crate::usage::{self, UsageRow};

/// Serves [`Identity`]'s keys.
pub struct Service(pub Identity);

#[tonic::async_trait]
impl Keys for Service {
    async fn create_key(
        &self,
        request: Request<proto::CreateKeyRequest>,
    ) -> Result<Response<proto::CreateKeyResponse>, Status> {
        let caller = context(&request)?;
        let new = decode_new(request.into_inner()).map_err(to_status)?;
        let created = self.0.create_key(&caller, new).await.map_err(to_status)?;
        let (secret, replayed) = (created.secret.expose().clone(), created.replayed);
        Ok(Response::new(proto::CreateKeyResponse { key: Some(encode(created.key)), secret, replayed }))
    }

    async fn list_keys(
        &self,
        request: Request<proto::ListKeysRequest>,
    ) -> Result<Response<proto::ListKeysResponse>, Status> {
        let caller = context(&request)?;
        let proto::ListKeysRequest { limit, after } = request.get_ref();
        let page = decode_page(*limit, after, |id| Ok(parse_key_id(id)?.0)).map_err(to_status)?;
        let page = self.0.list_keys(&caller, page).await.map_err(to_status)?;
        let next = page.next.map(|id| manifold_core::KeyId(id).to_string()).unwrap_or_default();
        Ok(Response::new(proto::ListKeysResponse { keys: page.data.into_iter().map(encode).collect(), next }))
    }

    async fn get_key(&self, request: Request<proto::GetKeyRequest>) -> Result<Response<proto::GetKeyResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_key_id(&request.get_ref().id).map_err(to_status)?;
        let key = self.0.get_key(&caller, id).await.map_err(to_status)?;
        Ok(Response::new(proto::GetKeyResponse { key: Some(encode(key)) }))
    }

    async fn revoke_key(
        &self,
        request: Request<proto::RevokeKeyRequest>,
    ) -> Result<Response<proto::RevokeKeyResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_key_id(&request.get_ref().id).map_err(to_status)?;
        let key = self.0.revoke_key(&caller, id).await.map_err(to_status)?;
        Ok(Response::new(proto::RevokeKeyResponse { key: Some(encode(key)) }))
    }

    async fn update_key(
        &self,
        request: Request<proto::UpdateKeyRequest>,
    ) -> Result<Response<proto::UpdateKeyResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_key_id(&request.get_ref().id).map_err(to_status)?;
        let change = terms::decode_change(request.into_inner()).map_err(to_status)?;
        let key = self.0.update_key(&caller, id, change).await.map_err(to_status)?;
        Ok(Response::new(proto::UpdateKeyResponse { key: Some(encode(key)) }))
    }

    async fn verify_key(
        &self,
        request: Request<proto::VerifyKeyRequest>,
    ) -> Result<Response<proto::VerifyKeyResponse>, Status> {
        let caller = context(&request)?;
        let question = terms::decode_question(request.into_inner()).map_err(to_status)?;
        let (code, key) = self.0.verify_key(&caller, &question).await.map_err(to_status)?;
        Ok(Response::new(terms::encode_verdict(&caller.principal, code, key)))
    }

    async fn begin_rotation(
        &self,
        request: Request<proto::BeginRotationRequest>,
    ) -> Result<Response<proto::BeginRotationResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_key_id(&request.get_ref().id).map_err(to_status)?;
        let grace = Duration::from_secs(request.get_ref().grace_s.into());
        let made = self.0.rotate_key(&caller, id, grace).await.map_err(to_status)?;
        let secret = made.secret.expose().clone();
        Ok(Response::new(proto::BeginRotationResponse { key: Some(encode(made.key)), secret }))
    }

    async fn finish_rotation(
        &self,
        request: Request<proto::FinishRotationRequest>,
    ) -> Result<Response<proto::FinishRotationResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_key_id(&request.get_ref().id).map_err(to_status)?;
        let finish = if request.get_ref().force { Finish::Now } else { Finish::WhenUsed };
        let key = self.0.finish_rotation(&caller, id, finish).await.map_err(to_status)?;
        Ok(Response::new(proto::FinishRotationResponse { key: Some(encode(key)) }))
    }

    async fn cancel_rotation(
        &self,
        request: Request<proto::CancelRotationRequest>,
    ) -> Result<Response<proto::CancelRotationResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_key_id(&request.get_ref().id).map_err(to_status)?;
        let key = self.0.cancel_rotation(&caller, id).await.map_err(to_status)?;
        Ok(Response::new(proto::CancelRotationResponse { key: Some(encode(key)) }))
    }

    async fn get_key_usage(
        &self,
        request: Request<proto::GetKeyUsageRequest>,
    ) -> Result<Response<proto::GetKeyUsageResponse>, Status> {
        let caller = context(&request)?;
        let id = parse_key_id(&request.get_ref().id).map_err(to_status)?;
        let window = match request.get_ref().window_s {
            0 => usage::DEFAULT_WINDOW,
            seconds => Duration::from_secs(seconds.into()),
        };
        let usage = self.0.key_usage(&caller, id, window).await.map_err(to_status)?;
        Ok(Response::new(proto::GetKeyUsageResponse { usage: usage.into_iter().map(encode_usage).collect() }))
    }
}

fn encode_usage(row: UsageRow) -> proto::KeyUsage {
    proto::KeyUsage {
        hour_us: row.hour.micros(),
        operation: row.operation,
        outcome: row.outcome,
        n_requests: row.sums.n,
        input_tokens: row.sums.input_tokens,
        output_tokens: row.sums.output_tokens,
        cost_nanos: row.sums.cost_nanos,
        n_unpriced: row.sums.n_unpriced,
        duration_us: row.sums.duration_us,
    }
}

fn decode_new(request: proto::CreateKeyRequest) -> Result<NewKey> {
    let environment = match request.environment.as_str() {
        "" => Environment::Live,
        name => Environment::parse(name).ok_or_else(|| {
            Error::invalid("ENVIRONMENT_INVALID", "the environment is live or test").at("environment")
        })?,
    };
    let expires_at = match request.expires_at_us {
        0 => None,
        micros => Some(Timestamp::from_micros(micros)),
    };
    let idempotency_key = match request.idempotency_key.as_str() {
        "" => None,
        text => Some(IdempotencyKey::parse(text)?),
    };
    let terms = request.terms.map(terms::decode).transpose()?.unwrap_or_default();
    let (name, permissions) = (request.name, request.permissions);
    Ok(NewKey { name, environment, permissions, expires_at, terms, canary: false, idempotency_key })
}

/// Which page: `limit` rows, 0 = as many as usual, behind the one whose printed id is `after`, empty = from the first.
fn decode_page(limit: u32, after: &str, parse: impl Fn(&str) -> Result<Uuid>) -> Result<PageRequest> {
    let wrong = |_| Error::invalid("CURSOR_INVALID", "after is not the id of what is listed").at("after");
    let after = Some(after).filter(|after| !after.is_empty()).map(parse).transpose().map_err(wrong)?;
    PageRequest::new(Some(limit).filter(|limit| *limit > 0), after)
}

fn encode(key: KeyInfo) -> proto::Key {
    let micros = |time: Option<Timestamp>| time.map(Timestamp::micros).unwrap_or_default();
    proto::Key {
        id: key.id.to_string(),
        name: key.name,
        environment: key.environment,
        permissions: key.permissions,
        state: key.state.name().to_owned(),
        prefix: key.prefix,
        created_at_us: key.created_at.micros(),
        expires_at_us: micros(key.expires_at),
        last_used_at_us: micros(key.last_used_at),
        revoked_at_us: micros(key.revoked_at),
        refill_at_us: micros(key.refill_at),
        rotation_due_at_us: micros(key.rotation_due_at),
        terms: Some(terms::encode(key.terms)),
        rotation: key.rotation.map(|rotation| proto::Rotation {
            old_prefix: rotation.old_prefix,
            old_ends_at_us: rotation.old_ends_at.micros(),
            old_used_at_us: micros(rotation.old_used_at),
            new_used_at_us: micros(rotation.new_used_at),
        }),
    }
}
