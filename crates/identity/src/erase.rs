//! The end of an account: nothing is left of a person but the id, neither in tables nor in audit entries, whose chains hold
//! without their details.

use std::collections::BTreeSet;
use std::sync::Arc;

use manifold_core::{Code, Error, Result, TenantId, UserId};
use manifold_runtime::CallContext;
use manifold_store::Tx;
use serde_json::{Value, json};

use crate::email::Email;
use crate::origin::Origin;
use crate::session::person;
use crate::store::session::{self as sessions, Which};
use crate::store::{account, audit, member, one_time, user as store};
use crate::{Identity, login, step_up};

impl Identity {
    /// Ends the caller's account: nothing is left of it but its id, memberships and sessions end. Needs a proof of the last
    /// ten minutes.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`; `LAST_OWNER` of a tenant that would have no owner any more; `INVALID_CREDENTIALS` if the password
    /// changes meanwhile.
    pub async fn delete_me(&self, caller: &CallContext) -> Result<()> {
        let (user, _) = person(&caller.principal)?;
        let now = self.inner.clock.now();
        step_up::require(&caller.principal, now)?;
        let account = store::find(&self.inner.db, user).await?.ok_or_else(login::refused)?;
        let work = Arc::new((self.clone(), account, Origin::of(caller)));
        let erased = self.inner.db.write("erase an account", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (identity, account, origin) = &*work;
                // Whoever joins a tenant holds the account, too: it was before, and is seen below, or is refused after.
                if !store::hold(tx, user, account.generation).await? {
                    return Err(login::refused());
                }
                let mut events = Vec::new();
                for tenant in account::tenants(tx, user).await? {
                    leave(tx, tenant, user).await?;
                    events.push(login::event("identity.user.erased", tenant, user, &json!({ "id": user.to_string() })));
                }
                sessions::revoke(tx, user, Which::All, now).await?;
                identity.forget_person(tx, user, &account.email).await?;
                account::erase(tx, user, now).await?;
                identity.inner.outbox.append(tx, &events, &origin.cause()).await
            })
        });
        erased.await?;
        self.forget(&Which::All.subject(user));
        Ok(())
    }

    /// Forgets what was written down of a person, and what was promised and mailed under every address that the person had.
    async fn forget_person(&self, tx: &mut Tx<'_>, user: UserId, email: &str) -> Result<()> {
        let target = user.to_string();
        let mut typed = BTreeSet::from([email.to_owned()]);
        for detail in audit::details_of(tx, &target).await? {
            find_emails(&serde_json::from_str(&detail).unwrap_or_default(), &mut typed);
        }
        audit::erase_details(tx, &target).await?;
        one_time::forget(tx, user).await?;
        for email in typed.iter().filter_map(|typed| Email::parse(typed).ok()) {
            for text in BTreeSet::from([email.typed.to_lowercase(), email.norm.clone()]) {
                audit::erase_invited(tx, &format!("\"email\":{}", json!(text))).await?;
            }
            account::forget_invitations(tx, &email.norm).await?;
            one_time::forget_registrations(tx, &email.norm).await?;
            self.inner.post.forget(tx, &email.norm).await?;
        }
        Ok(())
    }
}

/// The addresses that stand under `email`, however deep.
fn find_emails(detail: &Value, found: &mut BTreeSet<String>) {
    let Value::Object(fields) = detail else { return };
    for (name, value) in fields {
        match value {
            Value::String(text) if name == "email" => drop(found.insert(text.clone())),
            deeper => find_emails(deeper, found),
        }
    }
}

/// Ends a membership for good.
async fn leave(tx: &mut Tx<'_>, tenant: TenantId, user: UserId) -> Result<()> {
    member::lock(tx, tenant).await?;
    member::end_promises(tx, tenant, user).await?;
    member::remove(tx, tenant, user).await?;
    if member::has_owner(tx, tenant).await? {
        return Ok(());
    }
    let message = "a tenant needs an owner: make somebody else one first, or delete the tenant";
    Err(Error::new(Code::Conflict, "LAST_OWNER", message))
}
