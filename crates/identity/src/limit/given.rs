//! All limits that were given to somebody, as this process knows them.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use manifold_cache::Policy;
use manifold_core::{Code, Error, Principal, Result, ResultExt, TenantId};
use serde::Deserialize;
use tokio::sync::Mutex;
use tracing::warn;

use super::{Limited, Rule, subjects};
use crate::Identity;
use crate::store::limit::{self as store, RuleRow};

/// The subject under which the feed of revocations tells that limits of a tenant have changed.
pub fn subject(tenant: TenantId) -> String {
    format!("limits:{tenant}")
}

/// The tenant whose limits have changed, by such a subject.
pub fn tenant_of(subject: &str) -> Option<TenantId> {
    subject.strip_prefix("limits:").and_then(TenantId::parse)
}

/// Limits by tenant and subject.
#[derive(Default)]
pub struct Given {
    all: ArcSwap<HashMap<TenantId, Arc<OfTenant>>>,
    /// One reader at a time: what was read first never takes the place of what was read later.
    reading: Mutex<()>,
}

type OfTenant = HashMap<Limited, Arc<[Policy]>>;

/// Limits that somebody was given.
#[derive(Clone, Debug)]
pub struct Own {
    /// Whose they are.
    pub of: Limited,
    /// Sets apart what is counted for different subjects.
    pub counter: u128,
    /// In the order in which they are charged.
    pub policies: Arc<[Policy]>,
}

impl Identity {
    /// The limits that were given to this caller: to the key, to its owner, to the person, and to the tenant, in this order. Waits for
    /// nobody.
    pub fn limits_of(&self, caller: &Principal) -> Vec<Own> {
        let all = self.inner.limits.all.load();
        let Some(known) = all.get(&caller.tenant) else { return Vec::new() };
        let own = |of: Limited| {
            let tenant = caller.tenant.0.as_u128();
            let counter = match of {
                Limited::Key(key) => key.0.as_u128(),
                Limited::Owner(owner) => owner.0.as_u128(),
                // The same person in another tenant has nothing to do with it.
                Limited::User(user) => user.0.as_u128() ^ tenant,
                Limited::Tenant => tenant,
            };
            Some(Own { of, counter, policies: Arc::clone(known.get(&of)?) })
        };
        subjects(caller).filter_map(own).collect()
    }

    /// Reads all limits of all tenants.
    pub(crate) async fn load_limits(&self) -> Result<()> {
        let _alone = self.inner.limits.reading.lock().await;
        let mut all = HashMap::<TenantId, OfTenant>::new();
        for row in store::list_all(&self.inner.db).await? {
            all.entry(TenantId(row.tenant_id)).or_default().extend(policies(&row));
        }
        let all = all.into_iter().map(|(tenant, known)| (tenant, Arc::new(known))).collect();
        self.inner.limits.all.store(Arc::new(all));
        Ok(())
    }

    /// Reads the limits of one tenant again.
    pub(crate) async fn load_limits_of(&self, tenant: TenantId) -> Result<()> {
        let _alone = self.inner.limits.reading.lock().await;
        let mut known = OfTenant::new();
        let mut all = HashMap::clone(&self.inner.limits.all.load());
        let before = all.remove(&tenant).unwrap_or_default();
        for row in store::list(&self.inner.db, tenant).await? {
            known.extend(policies(&row).or_else(|| {
                let of = Limited::parse(&row.subject).ok()?;
                Some((of, Arc::clone(before.get(&of)?)))
            }));
        }
        if !known.is_empty() {
            all.insert(tenant, Arc::new(known));
        }
        self.inner.limits.all.store(Arc::new(all));
        Ok(())
    }
}

/// None = this process does not understand them: a newer one has written them, of a kind that it does not know.
fn policies(row: &RuleRow) -> Option<(Limited, Arc<[Policy]>)> {
    let read = || {
        let of = Limited::parse(&row.subject)?;
        let rules = Vec::<Rule>::deserialize(&row.rules.0).or_err(Code::Internal, "read limits")?;
        let policies = rules.iter().map(|rule| rule.policy(of)).collect::<Result<Vec<_>>>()?;
        Ok::<_, Error>((of, policies.into()))
    };
    let read = read();
    if let Err(error) = &read {
        warn!(tenant = %TenantId(row.tenant_id), subject = row.subject, %error, "limits are of a kind that is not known here");
    }
    read.ok()
}
