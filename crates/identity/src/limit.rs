//! Limits that were given to single keys, owners of keys and people, and to a tenant as a whole, beside those that everybody
//! meets. They are set while the house is open, and kept in memory by every process: what changes is read again when the feed
//! of revocations tells so.

pub mod charge;
pub mod given;

use std::sync::Arc;

use manifold_bus::Draft;
use manifold_cache::{Algorithm, Mode, OnStoreFailure, Policy, Window};
use manifold_core::{Error, KeyId, OwnerId, Principal, Result, SubjectKind, TenantId, Timestamp, UserId};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Identity;
use crate::audit::Outbox;
use crate::origin::Origin;
use crate::role::Roles;
use crate::store::{key as keys, limit as store, member as members, owner as owners, revocation};

const READ: &str = "limits.rule.read";
const WRITE: &str = "limits.rule.write";
/// Limits of one subject.
const MAX_RULES: usize = 10;
/// Subjects of one tenant that have limits of their own: every process keeps all of them in memory.
const MAX_SUBJECTS: i64 = 10_000;
/// Limits of somebody that are counted at once; beyond, idle ones are forgotten first.
pub(crate) const MAX_COUNTERS: usize = 100_000;
/// Longest name of a limit.
const MAX_NAME: usize = 40;

/// Who is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limited {
    /// One API key.
    Key(KeyId),
    /// All keys of an owner together.
    Owner(OwnerId),
    /// One person in the tenant.
    User(UserId),
    /// All keys and people of the tenant together.
    Tenant,
}

/// One limit, as it was set.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What it is called, in lower-case letters, digits, `-` and `_`; once per subject.
    pub name: String,
    /// Requests per window.
    pub quota: u64,
    /// Length of the window.
    pub window: Window,
    /// Requests that may come within a moment; None = the quota.
    pub burst: Option<u64>,
    /// How requests are counted; None = `gcra`, and `fixed` for a day or month of the calendar.
    pub algorithm: Option<Algorithm>,
    /// Who counts together.
    #[serde(default)]
    pub mode: Mode,
    /// What happens while those who count together cannot.
    #[serde(default)]
    pub on_store_failure: OnStoreFailure,
}

/// The limits of one subject.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// In the order in which they are charged.
    pub rules: Vec<Rule>,
    /// Who set them, and when; None = nobody ever did.
    pub updated: Option<(String, Timestamp)>,
}

impl Limited {
    /// Reads `key_…`, `own_…`, `usr_…` or `tenant`. Malformed, unknown and foreign ones are the same error.
    ///
    /// # Errors
    /// `SUBJECT_NOT_FOUND`.
    pub fn parse(text: &str) -> Result<Self> {
        let known = match text {
            "tenant" => Some(Self::Tenant),
            text => (KeyId::parse(text).map(Self::Key))
                .or_else(|| OwnerId::parse(text).map(Self::Owner))
                .or_else(|| UserId::parse(text).map(Self::User)),
        };
        known.ok_or_else(not_found)
    }

    /// What [`Limited::parse`] reads.
    pub fn print(self) -> String {
        match self {
            Self::Key(id) => id.to_string(),
            Self::Owner(id) => id.to_string(),
            Self::User(id) => id.to_string(),
            Self::Tenant => "tenant".to_owned(),
        }
    }

    /// Stands before the name of a limit: clients see whose it is, and it never has the name of another.
    fn prefix(self) -> &'static str {
        match self {
            Self::Key(_) => "key/",
            Self::Owner(_) => "owner/",
            Self::User(_) => "user/",
            Self::Tenant => "tenant/",
        }
    }
}

impl Rule {
    fn policy(&self, of: Limited) -> Result<Policy> {
        let name = [of.prefix(), &self.name].concat();
        let policy = Policy::new(name, self.quota, self.window, self.burst)?.shared(self.mode, self.on_store_failure);
        self.algorithm.map_or(Ok(policy.clone()), |algorithm| policy.counted(algorithm))
    }
}

impl Identity {
    /// The limits of `of`, in the caller's tenant. Needs `limits.rule.read`.
    ///
    /// # Errors
    /// `SUBJECT_NOT_FOUND`.
    pub async fn get_limits(&self, caller: &CallContext, of: Limited) -> Result<Rules> {
        caller.principal.require(READ)?;
        let tenant = caller.principal.tenant;
        let db = &self.inner.db;
        let known = match of {
            Limited::Key(key) => keys::find_key(db, tenant, key).await?.is_some(),
            Limited::Owner(owner) => owners::find(db, tenant, owner).await?.is_some(),
            Limited::User(user) => members::find(db, tenant, user).await?.is_some(),
            Limited::Tenant => true,
        };
        let rules = if known { store::find(db, tenant, &of.print()).await? } else { return Err(not_found()) };
        Ok(rules.unwrap_or_default())
    }

    /// Sets the limits of `of`, in the place of those that it has; none at all takes them away. Needs `limits.rule.write`.
    /// They are charged beside those that everybody meets, and never lift one.
    ///
    /// # Errors
    /// `SUBJECT_NOT_FOUND`; `LIMIT_INVALID` if they cannot be counted, have the same name, or are too many; `ESCALATION` if
    /// it is a person who can do what the caller cannot.
    pub async fn set_limits(&self, caller: &CallContext, of: Limited, rules: Vec<Rule>) -> Result<Rules> {
        caller.principal.require(WRITE)?;
        check(of, &rules)?;
        let (at, tenant) = (self.inner.clock.now(), caller.principal.tenant);
        let work = Arc::new((self.inner.outbox.clone(), Origin::of(caller), rules));
        let set = self.inner.db.write("set limits", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move { set(tx, &work.0, &work.1, of, &work.2, at).await })
        });
        let rules = set.await?;
        self.load_limits_of(tenant).await?;
        Ok(rules)
    }
}

async fn set(
    tx: &mut Tx<'_>,
    outbox: &Outbox,
    origin: &Origin,
    of: Limited,
    rules: &[Rule],
    at: Timestamp,
) -> Result<Rules> {
    let (tenant, subject) = (origin.principal.tenant, of.print());
    members::lock(tx, tenant).await?;
    let roles = find_subject(tx, tenant, of).await?;
    // Keys and their owners are what their makers make of them; people and tenants are real.
    if !matches!(of, Limited::Key(_) | Limited::Owner(_)) {
        Roles::governed(tx, &origin.principal).await?.check_power(&origin.principal, &roles)?;
    }
    let before = store::find_in(tx, tenant, &subject).await?.unwrap_or_default();
    if before.rules == rules {
        return Ok(before);
    }
    if before.rules.is_empty() && store::count(tx, tenant).await? >= MAX_SUBJECTS {
        return Err(Error::invalid(
            "LIMIT_INVALID",
            "10,000 keys, owners and people of this tenant have limits already",
        ));
    }
    let by = &*origin.principal.subject;
    if rules.is_empty() {
        store::delete(tx, tenant, &subject).await?;
    } else {
        store::upsert(tx, tenant, &subject, rules, by, at).await?;
    }
    revocation::append(tx, &given::subject(tenant), at).await?;
    let data = json!({ "subject": subject, "before": before.rules, "after": rules, "updated_by": by });
    let event = Draft { type_: "identity.limit.changed", subject, tenant, data: data.to_string().into() };
    outbox.append(tx, &[event], &origin.cause()).await?;
    Ok(Rules { rules: rules.to_vec(), updated: (!rules.is_empty()).then(|| (by.to_owned(), at)) })
}

/// The roles of a person; nothing of others. Refuses who is not of the tenant.
async fn find_subject(tx: &mut Tx<'_>, tenant: TenantId, of: Limited) -> Result<Vec<String>> {
    match of {
        Limited::Key(key) => keys::find_key_in(tx, tenant, key).await?.map(|_| Vec::new()).ok_or_else(not_found),
        Limited::Owner(owner) => owners::lock(tx, tenant, owner).await?.map(|_| Vec::new()).ok_or_else(not_found),
        Limited::User(user) => members::roles_of(tx, tenant, user).await?.ok_or_else(not_found),
        Limited::Tenant => Ok(Vec::new()),
    }
}

fn check(of: Limited, rules: &[Rule]) -> Result<()> {
    if rules.len() > MAX_RULES {
        return Err(Error::invalid("LIMIT_INVALID", format!("at most {MAX_RULES} limits")).at("limits"));
    }
    for (index, rule) in rules.iter().enumerate() {
        let at = |name: &str| format!("limits[{index}].{name}");
        let named = rule.name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if !named || rule.name.is_empty() || rule.name.len() > MAX_NAME {
            let message = format!("a name has 1 to {MAX_NAME} lower-case letters, digits, - and _");
            return Err(Error::invalid("LIMIT_INVALID", message).at(at("name")));
        }
        if rules[..index].iter().any(|other| other.name == rule.name) {
            return Err(Error::invalid("LIMIT_INVALID", "another limit has this name").at(at("name")));
        }
        rule.policy(of).map_err(|error| error.at(format!("limits[{index}]")))?;
    }
    Ok(())
}

/// Whom of a tenant this caller counts as.
pub(crate) fn subjects(caller: &Principal) -> impl Iterator<Item = Limited> {
    let user = UserId::parse(&caller.subject).filter(|_| caller.kind == SubjectKind::User);
    let own = [
        caller.key.map(Limited::Key),
        caller.owner.map(Limited::Owner),
        user.map(Limited::User),
        Some(Limited::Tenant),
    ];
    own.into_iter().flatten()
}

fn not_found() -> Error {
    Error::not_found("SUBJECT_NOT_FOUND", "no such key, owner or person")
}
