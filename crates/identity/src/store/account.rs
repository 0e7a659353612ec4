//! SQL of what becomes of an account: its address, from where its owner comes, and its end.

use manifold_core::{Result, TenantId, Timestamp, UserId};
use manifold_store::{Micros, SqlResultExt, Tx, on};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::email::Email;

/// Changes the address, which is proven. False if another account has it.
pub async fn set_email(tx: &mut Tx<'_>, user: UserId, email: &Email, at: Timestamp) -> Result<bool> {
    let sql = "UPDATE user_account SET email_norm = $2, email = $3, email_verified_at = $4 WHERE id = $1 \
               AND NOT EXISTS (SELECT 1 FROM user_account other WHERE other.email_norm = $2 AND other.id <> $1)";
    let changed = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(user.0).bind(&email.norm).bind(&email.typed).bind(Micros::from(at));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(changed.during("change an address")? == 1)
}

/// The address.
pub async fn email(tx: &mut Tx<'_>, user: UserId) -> Result<Option<Email>> {
    let sql = "SELECT email FROM user_account WHERE id = $1 AND state <> 'erased'";
    let found: Result<Option<String>, _> =
        on!(tx, |executor| sqlx::query_scalar(sql).bind(user.0).fetch_optional(executor).await);
    found.during("read an address")?.as_deref().map(Email::parse).transpose()
}

/// Whether this is the address still.
pub async fn has_email(tx: &mut Tx<'_>, user: UserId, email_norm: &str) -> Result<bool> {
    Ok(email(tx, user).await?.is_some_and(|email| email.norm == email_norm))
}

/// Whether a person is known to come from a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As before.
    Known,
    /// From others before.
    New,
    /// From none before, or none that is remembered.
    First,
}

/// Notes from where the person comes. What was seen before `since` is forgotten.
pub async fn note_place(
    tx: &mut Tx<'_>,
    user: UserId,
    network: &str,
    since: Timestamp,
    at: Timestamp,
) -> Result<Place> {
    let sql = "DELETE FROM user_place WHERE user_id = $1 AND seen_at < $2";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).bind(Micros::from(since)).execute(executor).await.map(|_| ()))
        .during("forget places")?;
    let sql = "SELECT COUNT(*) FROM user_place WHERE user_id = $1";
    let known = on!(tx, |executor| sqlx::query_scalar::<_, i64>(sql).bind(user.0).fetch_one(executor).await);
    let known = known.during("count places")?;
    let sql = "UPDATE user_place SET seen_at = $3 WHERE user_id = $1 AND network = $2";
    let seen = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(user.0).bind(network).bind(Micros::from(at));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    if seen.during("note a place")? > 0 {
        return Ok(Place::Known);
    }
    let sql = "INSERT INTO user_place (user_id, network, seen_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(user.0).bind(network).bind(Micros::from(at));
        query.execute(executor).await.map(|_| ())
    })
    .during("insert a place")?;
    Ok(if known > 0 { Place::New } else { Place::First })
}

/// Notes that the person is told of guesses; false if that was so since `since`.
pub async fn warn(tx: &mut Tx<'_>, user: UserId, since: Timestamp, now: Timestamp) -> Result<bool> {
    let sql = "UPDATE user_account SET warned_at = $3 WHERE id = $1 AND state = 'active' \
               AND (warned_at IS NULL OR warned_at <= $2)";
    let noted = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(user.0).bind(Micros::from(since)).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(noted.during("note a warning")? == 1)
}

/// The tenants of a person that go on, in the order in which they are locked.
pub async fn tenants(tx: &mut Tx<'_>, user: UserId) -> Result<Vec<TenantId>> {
    let sql = "SELECT m.tenant_id FROM membership m JOIN tenant t ON t.id = m.tenant_id WHERE m.user_id = $1 \
               AND t.state <> 'deleting' ORDER BY m.tenant_id";
    let found: Result<Vec<Uuid>, _> =
        on!(tx, |executor| sqlx::query_scalar(sql).bind(user.0).fetch_all(executor).await);
    Ok(found.during("list the tenants of a person")?.into_iter().map(TenantId).collect())
}

/// Deletes the invitations of an address, used or not.
pub async fn forget_invitations(tx: &mut Tx<'_>, email_norm: &str) -> Result<()> {
    let sql = "DELETE FROM invitation WHERE email_norm = $1";
    on!(tx, |executor| sqlx::query(sql).bind(email_norm).execute(executor).await.map(|_| ()))
        .during("delete invitations of a person")
}

/// Leaves nothing of a person but the id.
pub async fn erase(tx: &mut Tx<'_>, user: UserId, at: Timestamp) -> Result<()> {
    for rows in ["password", "factor", "recovery_code", "user_place", "membership"] {
        let sql = AssertSqlSafe(format!("DELETE FROM {rows} WHERE user_id = $1"));
        on!(tx, |executor| sqlx::query(sql).bind(user.0).execute(executor).await.map(|_| ()))
            .during("delete what belongs to a person")?;
    }
    let sql = "DELETE FROM role_binding WHERE subject_kind = 'user' AND subject_id = $1";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).execute(executor).await.map(|_| ()))
        .during("delete the roles of a person")?;
    let sql = "UPDATE session SET ip = '', agent = '' WHERE user_id = $1";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).execute(executor).await.map(|_| ()))
        .during("forget from where a person came")?;
    let sql = "UPDATE user_account SET email_norm = NULL, email = NULL, email_verified_at = NULL, name = '', locale = NULL, \
               zone = NULL, state = 'erased', erased_at = $2, generation = generation + 1 WHERE id = $1";
    on!(tx, |executor| sqlx::query(sql).bind(user.0).bind(Micros::from(at)).execute(executor).await.map(|_| ()))
        .during("erase an account")
}
