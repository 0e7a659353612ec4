//! Questions of other programs about keys that were presented to them: whether a key of the tenant holds, may do something, and
//! has credits left, which are spent then.

use std::collections::BTreeMap;
use std::net::IpAddr;

use manifold_core::{Error, KeyId, OwnerId, Principal, Result, Secret, Timestamp};
use manifold_runtime::CallContext;
use serde_json::{Map, Value};
use tracing::debug;

use crate::Identity;
use crate::key::credit::{self, Spent};
use crate::key::restriction::Visit;
use crate::limit::charge::{LimitState, Passed};
use crate::permission::query;
use crate::store::key as store;

const VERIFY: &str = "keys.key.verify";
const MAX_TAGS: usize = 10;
const MAX_TAG_NAME: usize = 32;
const MAX_TAG_VALUE: usize = 128;

/// What is asked about a key.
#[derive(Clone, Debug)]
pub struct Question {
    /// The key as it was presented.
    pub key: Secret<String>,
    /// What it must be allowed: `a.b.c AND (d.e.f OR g.h.i)`; None = nothing in particular.
    pub permissions: Option<String>,
    /// Credits to spend if all else holds.
    pub credits: i64,
    /// Address from which the key was presented.
    pub ip: Option<IpAddr>,
    /// Origin of the page that presented it.
    pub origin: Option<String>,
    /// Method of the request that it came with.
    pub method: Option<String>,
    /// API for which it came.
    pub api: Option<String>,
    /// What the log of the server shall say about this question.
    pub tags: BTreeMap<String, String>,
}

/// The first thing that is wrong with a key, in the order in which it is looked at, or that nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyCode {
    /// It holds; credits were spent.
    Valid,
    /// The tenant has no such key.
    NotFound,
    /// It was revoked or is disabled.
    Disabled,
    /// Its time, or that of its secret, is over.
    Expired,
    /// It may not be used from there, or not for that.
    Forbidden,
    /// It lacks permissions.
    InsufficientPermissions,
    /// It, or its owner, has used up a limit.
    RateLimited,
    /// It has too few credits left.
    UsageExceeded,
}

impl VerifyCode {
    /// `valid`, `not_found` …
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::NotFound => "not_found",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::Forbidden => "forbidden",
            Self::InsufficientPermissions => "insufficient_permissions",
            Self::RateLimited => "rate_limited",
            Self::UsageExceeded => "usage_exceeded",
        }
    }
}

/// What is known of a key of the tenant.
#[derive(Clone, Debug)]
pub struct Verified {
    /// The key.
    pub id: KeyId,
    /// What a person calls it.
    pub name: String,
    /// For whom it is.
    pub owner: Option<OwnerId>,
    /// `live` or `test`.
    pub environment: String,
    /// Granted permissions.
    pub permissions: Vec<String>,
    /// What its holder wants to remember with it.
    pub metadata: Map<String, Value>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// What it has left after this question; None = it needs none, or nothing was spent.
    pub credits: Option<i64>,
    /// What is left of the limits that the question was charged to, up to the one that refuses.
    pub limits: Vec<LimitState>,
}

/// What a question has cost a key.
#[derive(Default)]
struct Paid {
    credits: Option<i64>,
    limits: Vec<LimitState>,
}

impl Identity {
    /// Answers a question about a key. If it holds, the question counts as one of its requests: it is charged to the limits that
    /// the key and its owner were given, and spends credits. A key of another tenant is not found. Needs `keys.key.verify`.
    ///
    /// # Errors
    /// `QUERY_INVALID`, `CREDITS_INVALID`, `TAGS_INVALID` for malformed questions; `TEMPORARY_REDUCED_CAPACITY` if a limit cannot be
    /// counted. What is wrong with the key is no error.
    pub async fn verify_key(
        &self,
        caller: &CallContext,
        question: &Question,
    ) -> Result<(VerifyCode, Option<Verified>)> {
        caller.principal.require(VERIFY)?;
        check(question)?;
        let now = self.inner.clock.now();
        let known = match self.recognise(question.key.expose(), now).await {
            Ok(known) if known.principal.tenant == caller.principal.tenant => known,
            Err(error) if error.reason() != "INVALID_KEY" => return Err(error),
            Ok(_) => return Ok((VerifyCode::NotFound, None)),
            Err(_) => {
                // Whoever asks says from where it was used: nobody is kept out for that.
                self.note_canary(question.key.expose(), None);
                return Ok((VerifyCode::NotFound, None));
            }
        };
        let principal = &known.principal;
        let Some(id) = principal.key else { return Ok((VerifyCode::NotFound, None)) };
        let visit = Visit {
            ip: question.ip,
            origin: question.origin.as_deref(),
            method: question.method.as_deref(),
            api: question.api.as_deref(),
            carries: false,
        };
        let mut paid = Paid::default();
        let code = match known.admits(&visit, now).map_err(|error| error.reason().to_owned()) {
            Err(reason) if reason == "KEY_DISABLED" => VerifyCode::Disabled,
            Err(reason) if reason == "KEY_EXPIRED" => VerifyCode::Expired,
            Err(_) => VerifyCode::Forbidden,
            Ok(()) if !allowed(question, |permission| principal.allows(permission))? => {
                VerifyCode::InsufficientPermissions
            }
            Ok(()) => {
                let code;
                (code, paid) = self.pay(caller, principal, id, question.credits).await?;
                code
            }
        };
        if code == VerifyCode::Valid {
            self.inner.used.mark(&known.usage, now);
        }
        self.inner.used.count(id, principal.tenant, "verify", code.name(), now);
        debug!(key = %id, code = code.name(), tags = ?question.tags, "an API key was verified");
        let row = store::find_key(&self.inner.db, principal.tenant, id).await?;
        Ok((
            code,
            row.map(|row| Verified {
                id,
                name: row.name,
                owner: row.owner_id.map(OwnerId),
                environment: row.environment,
                permissions: row.grants.0,
                metadata: row.metadata.0,
                expires_at: row.expires_at.map(Timestamp::from),
                credits: paid.credits.or(row.credits),
                limits: paid.limits,
            }),
        ))
    }

    /// Charges limits, and then credits.
    async fn pay(&self, caller: &CallContext, key: &Principal, id: KeyId, credits: i64) -> Result<(VerifyCode, Paid)> {
        let (passed, limits) = self.charge_key(key, self.inner.clock.now()).await?;
        let paid = Paid { credits: None, limits };
        if passed == Passed::No {
            return Ok((VerifyCode::RateLimited, paid));
        }
        if !key.metered || credits == 0 {
            return Ok((VerifyCode::Valid, paid));
        }
        Ok(match self.spend(caller, id, credits).await? {
            Spent::Left(left) => (VerifyCode::Valid, Paid { credits: Some(left), ..paid }),
            Spent::TooFew(_) => (VerifyCode::UsageExceeded, paid),
            Spent::Free => (VerifyCode::Valid, paid),
        })
    }
}

/// Reads an address.
///
/// # Errors
/// `ADDRESS_INVALID`.
pub fn parse_ip(text: &str) -> Result<IpAddr> {
    text.parse().map_err(|error| Error::invalid("ADDRESS_INVALID", "ip is no address").because(error).at("ip"))
}

/// Whether a key that is allowed what `allows` says may do what is asked.
fn allowed(question: &Question, allows: impl Fn(&str) -> bool) -> Result<bool> {
    question.permissions.as_ref().map_or(Ok(true), |query| query::holds(query, allows))
}

/// Refuses malformed questions before the key is looked at.
fn check(question: &Question) -> Result<()> {
    allowed(question, |_| false)?;
    credit::check_credits(question.credits)?;
    let fits = |(name, value): (&String, &String)| {
        (1..=MAX_TAG_NAME).contains(&name.chars().count()) && value.chars().count() <= MAX_TAG_VALUE
    };
    if question.tags.len() > MAX_TAGS || !question.tags.iter().all(fits) {
        let message = "at most 10 tags, with names of 1 to 32 characters and values of at most 128";
        return Err(Error::invalid("TAGS_INVALID", message).at("tags"));
    }
    Ok(())
}
