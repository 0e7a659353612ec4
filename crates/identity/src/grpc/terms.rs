//! Terms of keys and questions about keys, as they travel.

use manifold_contract::identity::v1 as proto;
use manifold_core::{Error, OwnerId, Principal, Result, Secret, Timestamp};
use serde_json::{Map, Value};

use crate::key::change::KeyChange;
use crate::key::credit::{Every, Refill};
use crate::key::restriction::Restrictions;
use crate::key::terms::Terms;
use crate::limit::charge::LimitState;
use crate::owner;
use crate::verify::question::{Question, Verified, VerifyCode, parse_ip};

pub fn encode(terms: Terms) -> proto::KeyTerms {
    let Restrictions { ips, origins, methods, apis } = terms.restrictions;
    proto::KeyTerms {
        restrictions: Some(proto::KeyRestrictions { ips, origins, methods, apis }),
        metadata_json: Value::Object(terms.metadata).to_string(),
        credits: terms.credits,
        refill: terms.refill.map(|refill| proto::KeyRefill {
            amount: refill.amount,
            every: refill.every.name().to_owned(),
            at: refill.at.into(),
        }),
        rotate_every: terms.rotate_every.unwrap_or_default().into(),
        owner: terms.owner.map(|owner| owner.to_string()).unwrap_or_default(),
    }
}

pub fn decode(terms: proto::KeyTerms) -> Result<Terms> {
    Ok(Terms {
        restrictions: terms.restrictions.map(decode_restrictions).unwrap_or_default(),
        metadata: decode_metadata(&terms.metadata_json)?,
        credits: terms.credits,
        refill: terms.refill.as_ref().map(decode_refill).transpose()?,
        rotate_every: decode_days(terms.rotate_every),
        owner: decode_owner(&terms.owner)?,
    })
}

pub fn decode_change(request: proto::UpdateKeyRequest) -> Result<KeyChange> {
    let refill = match &request.refill {
        None => None,
        Some(refill) if refill.every.is_empty() => Some(None),
        Some(refill) => Some(Some(decode_refill(refill)?)),
    };
    Ok(KeyChange {
        name: request.name,
        permissions: Some(request.permissions).filter(|permissions| !permissions.is_empty()),
        expires_at: request.expires_at_us.map(|micros| (micros != 0).then(|| Timestamp::from_micros(micros))),
        enabled: request.enabled,
        restrictions: request.restrictions.map(decode_restrictions),
        metadata: request.metadata_json.as_deref().map(decode_metadata).transpose()?,
        credits: request.credits.map(|credits| Some(credits).filter(|credits| *credits != -1)),
        refill,
        rotate_every: request.rotate_every.map(decode_days),
        owner: request.owner.as_deref().map(decode_owner).transpose()?,
    })
}

pub fn decode_question(request: proto::VerifyKeyRequest) -> Result<Question> {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(Question {
        key: Secret::new(request.key),
        permissions: given(request.permissions),
        credits: request.credits,
        ip: given(request.ip).as_deref().map(parse_ip).transpose()?,
        origin: given(request.origin),
        method: given(request.method),
        api: given(request.api),
        tags: request.tags.into_iter().collect(),
    })
}

pub fn encode_verdict(caller: &Principal, code: VerifyCode, key: Option<Verified>) -> proto::VerifyKeyResponse {
    let code_number = match code {
        VerifyCode::Valid => proto::VerifyCode::Valid,
        VerifyCode::NotFound => proto::VerifyCode::NotFound,
        VerifyCode::Forbidden => proto::VerifyCode::Forbidden,
        VerifyCode::InsufficientPermissions => proto::VerifyCode::InsufficientPermissions,
        VerifyCode::RateLimited => proto::VerifyCode::RateLimited,
        VerifyCode::UsageExceeded => proto::VerifyCode::UsageExceeded,
        VerifyCode::Disabled => proto::VerifyCode::Disabled,
        VerifyCode::Expired => proto::VerifyCode::Expired,
    };
    let verdict = proto::VerifyKeyResponse {
        code: code_number.into(),
        valid: code == VerifyCode::Valid,
        ..proto::VerifyKeyResponse::default()
    };
    let Some(key) = key else { return verdict };
    proto::VerifyKeyResponse {
        key_id: key.id.to_string(),
        tenant: caller.tenant.to_string(),
        owner: key.owner.map(|owner| owner.to_string()).unwrap_or_default(),
        environment: key.environment,
        metadata_json: Value::Object(key.metadata).to_string(),
        permissions: key.permissions,
        credits_remaining: key.credits,
        expires_at_us: key.expires_at.map(Timestamp::micros).unwrap_or_default(),
        name: key.name,
        limits: key.limits.into_iter().map(encode_limit).collect(),
        ..verdict
    }
}

fn encode_limit(state: LimitState) -> proto::LimitState {
    let LimitState { name, remaining, reset } = state;
    let reset_s = u64::try_from(reset.as_micros().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    proto::LimitState { name, remaining, reset_s }
}

fn decode_restrictions(restrictions: proto::KeyRestrictions) -> Restrictions {
    let proto::KeyRestrictions { ips, origins, methods, apis } = restrictions;
    Restrictions { ips, origins, methods, apis }
}

fn decode_owner(id: &str) -> Result<Option<OwnerId>> {
    if id.is_empty() { Ok(None) } else { owner::read(id).map(Some) }
}

/// What is too large stays too large.
fn decode_days(days: u32) -> Option<u16> {
    Some(u16::try_from(days).unwrap_or(u16::MAX)).filter(|days| *days != 0)
}

fn decode_refill(refill: &proto::KeyRefill) -> Result<Refill> {
    let every = Every::parse(&refill.every)?;
    Ok(Refill { amount: refill.amount, every, at: u8::try_from(refill.at).unwrap_or(u8::MAX) })
}

fn decode_metadata(text: &str) -> Result<Map<String, Value>> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(text).map_err(|error| {
        Error::invalid("INVALID_ARGUMENT", "metadata_json is no JSON object").because(error).at("metadata_json")
    })
}
