//! Seeing and ending sessions: one's own, and those of members.

use std::sync::Arc;

use manifold_core::{Result, SessionId, Timestamp, UserId};
use manifold_runtime::CallContext;

use super::{IDLE, not_found, person};
use crate::origin::Origin;
use crate::store::session::{self as store, SessionRow, Which};
use crate::store::tenant as tenants;
use crate::tenant::settings::Settings;
use crate::{Identity, login, member};

/// Seeing and ending those of others.
const REVOKE: &str = "users.session.revoke";

/// A session as people see it in a list.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// The session.
    pub id: SessionId,
    /// Address at login.
    pub ip: String,
    /// Browser at login.
    pub agent: String,
    /// When its holder logged in.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub seen_at: Timestamp,
    /// When it ends in any case.
    pub expires_at: Timestamp,
    /// Whether it is the caller's own.
    pub current: bool,
}

impl Identity {
    /// The sessions of the caller, the newest first; at most 200.
    pub async fn list_sessions(&self, caller: &CallContext) -> Result<Vec<SessionInfo>> {
        let (user, _) = person(&caller.principal)?;
        self.sessions_of(caller, user).await
    }

    /// The sessions of a member in the caller's tenant, the newest first; at most 200. Needs `users.session.revoke`.
    ///
    /// # Errors
    /// `USER_NOT_FOUND` for who is no member, whoever else it may be.
    pub async fn list_sessions_of(&self, caller: &CallContext, user: UserId) -> Result<Vec<SessionInfo>> {
        person(&caller.principal)?;
        caller.principal.require(REVOKE)?;
        self.find_member(caller.principal.tenant, user).await?;
        self.sessions_of(caller, user).await
    }

    async fn sessions_of(&self, caller: &CallContext, user: UserId) -> Result<Vec<SessionInfo>> {
        let (_, session) = person(&caller.principal)?;
        let now = self.inner.clock.now();
        let tenant = caller.principal.tenant;
        let rows = store::list(&self.inner.db, tenant, user, now, now.before(IDLE)).await?;
        let settings = tenants::settings(&self.inner.db, tenant).await?;
        let alive = rows.into_iter().filter(|row| !row.span.is_over(&settings, now));
        Ok(alive.map(|row| describe(row, session, &settings)).collect())
    }

    /// Ends the caller's own session.
    pub async fn log_out(&self, caller: &CallContext) -> Result<()> {
        let (user, session) = person(&caller.principal)?;
        self.end_sessions(caller, user, Which::One(session)).await.map(|_| ())
    }

    /// Ends a session of the caller. Another one than its own ends only for who has just proven to be the person.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`; `SESSION_NOT_FOUND` if it is not the caller's, or not any more.
    pub async fn revoke_session(&self, caller: &CallContext, id: SessionId) -> Result<()> {
        let (user, session) = person(&caller.principal)?;
        if session != id {
            self.require_step_up(&caller.principal)?;
        }
        match self.end_sessions(caller, user, Which::One(id)).await? {
            0 => Err(not_found()),
            _ => Ok(()),
        }
    }

    /// Ends every other session of the caller; how many.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`.
    pub async fn revoke_other_sessions(&self, caller: &CallContext) -> Result<u64> {
        let (user, session) = person(&caller.principal)?;
        self.require_step_up(&caller.principal)?;
        self.end_sessions(caller, user, Which::AllBut(session)).await
    }

    /// Ends every session of a member in the caller's tenant; how many. Needs `users.session.revoke`, and all that the member's
    /// roles can do.
    ///
    /// # Errors
    /// `STEP_UP_REQUIRED`, `USER_NOT_FOUND`, `ESCALATION`.
    pub async fn revoke_sessions_of(&self, caller: &CallContext, user: UserId) -> Result<u64> {
        person(&caller.principal)?;
        caller.principal.require(REVOKE)?;
        self.require_step_up(&caller.principal)?;
        self.end_sessions(caller, user, Which::In(caller.principal.tenant)).await
    }

    async fn end_sessions(&self, caller: &CallContext, user: UserId, which: Which) -> Result<u64> {
        let now = self.inner.clock.now();
        let work = Arc::new((self.inner.outbox.clone(), Origin::of(caller)));
        let ended = self.inner.db.write("end sessions", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (outbox, origin) = &*work;
                if *user.to_string() != *origin.principal.subject {
                    member::govern(tx, &origin.principal, user).await?;
                }
                let n = store::revoke(tx, user, which, now).await?;
                if n > 0 {
                    let data = match which {
                        Which::One(id) => serde_json::json!({ "session": id.to_string() }),
                        Which::All | Which::In(_) => serde_json::json!({ "count": n }),
                        Which::AllBut(id) => serde_json::json!({ "all_but": id.to_string(), "count": n }),
                    };
                    let event = login::event("identity.session.revoked", origin.principal.tenant, user, &data);
                    outbox.append(tx, &[event], &origin.cause()).await?;
                }
                Ok(n)
            })
        });
        let n = ended.await?;
        self.forget(&which.subject(user));
        Ok(n)
    }
}

fn describe(row: SessionRow, current: SessionId, settings: &Settings) -> SessionInfo {
    SessionInfo {
        id: SessionId(row.id),
        ip: row.ip,
        agent: row.agent,
        created_at: row.span.created_at,
        seen_at: row.span.seen_at,
        expires_at: row.span.end(settings),
        current: row.id == current.0,
    }
}
