//! Going to another tenant in which one is a member.

use std::sync::Arc;

use manifold_core::{Code, Error, Result, TenantId};
use manifold_runtime::CallContext;
use serde_json::json;

use super::{not_found, suspended};
use crate::origin::Origin;
use crate::session::{self, Entered, Visitor, person};
use crate::store::session::{self as store, NewSession, Which};
use crate::store::{tenant as tenants, user};
use crate::{Identity, login};

impl Identity {
    /// Moves the caller's session to another tenant: it gets a new token, and lasts as long as it would have.
    ///
    /// # Errors
    /// `TENANT_NOT_FOUND` for who is no member, `TENANT_SUSPENDED`, `SESSION_OF_TOKENS`, `INVALID_SESSION` if it ended
    /// meanwhile.
    pub async fn switch_tenant(&self, caller: &CallContext, visitor: Visitor, tenant: TenantId) -> Result<Entered> {
        let (user, before) = person(&caller.principal)?;
        if store::is_behind_tokens(&self.inner.db, user, before).await? {
            let message = "a session behind tokens stays in its tenant: log in with a cookie, or make a key there";
            return Err(Error::new(Code::Conflict, "SESSION_OF_TOKENS", message));
        }
        if !tenants::has_member(&self.inner.db, tenant, user).await? {
            return Err(not_found());
        }
        let row = tenants::find(&self.inner.db, tenant).await?.ok_or_else(not_found)?;
        if row.state != "active" {
            return Err(suspended());
        }
        let account = user::find(&self.inner.db, user).await?.ok_or_else(session::invalid)?;
        let now = self.inner.clock.now();
        let (new, token) = session::new(&self.inner.ids, user, tenant, &visitor, now);
        let (id, work) = (new.id, Arc::new((new.clone(), self.inner.outbox.clone(), Origin::of(caller))));
        let moved = self.inner.db.write("go to another tenant", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (new, outbox, origin) = &*work;
                let Some(until) = store::follow(tx, new, before).await? else { return Err(session::invalid()) };
                store::revoke(tx, user, Which::One(before), now).await?;
                let left = json!({ "session": before.to_string(), "switched_to": tenant.to_string() });
                let came = json!({ "session": id.to_string(), "switched_from": origin.principal.tenant.to_string() });
                let events = [
                    login::event("identity.session.revoked", origin.principal.tenant, user, &left),
                    login::event("identity.login.succeeded", tenant, user, &came),
                ];
                outbox.append(tx, &events, &origin.cause()).await?;
                Ok(until)
            })
        });
        let until = moved.await?;
        self.entered(NewSession { expires_at: until, ..new }, token, account).await
    }
}
