//! Which pages may call from browsers: the origins that tenants allow, in memory, as fresh as the feed of revocations.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use manifold_core::{Result, TenantId};

use crate::Identity;
use crate::store::tenant as store;

type Allowed = HashMap<String, HashSet<TenantId>>;

/// Origins, and the tenants that allow them.
#[derive(Default)]
pub struct Origins(ArcSwap<Allowed>);

impl Identity {
    /// Whether pages of this origin may call in the name of this tenant, or of any if none is named.
    pub fn allows_origin(&self, origin: &str, tenant: Option<TenantId>) -> bool {
        let allowed = self.inner.origins.0.load();
        allowed.get(origin).is_some_and(|tenants| tenant.is_none_or(|tenant| tenants.contains(&tenant)))
    }

    /// Reads what tenants allow.
    pub(crate) async fn load_origins(&self) -> Result<()> {
        let mut allowed = Allowed::new();
        for (id, settings) in store::list_settings(&self.inner.db).await? {
            for origin in settings.0.origins {
                allowed.entry(origin).or_default().insert(TenantId(id));
            }
        }
        self.inner.origins.0.store(Arc::new(allowed));
        Ok(())
    }
}
