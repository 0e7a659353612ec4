//! The first account: until there is one, a token that works once and for a day lies in the data folder.

use std::path::Path;
use std::time::Duration;

use manifold_core::{Result, Secret};
use serde_json::json;
use tracing::{info, warn};

use crate::store::one_time::{self, Promise};
use crate::store::user;
use crate::{Identity, secret_file, session};

/// The file in the data folder.
const FILE: &str = "setup.token";
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Makes a token unless somebody has an account or the one in the file still works; the token, if this start made it. Each
/// process has its own: using one ends all of them.
pub async fn run(identity: &Identity, data_dir: &Path) -> Result<Option<Secret<String>>> {
    let (db, now) = (&identity.inner.db, identity.inner.clock.now());
    if user::has_users(db).await? {
        return Ok(None);
    }
    let path = data_dir.join(FILE);
    if let Some(token) = secret_file::read(&path)?
        && is_open(identity, &session::hash(token.expose())).await?
    {
        return Ok(None);
    }
    let token = session::one_time("mfs");
    let (hash, data) = (session::hash(token.expose()), json!({}));
    let promise = Promise { purpose: one_time::SETUP, hash, user: None, data, until: now.after(LIFETIME) };
    let written = db.write("make a setup token", move |tx| {
        let promise = promise.clone();
        Box::pin(async move { one_time::insert(tx, &promise).await })
    });
    written.await?;
    secret_file::replace(&path, token.expose())?;
    info!(file = %path.display(), "nobody has an account yet; the token for the first one is here, for a day");
    Ok(Some(token))
}

/// Whether this is the hash of the token that works.
pub async fn is_open(identity: &Identity, hash: &[u8]) -> Result<bool> {
    let found = one_time::find(&identity.inner.db, one_time::SETUP, hash, identity.inner.clock.now()).await?;
    Ok(found.is_some())
}

/// The first account is made: the token is of no use any more.
pub fn done(identity: &Identity) {
    let path = identity.inner.data_dir.join(FILE);
    if path.exists()
        && let Err(error) = secret_file::remove(&path)
    {
        warn!(%error, "cannot remove the used setup token");
    }
}
