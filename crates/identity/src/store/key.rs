//! SQL of `api_key` and `api_key_secret`.

use manifold_core::{KeyId, OwnerId, Result, TenantId, Timestamp};
use manifold_store::{Db, Micros, SqlResultExt, Tx, on};
use serde_json::{Map, Value};
use sqlx::types::Json;
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use crate::key::DAY;
use crate::key::credit::Refill;
use crate::key::format::Lookup;
use crate::key::pepper::Hash;
use crate::key::restriction::Restrictions;
use crate::key::terms::Terms;
use crate::store::rotation::schedule;

/// A key to insert, with its first secret.
pub struct NewRow {
    /// The key.
    pub id: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What a person calls it.
    pub name: String,
    /// `live` or `test`.
    pub environment: &'static str,
    /// Granted permissions.
    pub grants: Vec<String>,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// On which terms it works.
    pub terms: Terms,
    /// When credits are filled up next.
    pub refill_at: Option<Timestamp>,
    /// Whether nobody should ever use it.
    pub canary: bool,
    /// Who made it.
    pub created_by: String,
    /// Now.
    pub created_at: Timestamp,
    /// Its first secret.
    pub secret: NewSecret,
}

/// A secret to insert.
pub struct NewSecret {
    /// How it is found.
    pub lookup: Lookup,
    /// What is kept of the secret.
    pub hash: Hash,
    /// The pepper's version.
    pub pepper_id: i32,
}

/// A key as people see it.
#[derive(Debug, FromRow)]
pub struct KeyRow {
    /// The key.
    pub id: Uuid,
    /// What a person calls it.
    pub name: String,
    /// `live` or `test`.
    pub environment: String,
    /// Granted permissions.
    pub grants: Json<Vec<String>>,
    /// `active`, `disabled` or `revoked`.
    pub state: String,
    /// Printed id of its maker.
    pub created_by: String,
    /// From where and for what it may be used.
    pub restrictions: Json<Restrictions>,
    /// What its holder wants to remember with it.
    pub metadata: Json<Map<String, Value>>,
    /// How many calls it has left.
    pub credits: Option<i64>,
    /// How they are filled up.
    pub refill: Option<Json<Refill>>,
    /// When next.
    pub refill_at: Option<Micros>,
    /// When it was made.
    #[sqlx(try_from = "Micros")]
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Micros>,
    /// When it was last used.
    pub last_used_at: Option<Micros>,
    /// When it was revoked.
    pub revoked_at: Option<Micros>,
    /// How many days a secret of it shall live at most.
    pub rotate_days: Option<i32>,
    /// For whom it is.
    pub owner_id: Option<Uuid>,
    /// Whether nobody should ever use it.
    pub canary: bool,
    /// The lookup of its newest secret.
    pub lookup: String,
    /// When that secret was made.
    #[sqlx(try_from = "Micros")]
    pub secret_created_at: Timestamp,
    /// When that secret was first used.
    pub secret_used_at: Option<Micros>,
    /// The lookup of the secret that it replaces.
    pub old_lookup: Option<String>,
    /// When that one ends.
    pub old_expires_at: Option<Micros>,
    /// When that one was last used.
    pub old_used_at: Option<Micros>,
}

impl KeyRow {
    /// When its secret should be replaced.
    pub fn due_at(&self) -> Option<Timestamp> {
        let days = u32::try_from(self.rotate_days?).ok()?;
        Some(self.secret_created_at.after(DAY * days))
    }

    /// On which terms it works.
    pub fn terms(&self) -> Terms {
        Terms {
            restrictions: self.restrictions.0.clone(),
            metadata: self.metadata.0.clone(),
            credits: self.credits,
            refill: self.refill.as_ref().map(|refill| refill.0),
            rotate_every: self.rotate_days.and_then(|days| days.try_into().ok()),
            owner: self.owner_id.map(OwnerId),
        }
    }
}

/// What of a key can be changed.
#[derive(Clone, PartialEq)]
pub struct Changed {
    /// What a person calls it.
    pub name: String,
    /// Granted permissions.
    pub permissions: Vec<String>,
    /// `active` or `disabled`.
    pub state: &'static str,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// On which terms it works.
    pub terms: Terms,
    /// When credits are filled up next.
    pub refill_at: Option<Timestamp>,
}

/// All that deciding about a presented key needs.
#[derive(FromRow)]
pub struct Credential {
    /// What is kept of the secret.
    pub hash: Vec<u8>,
    /// The pepper's version.
    pub pepper_id: i32,
    /// `current`, `previous` or `revoked`.
    pub secret_state: String,
    /// When the secret ends.
    pub secret_expires_at: Option<Micros>,
    /// The key.
    pub id: Uuid,
    /// Whose it is.
    pub tenant_id: Uuid,
    /// `live` or `test`.
    pub environment: String,
    /// Granted permissions.
    pub grants: Json<Vec<String>>,
    /// From where and for what it may be used.
    pub restrictions: Json<Restrictions>,
    /// How many calls it has left.
    pub credits: Option<i64>,
    /// For whom it is.
    pub owner_id: Option<Uuid>,
    /// State of the key.
    pub state: String,
    /// Whether nobody should ever use it.
    pub canary: bool,
    /// When the key ends.
    pub expires_at: Option<Micros>,
    /// When it was revoked.
    pub revoked_at: Option<Micros>,
    /// State of the tenant.
    pub tenant_state: String,
}

/// When a key was used.
#[derive(Clone, Copy, Debug)]
pub struct LastUse {
    /// By which secret.
    pub lookup: Lookup,
    /// The key.
    pub key: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// When.
    pub at: Timestamp,
}

/// One text of the columns of [`KeyRow`]. A revoked key has no current secret: the last one stands for it.
macro_rules! select_keys {
    ($rest:literal) => {
        concat!(
            "SELECT k.id, k.name, k.environment, k.grants, k.state, k.restrictions, k.metadata, k.credits, k.refill, k.refill_at, k.rotate_days, k.owner_id, ",
            "k.created_at, k.expires_at, k.last_used_at, k.revoked_at, k.created_by, ",
            "k.canary, s.lookup, s.created_at AS secret_created_at, s.first_used_at AS secret_used_at, ",
            "p.lookup AS old_lookup, p.expires_at AS old_expires_at, p.last_used_at AS old_used_at ",
            "FROM api_key k JOIN api_key_secret s ON s.lookup = (SELECT n.lookup FROM api_key_secret n WHERE n.key_id = k.id ",
            "ORDER BY CASE n.state WHEN 'current' THEN 0 ELSE 1 END, n.created_at DESC, n.lookup LIMIT 1) ",
            "LEFT JOIN api_key_secret p ON p.key_id = k.id AND p.state = 'previous' WHERE k.tenant_id = $1 AND ",
            $rest
        )
    };
}

/// Inserts a key and its secret.
pub async fn insert_key(tx: &mut Tx<'_>, row: &NewRow) -> Result<()> {
    let key = "INSERT INTO api_key (id, tenant_id, name, environment, grants, limits, state, canary, expires_at, created_by, \
               created_at, restrictions, metadata, credits, refill, refill_at, rotate_days, owner_id) \
               VALUES ($1, $2, $3, $4, $5, $6, 'active', $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";
    let terms = &row.terms;
    on!(tx, |executor| {
        let query = sqlx::query(key).bind(row.id.0).bind(row.tenant.0).bind(&row.name).bind(row.environment);
        let query = query.bind(Json(&row.grants)).bind(Json(Map::new())).bind(row.canary);
        let query =
            query.bind(row.expires_at.map(Micros::from)).bind(&row.created_by).bind(Micros::from(row.created_at));
        let query = query.bind(Json(&terms.restrictions)).bind(Json(&terms.metadata)).bind(terms.credits);
        let query = query.bind(terms.refill.map(Json)).bind(row.refill_at.map(Micros::from));
        let query = query.bind(terms.rotate_every.map(i32::from)).bind(terms.owner.map(|owner| owner.0));
        query.execute(executor).await.map(|_| ())
    })
    .during("insert an API key")?;
    insert_secret(tx, row.tenant, row.id, &row.secret, row.created_at).await?;
    schedule(tx, row.tenant, row.id).await
}

/// Inserts the secret by which a tenant's key is used from now on.
pub async fn insert_secret(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    key: KeyId,
    secret: &NewSecret,
    at: Timestamp,
) -> Result<()> {
    let sql = "INSERT INTO api_key_secret (lookup, key_id, hash, pepper_id, state, created_at) \
               SELECT $3, id, $4, $5, 'current', $6 FROM api_key WHERE tenant_id = $1 AND id = $2";
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(key.0).bind(secret.lookup.as_str());
        let query = query.bind(secret.hash.as_slice()).bind(secret.pepper_id).bind(Micros::from(at));
        query.execute(executor).await.map(|_| ())
    })
    .during("insert the secret of an API key")
}

/// A page of a tenant's keys, newest first: at most `limit` with ids below `before`.
pub async fn list_keys(db: &Db, tenant: TenantId, before: Uuid, limit: i64) -> Result<Vec<KeyRow>> {
    let sql = select_keys!("k.id < $2 ORDER BY k.id DESC LIMIT $3");
    on!(db, |executor| { sqlx::query_as(sql).bind(tenant.0).bind(before).bind(limit).fetch_all(executor).await })
        .during("list API keys")
}

/// A tenant's key.
pub async fn find_key(db: &Db, tenant: TenantId, id: KeyId) -> Result<Option<KeyRow>> {
    let sql = select_keys!("k.id = $2");
    on!(db, |executor| sqlx::query_as(sql).bind(tenant.0).bind(id.0).fetch_optional(executor).await)
        .during("find an API key")
}

/// The same inside a command.
pub async fn find_key_in(tx: &mut Tx<'_>, tenant: TenantId, id: KeyId) -> Result<Option<KeyRow>> {
    let sql = select_keys!("k.id = $2");
    on!(tx, |executor| sqlx::query_as(sql).bind(tenant.0).bind(id.0).fetch_optional(executor).await)
        .during("find an API key")
}

/// Changes a tenant's key. Who has credits is not exhausted any more.
pub async fn update_key(tx: &mut Tx<'_>, tenant: TenantId, id: KeyId, after: &Changed) -> Result<()> {
    let sql = "UPDATE api_key SET name = $3, grants = $4, state = $5, expires_at = $6, restrictions = $7, metadata = $8, \
               credits = $9, refill = $10, refill_at = $11, rotate_days = $12, owner_id = $13, \
               exhausted_at = CASE WHEN COALESCE($9, 1) > 0 THEN NULL ELSE exhausted_at END \
               WHERE tenant_id = $1 AND id = $2";
    let terms = &after.terms;
    on!(tx, |executor| {
        let query = sqlx::query(sql).bind(tenant.0).bind(id.0).bind(&after.name).bind(Json(&after.permissions));
        let query = query.bind(after.state).bind(after.expires_at.map(Micros::from)).bind(Json(&terms.restrictions));
        let query = query.bind(Json(&terms.metadata)).bind(terms.credits).bind(terms.refill.map(Json));
        let query = query.bind(after.refill_at.map(Micros::from)).bind(terms.rotate_every.map(i32::from));
        query.bind(terms.owner.map(|owner| owner.0)).execute(executor).await.map(|_| ())
    })
    .during("change an API key")
}

/// Revokes a key and its secrets. False if the tenant has no such key or it was revoked before.
pub async fn revoke_key(tx: &mut Tx<'_>, tenant: TenantId, id: KeyId, at: Timestamp) -> Result<bool> {
    let key = "UPDATE api_key SET state = 'revoked', revoked_at = $3 \
               WHERE tenant_id = $1 AND id = $2 AND state <> 'revoked'";
    let changed = on!(tx, |executor| {
        let query = sqlx::query(key).bind(tenant.0).bind(id.0).bind(Micros::from(at));
        query.execute(executor).await.map(|done| done.rows_affected())
    });
    if changed.during("revoke an API key")? == 0 {
        return Ok(false);
    }
    let secrets = "UPDATE api_key_secret SET state = 'revoked', warn_at = NULL \
                   WHERE key_id IN (SELECT id FROM api_key WHERE tenant_id = $1 AND id = $2)";
    on!(tx, |executor| sqlx::query(secrets).bind(tenant.0).bind(id.0).execute(executor).await.map(|_| ()))
        .during("revoke the secrets of an API key")?;
    Ok(true)
}

/// The key to which a presented secret belongs, whoever's it is.
pub async fn find_credential(db: &Db, lookup: Lookup) -> Result<Option<Credential>> {
    let sql = "SELECT s.hash, s.pepper_id, s.state AS secret_state, s.expires_at AS secret_expires_at, k.id, k.tenant_id, k.canary, k.revoked_at, \
               k.environment, k.grants, k.restrictions, k.credits, k.owner_id, k.state, k.expires_at, t.state AS tenant_state \
               FROM api_key_secret s JOIN api_key k ON k.id = s.key_id JOIN tenant t ON t.id = k.tenant_id \
               WHERE s.lookup = $1";
    on!(db, |executor| sqlx::query_as(sql).bind(lookup.as_str()).fetch_optional(executor).await)
        .during("look an API key up")
}

/// Writes down when keys were used, and, of new secrets and those that shall go, when they were, in two statements.
pub async fn update_last_used(tx: &mut Tx<'_>, uses: &[LastUse]) -> Result<()> {
    let keys = ") UPDATE api_key SET last_used_at = used.at \
                FROM (SELECT tenant_id, id, MAX(at) AS at FROM uses GROUP BY tenant_id, id) AS used \
                WHERE api_key.tenant_id = used.tenant_id AND api_key.id = used.id \
                AND (api_key.last_used_at IS NULL OR api_key.last_used_at < used.at)";
    let secrets = ") UPDATE api_key_secret SET first_used_at = COALESCE(first_used_at, uses.at), last_used_at = uses.at \
                   FROM uses WHERE api_key_secret.lookup = uses.lookup \
                   AND (api_key_secret.first_used_at IS NULL OR api_key_secret.state = 'previous')";
    for update in [keys, secrets] {
        on!(tx, |executor| {
            let mut query = QueryBuilder::new("WITH uses (lookup, tenant_id, id, at) AS (");
            query.push_values(uses, |mut row, used| {
                row.push_bind(used.lookup.as_str().to_owned()).push_bind(used.tenant.0);
                row.push_bind(used.key.0).push_bind(Micros::from(used.at));
            });
            // The text depends on the number of keys: not worth a place among the prepared statements.
            query.push(update).build().persistent(false).execute(executor).await.map(|_| ())
        })
        .during("write down when API keys were used")?;
    }
    Ok(())
}
