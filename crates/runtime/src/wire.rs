//! `CallContext` ⇄ metadata between processes. Believed only together with the mesh secret.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};
use manifold_contract::identity::v1 as proto;
use manifold_core::{
    KeyId, OwnerId, Principal, RequestId, Secret, SessionId, SubjectKind, TenantId, Timestamp, TraceContext,
};
use prost::Message;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::CallContext;

const PREFIX: &str = "x-manifold-";
/// Where the mesh secret travels.
pub(crate) const SECRET_NAME: &str = "x-manifold-mesh-secret";
const SECRET: HeaderName = HeaderName::from_static(SECRET_NAME);
const PRINCIPAL: HeaderName = HeaderName::from_static("x-manifold-principal-bin");
const REQUEST: HeaderName = HeaderName::from_static("x-manifold-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// tonic's transports watch `grpc-timeout` too and answer CANCELLED. The announced time is longer by this, and taken
/// off again where it is read, so that our own deadline always fires first, with the right status.
const SLACK: Duration = Duration::from_millis(5);

/// gRPC allows both forms of base64 in binary metadata.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether the sender of some metadata belongs to the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    Member,
    Stranger,
    Impostor,
}

/// Writes the secret and the context into the metadata of a call to another process.
pub(crate) fn encode(headers: &mut HeaderMap, secret: &HeaderValue, context: Option<&CallContext>) {
    strip(headers);
    headers.insert(SECRET, secret.clone());
    let Some(context) = context else { return };
    let principal = STANDARD_NO_PAD.encode(encode_principal(&context.principal).encode_to_vec());
    insert(headers, PRINCIPAL, &principal);
    insert(headers, REQUEST, &context.request.to_string());
    insert(headers, TRACEPARENT, &context.trace.to_string());
    let left = context.deadline.saturating_duration_since(Instant::now()) + SLACK;
    insert(headers, TIMEOUT, &encode_timeout(left));
}

/// Reads the context out of metadata that came from another process.
pub(crate) fn decode(headers: &HeaderMap) -> Option<CallContext> {
    let bytes = LENIENT.decode(headers.get(PRINCIPAL)?).ok()?;
    let principal = decode_principal(proto::Principal::decode(bytes.as_slice()).ok()?)?;
    let request = RequestId::parse(text(headers, &REQUEST)?)?;
    let trace = text(headers, &TRACEPARENT).and_then(TraceContext::parse).unwrap_or_else(TraceContext::root);
    let timeout = text(headers, &TIMEOUT).and_then(decode_timeout)?;
    let deadline = Instant::now() + timeout.saturating_sub(SLACK);
    Some(CallContext { principal, request, trace, deadline, unchanged_since: None })
}

/// Compares in constant time, so that the secret cannot be guessed byte by byte.
pub(crate) fn sender(headers: &HeaderMap, secret: &Secret<String>) -> Sender {
    let mut presented = headers.get_all(SECRET).iter();
    match (presented.next(), presented.next()) {
        (None, _) => Sender::Stranger,
        (Some(one), None) if bool::from(one.as_bytes().ct_eq(secret.expose().as_bytes())) => Sender::Member,
        _ => Sender::Impostor,
    }
}

/// Removes everything that only members of the mesh may say.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers.keys().filter(|name| name.as_str().starts_with(PREFIX)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    headers.insert(name, HeaderValue::from_str(value).expect("base64, ids and numbers are visible ASCII"));
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn encode_principal(principal: &Principal) -> proto::Principal {
    proto::Principal {
        tenant: principal.tenant.to_string(),
        subject: principal.subject.to_string(),
        kind: match principal.kind {
            SubjectKind::User => proto::SubjectKind::User,
            SubjectKind::Key => proto::SubjectKind::Key,
            SubjectKind::Client => proto::SubjectKind::Client,
            SubjectKind::Service => proto::SubjectKind::Service,
            SubjectKind::Anonymous => proto::SubjectKind::Anonymous,
        }
        .into(),
        key: principal.key.map(|key| key.to_string()).unwrap_or_default(),
        session: principal.session.map(|session| session.to_string()).unwrap_or_default(),
        owner: principal.owner.map(|owner| owner.to_string()).unwrap_or_default(),
        permissions: principal.permissions.to_vec(),
        environment: principal.environment.to_string(),
        mfa: principal.mfa,
        auth_time: principal.auth_time.map(Timestamp::micros).unwrap_or_default(),
    }
}

fn decode_principal(principal: proto::Principal) -> Option<Principal> {
    let kind = match principal.kind() {
        proto::SubjectKind::Unspecified => return None,
        proto::SubjectKind::User => SubjectKind::User,
        proto::SubjectKind::Key => SubjectKind::Key,
        proto::SubjectKind::Client => SubjectKind::Client,
        proto::SubjectKind::Service => SubjectKind::Service,
        proto::SubjectKind::Anonymous => SubjectKind::Anonymous,
    };
    let key = match principal.key.is_empty() {
        true => None,
        false => Some(KeyId::parse(&principal.key)?),
    };
    let owner = match principal.owner.is_empty() {
        true => None,
        false => Some(OwnerId::parse(&principal.owner)?),
    };
    let session = match principal.session.is_empty() {
        true => None,
        false => Some(SessionId::parse(&principal.session)?),
    };
    Some(Principal {
        tenant: TenantId::parse(&principal.tenant)?,
        subject: Arc::from(principal.subject),
        kind,
        key,
        session,
        permissions: Arc::from(principal.permissions),
        environment: Arc::from(principal.environment),
        mfa: principal.mfa,
        auth_time: Some(principal.auth_time).filter(|micros| *micros != 0).map(Timestamp::from_micros),
        // Asked at the door, and never again.
        lacks_factor: false,
        owner,
        metered: false,
    })
}

/// gRPC allows eight digits; milliseconds reach beyond a day.
fn encode_timeout(left: Duration) -> String {
    let millis = left.as_micros().div_ceil(1_000).min(99_999_999);
    format!("{millis}m")
}

fn decode_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3_600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn people_and_keys_travel_whole() {
        let person = Principal {
            tenant: TenantId(Uuid::from_u128(1)),
            subject: "usr_ada".into(),
            kind: SubjectKind::User,
            session: Some(SessionId(Uuid::from_u128(2))),
            permissions: ["*".to_owned()].into(),
            mfa: true,
            auth_time: Some(Timestamp::from_micros(3)),
            ..Principal::anonymous()
        };
        let key = Principal {
            key: Some(KeyId(Uuid::from_u128(4))),
            owner: Some(OwnerId(Uuid::from_u128(5))),
            kind: SubjectKind::Key,
            ..person.clone()
        };

        for principal in [person, key, Principal::anonymous()] {
            assert_eq!(decode_principal(encode_principal(&principal)), Some(principal));
        }
    }
}
