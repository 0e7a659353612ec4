//! SQL of members and of `invitation`.

use manifold_core::{InvitationId, Result, TenantId, Timestamp, UserId};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use sqlx::FromRow;
use uuid::Uuid;

use crate::email::Email;
use crate::role;

/// A person in a tenant.
#[derive(Debug, FromRow)]
pub struct MemberRow {
    /// The person.
    pub id: Uuid,
    /// Address, as it was typed.
    pub email: String,
    /// What the person is called.
    pub name: String,
    /// Language.
    pub locale: Option<String>,
    /// Time zone.
    pub zone: Option<String>,
    /// When the account was made.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
    /// When the person joined.
    #[sqlx(try_from = "Micros")]
    pub joined_at: Timestamp,
    /// Roles, sorted.
    #[sqlx(skip)]
    pub roles: Vec<String>,
}

/// A member, and one of the roles.
#[derive(FromRow)]
struct WithRole {
    #[sqlx(flatten)]
    member: MemberRow,
    role: Option<String>,
}

/// An invitation.
#[derive(Clone, Debug, FromRow)]
pub struct InvitationRow {
    /// The invitation.
    pub id: Uuid,
    /// Where to.
    pub tenant_id: Uuid,
    /// Whom, as it was typed.
    pub email: String,
    /// As what.
    pub role: String,
    /// By whom.
    pub invited_by: String,
    /// When it was made.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
    /// Until when it works.
    #[sqlx(try_from = "Micros")]
    pub expires_at: Timestamp,
}

/// An invitation to insert.
#[derive(Clone, Debug)]
pub struct NewInvitation {
    /// The invitation.
    pub id: InvitationId,
    /// Where to.
    pub tenant: TenantId,
    /// Whom.
    pub email: Email,
    /// As what.
    pub role: String,
    /// SHA-256 of its token.
    pub hash: Vec<u8>,
    /// By whom.
    pub invited_by: String,
    /// Now.
    pub at: Timestamp,
    /// Until when it works.
    pub expires_at: Timestamp,
}

/// One text of the columns of [`WithRole`].
macro_rules! select_members {
    ($chosen:literal) => {
        concat!(
            "SELECT p.id, p.email, p.name, p.locale, p.zone, p.created_at, p.joined_at, b.role FROM ",
            "(SELECT u.id, u.email, u.name, u.locale, u.zone, u.created_at, m.created_at AS joined_at FROM membership m ",
            "JOIN user_account u ON u.id = m.user_id WHERE m.tenant_id = $1 AND u.state <> 'erased' AND ",
            $chosen,
            ") AS p LEFT JOIN role_binding b ON b.tenant_id = $1 AND b.subject_kind = 'user' AND b.subject_id = p.id ",
            "ORDER BY p.id, b.role"
        )
    };
}

/// Members of a tenant, in the order of their ids.
pub async fn list(db: &Db, tenant: TenantId, after: Uuid, limit: i64) -> Result<Vec<MemberRow>> {
    let sql = select_members!("u.id > $2 ORDER BY u.id LIMIT $3");
    let rows: Result<Vec<WithRole>, _> =
        on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).bind(after).bind(limit).fetch_all(executor).await);
    Ok(gather(rows.during("list members")?))
}

/// Puts the roles of each member together.
fn gather(rows: Vec<WithRole>) -> Vec<MemberRow> {
    let mut members = Vec::<MemberRow>::new();
    for WithRole { member, role } in rows {
        if members.last().is_none_or(|last| last.id != member.id) {
            members.push(member);
        }
        if let Some(last) = members.last_mut() {
            last.roles.extend(role);
        }
    }
    members
}

/// One member of a tenant.
pub async fn find(db: &Db, tenant: TenantId, user: UserId) -> Result<Option<MemberRow>> {
    let sql = select_members!("u.id = $2");
    let rows: Result<Vec<WithRole>, _> =
        on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).bind(user.0).fetch_all(executor).await);
    Ok(gather(rows.during("read a member")?).pop())
}

/// Whether the person is a member of another tenant, too.
pub async fn is_elsewhere(tx: &mut Tx<'_>, tenant: TenantId, user: UserId) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM membership WHERE tenant_id <> $1 AND user_id = $2";
    let count =
        on!(tx, |executor| { sqlx::query_scalar::<_, i64>(sql).bind(tenant.0).bind(user.0).fetch_one(executor).await });
    Ok(count.during("look for other memberships")? > 0)
}

/// Whoever changes members of a tenant waits here for the others who do.
pub async fn lock(tx: &mut Tx<'_>, tenant: TenantId) -> Result<()> {
    let sql = "UPDATE tenant SET name = name WHERE id = $1";
    on!(tx, |executor| sqlx::query(sql).bind(tenant.0).execute(executor).await.map(|_| ())).during("lock a tenant")
}

/// The roles of a member; None for who is none.
pub async fn roles_of(tx: &mut Tx<'_>, tenant: TenantId, user: UserId) -> Result<Option<Vec<String>>> {
    let sql = "SELECT b.role FROM membership m LEFT JOIN role_binding b ON b.tenant_id = m.tenant_id \
               AND b.subject_id = m.user_id AND b.subject_kind = 'user' WHERE m.tenant_id = $1 AND m.user_id = $2 ORDER BY b.role";
    let rows: Result<Vec<Option<String>>, _> =
        on!(tx, |executor| sqlx::query_scalar(sql).bind(tenant.0).bind(user.0).fetch_all(executor).await);
    let rows = rows.during("read the roles of a member")?;
    Ok((!rows.is_empty()).then(|| rows.into_iter().flatten().collect()))
}

/// Who may do something else from now on: what was given to others by this person's power, or over this person, ends.
/// These are invitations by and for the person, and tokens for new passwords.
pub async fn end_promises(tx: &mut Tx<'_>, tenant: TenantId, user: UserId) -> Result<()> {
    end_resets(tx, tenant).await?;
    end_invitations_by(tx, tenant, &user.to_string()).await?;
    let sql = "DELETE FROM invitation WHERE tenant_id = $1 AND used_at IS NULL \
               AND email_norm IN (SELECT email_norm FROM user_account WHERE id = $2)";
    on!(tx, |executor| sqlx::query(sql).bind(tenant.0).bind(user.0).execute(executor).await.map(|_| ()))
        .during("end invitations of a person")
}

/// Ends the tokens by which members may choose a new password.
pub async fn end_resets(tx: &mut Tx<'_>, tenant: TenantId) -> Result<()> {
    let sql = "DELETE FROM one_time WHERE purpose = 'reset' AND used_at IS NULL \
               AND user_id IN (SELECT user_id FROM membership WHERE tenant_id = $1)";
    on!(tx, |executor| sqlx::query(sql).bind(tenant.0).execute(executor).await.map(|_| ()))
        .during("end tokens for new passwords")
}

/// Ends the invitations that a person or key has made.
pub async fn end_invitations_by(tx: &mut Tx<'_>, tenant: TenantId, maker: &str) -> Result<()> {
    let sql = "DELETE FROM invitation WHERE tenant_id = $1 AND used_at IS NULL AND invited_by = $2";
    on!(tx, |executor| sqlx::query(sql).bind(tenant.0).bind(maker).execute(executor).await.map(|_| ()))
        .during("end invitations")
}

/// Gives a member these roles and no others.
pub async fn set_roles(tx: &mut Tx<'_>, tenant: TenantId, user: UserId, roles: &[String]) -> Result<()> {
    let remove = "DELETE FROM role_binding WHERE tenant_id = $1 AND subject_kind = 'user' AND subject_id = $2";
    on!(tx, |executor| sqlx::query(remove).bind(tenant.0).bind(user.0).execute(executor).await.map(|_| ()))
        .during("take roles away")?;
    let insert = "INSERT INTO role_binding (tenant_id, subject_kind, subject_id, role) VALUES ($1, 'user', $2, $3) \
                  ON CONFLICT DO NOTHING";
    for role in roles {
        on!(tx, |executor| {
            sqlx::query(insert).bind(tenant.0).bind(user.0).bind(role).execute(executor).await.map(|_| ())
        })
        .during("bind a role")?;
    }
    Ok(())
}

/// Ends a membership.
pub async fn remove(tx: &mut Tx<'_>, tenant: TenantId, user: UserId) -> Result<()> {
    set_roles(tx, tenant, user, &[]).await?;
    let sql = "DELETE FROM membership WHERE tenant_id = $1 AND user_id = $2";
    on!(tx, |executor| sqlx::query(sql).bind(tenant.0).bind(user.0).execute(executor).await.map(|_| ()))
        .during("end a membership")
}

/// Whether the tenant has an owner.
pub async fn has_owner(tx: &mut Tx<'_>, tenant: TenantId) -> Result<bool> {
    let sql = "SELECT COUNT(*) FROM role_binding b JOIN membership m ON m.tenant_id = b.tenant_id \
               AND m.user_id = b.subject_id WHERE b.tenant_id = $1 AND b.subject_kind = 'user' AND b.role = $2";
    let count = on!(tx, |executor| {
        sqlx::query_scalar::<_, i64>(sql).bind(tenant.0).bind(role::OWNER).fetch_one(executor).await
    });
    Ok(count.during("count owners")? > 0)
}

/// Inserts an invitation; earlier ones of the same address to the tenant end.
pub async fn invite(tx: &mut Tx<'_>, new: &NewInvitation) -> Result<()> {
    let remove = "DELETE FROM invitation WHERE tenant_id = $1 AND email_norm = $2 AND used_at IS NULL";
    on!(tx, |executor| {
        sqlx::query(remove).bind(new.tenant.0).bind(&new.email.norm).execute(executor).await.map(|_| ())
    })
    .during("end an earlier invitation")?;
    let insert = "INSERT INTO invitation (id, tenant_id, email_norm, email, role, hash, invited_by, created_at, expires_at) \
                  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    on!(tx, |executor| {
        let query = sqlx::query(insert).bind(new.id.0).bind(new.tenant.0).bind(&new.email.norm).bind(&new.email.typed);
        let query = query.bind(&new.role).bind(new.hash.as_slice()).bind(&new.invited_by).bind(Micros::from(new.at));
        query.bind(Micros::from(new.expires_at)).execute(executor).await.map(|_| ())
    })
    .during("insert an invitation")
}

/// Invitations of a tenant that still work, the newest first.
pub async fn list_invitations(
    db: &Db,
    tenant: TenantId,
    now: Timestamp,
    before: Uuid,
    limit: i64,
) -> Result<Vec<InvitationRow>> {
    let sql = "SELECT id, tenant_id, email, role, invited_by, created_at, expires_at FROM invitation WHERE tenant_id = $1 \
               AND used_at IS NULL AND expires_at > $2 AND id < $3 ORDER BY id DESC LIMIT $4";
    on!(db, |executor| {
        let query = sqlx::query_as(sql).bind(tenant.0).bind(Micros::from(now)).bind(before);
        query.bind(limit).fetch_all(executor).await
    })
    .during("list invitations")
}

/// The invitation of this token, if it still works. It says where to.
pub async fn find_invitation(db: &Db, hash: &[u8], now: Timestamp) -> Result<Option<InvitationRow>> {
    let sql = "SELECT id, tenant_id, email, role, invited_by, created_at, expires_at FROM invitation \
               WHERE hash = $1 AND used_at IS NULL AND expires_at > $2";
    on!(db, |executor| sqlx::query_as(sql).bind(hash).bind(Micros::from(now)).fetch_optional(executor).await)
        .during("look an invitation up")
}

/// Uses an invitation; false if somebody did, or took it back.
pub async fn use_invitation(tx: &mut Tx<'_>, tenant: TenantId, id: InvitationId, now: Timestamp) -> Result<bool> {
    let sql =
        "UPDATE invitation SET used_at = $3 WHERE tenant_id = $1 AND id = $2 AND used_at IS NULL AND expires_at > $3";
    let used = on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(id.0).bind(Micros::from(now));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(used.during("use an invitation")? == 1)
}

/// Takes an invitation back; false if there is none that works.
pub async fn revoke_invitation(tx: &mut Tx<'_>, tenant: TenantId, id: InvitationId) -> Result<bool> {
    let sql = "DELETE FROM invitation WHERE tenant_id = $1 AND id = $2 AND used_at IS NULL";
    let removed = on!(tx, |executor| {
        sqlx::query(sql).bind(tenant.0).bind(id.0).execute(executor).await.map(|done| done.rows_affected())
    });
    Ok(removed.during("take an invitation back")? == 1)
}
