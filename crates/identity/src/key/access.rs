//! Whose keys a caller sees and changes, and what the restrictions of a key that calls mean for what it hands out.

use manifold_core::{Code, Error, KeyId, Principal, Result};
use manifold_store::Tx;

use super::format::Environment;
use super::terms::Terms;
use super::{READ, WRITE, not_found};
use crate::store::key::{self as store, KeyRow};
use crate::store::rotation;

/// Refuses callers who have the permission for other keys only. A key that they may not even see is none.
pub fn check_sight(caller: &Principal, row: &KeyRow, permission: &'static str) -> Result<()> {
    let own = if *row.created_by == *caller.subject { "own" } else { "" };
    let thing = [own, label(&row.environment)];
    if !caller.allows_on(READ, &thing) {
        return Err(not_found());
    }
    caller.require_on(permission, &thing)
}

/// What grants call an environment.
pub fn label(environment: &str) -> &'static str {
    if environment == Environment::Test.name() { "env:test" } else { "env:live" }
}

/// The key of a caller who may change it: who changes a key, or takes a secret of it, must hold all that it may do. Until the
/// transaction ends nobody else changes it.
pub async fn govern(tx: &mut Tx<'_>, caller: &Principal, id: KeyId) -> Result<KeyRow> {
    rotation::lock_key(tx, caller.tenant, id).await?;
    let row = store::find_key_in(tx, caller.tenant, id).await?.ok_or_else(not_found)?;
    check_sight(caller, &row, WRITE)?;
    if row.state == "revoked" {
        return Err(Error::new(Code::Conflict, "KEY_REVOKED", "a revoked key stays as it is: make a new one"));
    }
    let above = row.environment == Environment::Live.name() && &*caller.environment == Environment::Test.name();
    if above || !row.grants.0.iter().all(|grant| caller.covers(grant)) {
        return Err(Error::new(Code::Denied, "ESCALATION", "this key may do what the caller may not"));
    }
    // Its secret, or another limit of it, would be given to who may use less of it.
    if caller.key != Some(id) {
        check_restrictions(tx, caller, &row.terms()).await?;
    }
    Ok(row)
}

/// Refuses terms that are wider than those of the key that calls. Its restrictions hold for whatever it hands out, and keys of
/// its owner share limits, which nobody gets rid of by another key.
///
/// # Errors
/// `ESCALATION`.
pub async fn check_restrictions(tx: &mut Tx<'_>, caller: &Principal, given: &Terms) -> Result<()> {
    let Some(own) = own_terms(tx, caller).await? else { return Ok(()) };
    if !own.restrictions.covers(&given.restrictions) {
        let message = "the key that calls is restricted, and what it hands out is restricted as much";
        return Err(Error::new(Code::Denied, "ESCALATION", message).at("restrictions"));
    }
    if own.owner.is_some() && own.owner != given.owner {
        let message = "the key that calls has an owner, who has what it hands out as well";
        return Err(Error::new(Code::Denied, "ESCALATION", message).at("owner"));
    }
    Ok(())
}

/// Refuses restricted keys: people and roles have no restrictions.
///
/// # Errors
/// `ESCALATION`.
pub async fn refuse_restricted(tx: &mut Tx<'_>, caller: &Principal) -> Result<()> {
    match own_terms(tx, caller).await? {
        Some(own) if !own.restrictions.is_none() => {
            let message = "a restricted key has no power over people, roles and tenants";
            Err(Error::new(Code::Denied, "ESCALATION", message))
        }
        _ => Ok(()),
    }
}

/// Those of the key that calls; None if it is none.
async fn own_terms(tx: &mut Tx<'_>, caller: &Principal) -> Result<Option<Terms>> {
    let Some(id) = caller.key else { return Ok(None) };
    let row = store::find_key_in(tx, caller.tenant, id).await?.ok_or_else(not_found)?;
    Ok(Some(row.terms()))
}
