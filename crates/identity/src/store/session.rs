//! SQL of `session`: who is logged in from where.

use std::time::Duration;

use manifold_core::{Result, SessionId, TenantId, Timestamp, UserId};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

use super::revocation;
use crate::revoke;
use crate::tenant::settings::Settings;
use crate::token::Bearer;

/// A session to insert.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// The session.
    pub id: SessionId,
    /// SHA-256 of its token.
    pub hash: Vec<u8>,
    /// Whose it is.
    pub user: UserId,
    /// Where its holder acts.
    pub tenant: TenantId,
    /// Address of its holder.
    pub ip: String,
    /// What the holder's browser calls itself.
    pub agent: String,
    /// Whether its holder has proven more than a password.
    pub mfa: bool,
    /// Now, when its holder has proven to be the person.
    pub at: Timestamp,
    /// When it ends in any case.
    pub expires_at: Timestamp,
}

/// How long a session lasts.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Span {
    /// When its holder logged in.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    #[sqlx(try_from = "Micros")]
    pub seen_at: Timestamp,
    /// How long it may go without use, in microseconds, if tokens stand for it; in a browser the tenant decides.
    pub idle: Option<i64>,
    /// When it ends in any case.
    #[sqlx(try_from = "Micros")]
    pub expires_at: Timestamp,
}

impl Span {
    /// Whether it is over, in a tenant that decided so.
    pub fn is_over(&self, settings: &Settings, now: Timestamp) -> bool {
        match self.idle {
            None => settings.is_over(self.created_at, self.seen_at, now),
            Some(idle) => {
                self.expires_at <= now || now.since(self.seen_at) >= Duration::from_micros(idle.unsigned_abs())
            }
        }
    }

    /// When it ends in any case.
    pub fn end(&self, settings: &Settings) -> Timestamp {
        match self.idle {
            None => settings.end_of(self.created_at),
            Some(_) => self.expires_at,
        }
    }
}

/// A session as people see it.
#[derive(Debug, FromRow)]
pub struct SessionRow {
    /// The session.
    pub id: Uuid,
    /// Address at login.
    pub ip: String,
    /// Browser at login.
    pub agent: String,
    /// How long it lasts.
    #[sqlx(flatten)]
    pub span: Span,
}

/// All that deciding about a presented token needs.
#[derive(Clone, Debug, FromRow)]
pub struct Holder {
    /// The session.
    pub id: Uuid,
    /// Whose it is.
    pub user_id: Uuid,
    /// Where its holder acts.
    pub tenant_id: Uuid,
    /// When its holder proved to be the person.
    #[sqlx(try_from = "Micros")]
    pub auth_time: Timestamp,
    /// Whether by more than a password.
    pub mfa: bool,
    /// How often the holder's password has changed.
    pub generation: i64,
    /// How long it lasts.
    #[sqlx(flatten)]
    pub span: Span,
    /// State of the tenant.
    pub tenant_state: String,
    /// What the tenant decided about sessions.
    pub settings: Json<Settings>,
}

/// Sessions that were not ended and whose holders are members of their tenants, among those that the rest says.
macro_rules! holders {
    ($rest:literal) => {
        concat!(
            "SELECT s.id, s.user_id, s.tenant_id, s.auth_time, s.mfa, u.generation, s.created_at, s.seen_at, s.idle, s.expires_at, \
             t.state AS tenant_state, t.settings FROM session s JOIN user_account u ON u.id = s.user_id JOIN tenant t ON t.id = s.tenant_id \
             JOIN membership m ON m.tenant_id = s.tenant_id AND m.user_id = s.user_id ",
            $rest,
            " AND s.revoked_at IS NULL AND u.state = 'active'"
        )
    };
}

/// The session of a used refresh token.
pub const OF_USED: &str =
    holders!("JOIN refresh_token r ON r.session_id = s.id WHERE r.hash = $1 AND r.used_at IS NOT NULL");

/// Inserts a session.
pub async fn insert(tx: &mut Tx<'_>, new: &NewSession) -> Result<()> {
    let sql = "INSERT INTO session (id, hash, user_id, tenant_id, auth_time, mfa, ip, agent, created_at, seen_at, expires_at) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $5, $5, $9)";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(new.id.0).bind(new.hash.as_slice()).bind(new.user.0).bind(new.tenant.0);
        let query = query.bind(Micros::from(new.at)).bind(new.mfa).bind(&new.ip).bind(&new.agent);
        query.bind(Micros::from(new.expires_at)).execute(executor).await.map(|_| ())
    })
    .during("insert a session")
}

/// Whether a session of a person is renewed by refresh tokens.
pub async fn is_behind_tokens(db: &Db, user: UserId, id: SessionId) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM session WHERE user_id = $1 AND id = $2 AND idle IS NOT NULL";
    let count = on!(db, |executor| sqlx::query_scalar::<_, i64>(sql).bind(user.0).bind(id.0).fetch_one(executor).await);
    Ok(count.during("look at a session")? > 0)
}

/// Inserts a session that goes on where `before` was; when it ends in any case. None if that one was ended.
pub async fn follow(tx: &mut Tx<'_>, new: &NewSession, before: SessionId) -> Result<Option<Timestamp>> {
    let sql = "INSERT INTO session (id, hash, user_id, tenant_id, auth_time, mfa, ip, agent, created_at, seen_at, expires_at) \
               SELECT $1, $2, user_id, $3, auth_time, mfa, $4, $5, created_at, $6, expires_at FROM session \
               WHERE user_id = $7 AND id = $8 AND revoked_at IS NULL RETURNING expires_at";
    let until: Result<Option<Micros>, _> = on!(tx, |executor| {
        let query = sqlx::query_scalar(sql).bind(new.id.0).bind(new.hash.as_slice()).bind(new.tenant.0).bind(&new.ip);
        let query = query.bind(&new.agent).bind(Micros::from(new.at)).bind(new.user.0).bind(before.0);
        query.fetch_optional(executor).await
    });
    Ok(until.during("go on with a session")?.map(Timestamp::from))
}

/// Who holds the session with this hash. It says whose it is.
pub async fn find(db: &Db, hash: &[u8]) -> Result<Option<Holder>> {
    let sql = holders!("WHERE s.hash = $1");
    on!(db, |executor| sqlx::query_as(sql).bind(hash).fetch_optional(executor).await).during("look a session up")
}

/// The session behind an access token, unless the password has changed since.
pub async fn find_behind(db: &Db, token: &Bearer) -> Result<Option<Holder>> {
    let sql = holders!("WHERE s.id = $1 AND s.tenant_id = $2 AND s.user_id = $3 AND u.generation = $4");
    on!(db, |executor| {
        let query = sqlx::query_as(sql).bind(token.session.0).bind(token.tenant.0).bind(token.user.0);
        query.bind(token.generation).fetch_optional(executor).await
    })
    .during("look for the session behind a token")
}

/// Who holds a session.
pub async fn find_in(tx: &mut Tx<'_>, id: SessionId) -> Result<Option<Holder>> {
    let sql = holders!("WHERE s.id = $1");
    on!(tx, |executor| sqlx::query_as(sql).bind(id.0).fetch_optional(executor).await).during("read a session")
}

/// From now on tokens stand for a session, and no cookie: nobody knows what has this hash. False if it was ended.
pub async fn turn_to_tokens(
    tx: &mut Tx<'_>,
    id: SessionId,
    hash: &[u8],
    idle: Duration,
    expires_at: Timestamp,
) -> Result<bool> {
    let sql = "UPDATE session SET hash = $2, idle = $3, expires_at = $4 WHERE id = $1 AND revoked_at IS NULL";
    let turned = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(id.0).bind(hash).bind(idle.as_micros() as i64);
        query.bind(Micros::from(expires_at)).execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(turned.during("give tokens for a session")? == 1)
}

/// Notes that a session was used.
pub async fn seen(tx: &mut Tx<'_>, id: SessionId, at: Timestamp) -> Result<()> {
    let sql = "UPDATE session SET seen_at = $2 WHERE id = $1 AND seen_at < $2";
    on!(tx, |executor| sqlx::query(sql).bind(id.0).bind(Micros::from(at)).execute(executor).await.map(|_| ()))
        .during("note that a session was used")
}

/// The sessions of a member that are neither ended, nor over, nor unused since `idle_since` in a browser; the newest first.
pub async fn list(
    db: &Db,
    tenant: TenantId,
    user: UserId,
    now: Timestamp,
    idle_since: Timestamp,
) -> Result<Vec<SessionRow>> {
    let sql = "SELECT id, ip, agent, created_at, seen_at, idle, expires_at FROM session WHERE tenant_id = $1 AND user_id = $2 \
               AND revoked_at IS NULL AND expires_at > $3 AND (idle IS NOT NULL OR seen_at > $4) ORDER BY id DESC LIMIT 200";
    on!(db, |executor| {
        let query = sqlx::query_as(sql).bind(tenant.0).bind(user.0).bind(Micros::from(now));
        query.bind(Micros::from(idle_since)).fetch_all(executor).await
    })
    .during("list sessions")
}

/// How long a session lasts that was just used.
pub async fn span(db: &Db, tenant: TenantId, user: UserId, id: SessionId) -> Result<Option<Span>> {
    let sql = "SELECT created_at, seen_at, idle, expires_at FROM session \
               WHERE tenant_id = $1 AND user_id = $2 AND id = $3 AND revoked_at IS NULL";
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).bind(user.0).bind(id.0).fetch_optional(executor).await)
        .during("read a session")
}

/// Which sessions of a person to end.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    /// This one.
    One(SessionId),
    /// Every other one, of whichever tenant.
    AllBut(SessionId),
    /// Every one.
    All,
    /// Every one in this tenant.
    In(TenantId),
}

impl Which {
    /// What the feed of revocations calls them.
    pub fn subject(self, user: UserId) -> String {
        match self {
            Self::One(id) => revoke::session_subject(id),
            Self::AllBut(_) | Self::All | Self::In(_) => revoke::user_subject(user),
        }
    }
}

/// Ends sessions of a person, and tells every process; how many.
pub async fn revoke(tx: &mut Tx<'_>, user: UserId, which: Which, at: Timestamp) -> Result<u64> {
    let every = "UPDATE session SET revoked_at = $3 WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL";
    let (sql, id) = match which {
        Which::One(id) => {
            ("UPDATE session SET revoked_at = $3 WHERE user_id = $1 AND id = $2 AND revoked_at IS NULL", id.0)
        }
        Which::AllBut(id) => (every, id.0),
        Which::All => (every, Uuid::nil()),
        Which::In(tenant) => (
            "UPDATE session SET revoked_at = $3 WHERE user_id = $1 AND tenant_id = $2 AND revoked_at IS NULL",
            tenant.0,
        ),
    };
    let ended = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(user.0).bind(id).bind(Micros::from(at));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    let n = ended.during("end sessions")?;
    if n > 0 {
        revocation::append(tx, &which.subject(user), at).await?;
    }
    Ok(n)
}
