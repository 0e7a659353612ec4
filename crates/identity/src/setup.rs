//! The first account: until there is one, a token that works once and for a day lies in the data folder.

use std::path::Path;
use std::time::Duration;

use manifold_core::{Result, Secret};
use tracing::{info, warn};

use crate::store::user as store;
use crate::{Identity, secret_file, session};

/// The file in the data folder.
const FILE: &str = "setup.token";
const LIFETIME: Duration = Duration::from_secs(24 * 3_600);

/// Makes a token unless somebody has an account or the one in the file still works; the token, if this start made it. Each
/// process has its own: using one ends all of them.
pub async fn run(identity: &Identity, data_dir: &Path) -> Result<Option<Secret<String>>> {
    let (db, now) = (&identity.inner.db, identity.inner.clock.now());
    if store::has_users(db).await? {
        return Ok(None);
    }
    let path = data_dir.join(FILE);
    if let Some(token) = secret_file::read(&path)?
        && is_open(identity, &session::hash(token.expose())).await?
    {
        return Ok(None);
    }
    let token = session::one_time("mfs");
    let hash = session::hash(token.expose());
    let written = db.write("make a setup token", move |tx| {
        let hash = hash.clone();
        Box::pin(async move { store::insert_setup(tx, &hash, now.after(LIFETIME)).await })
    });
    written.await?;
    secret_file::replace(&path, token.expose())?;
    info!(file = %path.display(), "nobody has an account yet; the token for the first one is here, for a day");
    Ok(Some(token))
}

/// Whether this is the hash of the token that works.
pub async fn is_open(identity: &Identity, hash: &[u8]) -> Result<bool> {
    store::is_setup(&identity.inner.db, hash, identity.inner.clock.now()).await
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
