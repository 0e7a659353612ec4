//! SQL of `user_account`, `password`, `membership` and `role_binding`. Accounts belong to no tenant, memberships do.

use manifold_core::{Result, TenantId, Timestamp, UserId};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;

use crate::email::Email;
use crate::session;
use crate::store::one_time;

/// An account, and how its owner proves to be its owner.
#[derive(Clone, Debug, FromRow)]
pub struct Account {
    /// The person.
    pub id: Uuid,
    /// As it was typed.
    pub email: String,
    /// What the person is called.
    pub name: String,
    /// Language.
    pub locale: Option<String>,
    /// Time zone.
    pub zone: Option<String>,
    /// `active` or `suspended`.
    pub state: String,
    /// When the account was made.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
    /// The hash of the password.
    pub phc: Option<String>,
    /// Grows with every change of the password.
    pub generation: i64,
}

const ACCOUNT: &str = "SELECT u.id, u.email, u.name, u.locale, u.zone, u.state, u.created_at, u.generation, p.phc FROM user_account u \
                       LEFT JOIN password p ON p.user_id = u.id WHERE u.state <> 'erased' AND ";

const ANY_USER: &str = "SELECT COUNT(*) FROM (SELECT 1 FROM user_account LIMIT 1) AS one";

/// Whether there is any account.
pub async fn has_users(db: &Db) -> Result<bool> {
    let count = on!(db, |executor| sqlx::query_scalar::<_, i64>(ANY_USER).fetch_one(executor).await);
    Ok(count.during("look for accounts")? > 0)
}

/// The same inside a transaction.
pub async fn has_users_in(tx: &mut Tx<'_>) -> Result<bool> {
    let count = on!(tx, |executor| sqlx::query_scalar::<_, i64>(ANY_USER).fetch_one(executor).await);
    Ok(count.during("look for accounts")? > 0)
}

/// The account of an address.
pub async fn find_by_email(db: &Db, email_norm: &str) -> Result<Option<Account>> {
    let sql = joined(ACCOUNT, "u.email_norm = $1");
    on!(db, |executor| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(email_norm).fetch_optional(executor).await)
        .during("look an account up")
}

/// An account.
pub async fn find(db: &Db, id: UserId) -> Result<Option<Account>> {
    let sql = joined(ACCOUNT, "u.id = $1");
    on!(db, |executor| sqlx::query_as(sqlx::AssertSqlSafe(sql)).bind(id.0).fetch_optional(executor).await)
        .during("read an account")
}

fn joined(head: &str, rest: &str) -> String {
    [head, rest].concat()
}

/// Inserts an account whose address is proven. False if the address has one.
pub async fn insert(tx: &mut Tx<'_>, id: UserId, email: &Email, name: &str, at: Timestamp) -> Result<bool> {
    let sql = "INSERT INTO user_account (id, email_norm, email, email_verified_at, name, state, generation, created_at) \
               VALUES ($1, $2, $3, $4, $5, 'active', 0, $4) ON CONFLICT (email_norm) DO NOTHING";
    let inserted = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(id.0).bind(&email.norm).bind(&email.typed).bind(Micros::from(at)).bind(name);
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(inserted.during("insert an account")? == 1)
}

/// Keeps the account as it is until the transaction ends; false if its password has changed since this generation, or it
/// is not active any more.
pub async fn hold(tx: &mut Tx<'_>, user: UserId, generation: i64) -> Result<bool> {
    let sql = "UPDATE user_account SET generation = generation WHERE id = $1 AND generation = $2 AND state = 'active'";
    let held = on!(tx, |executor| {
        sqlx::query(sql).bind(user.0).bind(generation).execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(held.during("hold an account")? == 1)
}

/// Sets the password; what was promised to the person by mail ends.
pub async fn set_password(tx: &mut Tx<'_>, user: UserId, phc: &str, at: Timestamp) -> Result<()> {
    let sql = "INSERT INTO password (user_id, phc, changed_at) VALUES ($1, $2, $3) \
               ON CONFLICT (user_id) DO UPDATE SET phc = excluded.phc, changed_at = excluded.changed_at";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(user.0).bind(phc).bind(Micros::from(at));
        query.execute(executor).await.map(|_| ())
    })
    .during("set a password")?;
    let sql = "UPDATE user_account SET generation = generation + 1 WHERE id = $1";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).execute(executor).await.map(|_| ()))
        .during("count a change of a password")?;
    one_time::end_of(tx, user).await
}

/// What people tell of themselves.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct Profile {
    /// What the person is called.
    pub name: String,
    /// Language.
    pub locale: Option<String>,
    /// Time zone.
    pub zone: Option<String>,
}

/// What a person tells of himself.
pub async fn profile(tx: &mut Tx<'_>, user: UserId) -> Result<Option<Profile>> {
    let sql = "SELECT name, locale, zone FROM user_account WHERE id = $1 AND state <> 'erased'";
    on!(tx, |executor| sqlx::query_as(sql).bind(user.0).fetch_optional(executor).await).during("read a profile")
}

/// Changes it.
pub async fn set_profile(tx: &mut Tx<'_>, user: UserId, new: &Profile) -> Result<()> {
    let sql = "UPDATE user_account SET name = $2, locale = $3, zone = $4 WHERE id = $1 AND state <> 'erased'";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(user.0).bind(&new.name).bind(&new.locale).bind(&new.zone);
        query.execute(executor).await.map(|_| ())
    })
    .during("change a profile")
}

/// Makes the person a member of the tenant with a role, unless the account has ended meanwhile.
///
/// # Errors
/// `INVALID_SESSION`.
pub async fn join(tx: &mut Tx<'_>, tenant: TenantId, user: UserId, role: &str, at: Timestamp) -> Result<()> {
    let alive = "UPDATE user_account SET generation = generation WHERE id = $1 AND state = 'active'";
    let alive = on!(tx, |executor| {
        sqlx::query(alive).bind(user.0).execute(executor).await.map(|done| done.rows_affected())
    });
    if alive.during("hold an account")? == 0 {
        return Err(session::invalid());
    }
    let member = "INSERT INTO membership (tenant_id, user_id, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    on!(tx, |executor| {
        let query = sqlx::query(member).bind(tenant.0).bind(user.0).bind(Micros::from(at));
        query.execute(executor).await.map(|_| ())
    })
    .during("insert a membership")?;
    let binding = "INSERT INTO role_binding (tenant_id, subject_kind, subject_id, role) VALUES ($1, 'user', $2, $3) \
                   ON CONFLICT DO NOTHING";
    on!(tx, |executor| {
        let query = sqlx::query(binding).bind(tenant.0).bind(user.0).bind(role);
        query.execute(executor).await.map(|_| ())
    })
    .during("bind a role")?;
    // Whoever could choose a new password for the person had no power over what the person is now.
    one_time::end_of(tx, user).await
}

/// The roles of a member.
pub async fn roles(db: &Db, tenant: TenantId, user: UserId) -> Result<Vec<String>> {
    let sql = "SELECT role FROM role_binding WHERE tenant_id = $1 AND subject_kind = 'user' AND subject_id = $2 ORDER BY role";
    on!(db, |executor| sqlx::query_scalar(sql).bind(tenant.0).bind(user.0).fetch_all(executor).await)
        .during("read the roles of a member")
}

/// The active tenant that the person joined first.
pub async fn home(db: &Db, user: UserId) -> Result<Option<TenantId>> {
    let sql = "SELECT m.tenant_id FROM membership m JOIN tenant t ON t.id = m.tenant_id \
               WHERE m.user_id = $1 AND t.state = 'active' ORDER BY m.created_at, m.tenant_id LIMIT 1";
    let found: Result<Option<Uuid>, _> =
        on!(db, |executor| sqlx::query_scalar(sql).bind(user.0).fetch_optional(executor).await);
    Ok(found.during("find the tenant of a person")?.map(TenantId))
}

/// Whether the person is a member of any tenant, active or not.
pub async fn is_member(db: &Db, user: UserId) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM membership WHERE user_id = $1";
    let count = on!(db, |executor| sqlx::query_scalar::<_, i64>(sql).bind(user.0).fetch_one(executor).await);
    Ok(count.during("look for memberships")? > 0)
}
