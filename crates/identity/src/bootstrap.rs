//! The first start: on an empty database the tenant `default` and one admin key. The key is the configured one or a
//! random one; nothing has a default credential.
//!
//! The key's file is written before the database knows the key: whoever is killed in between finds the file at the next
//! start and takes its key. Of several processes that start at once one inserts the tenant, and its key is the only one.

use std::path::Path;
use std::sync::Arc;

use manifold_core::{Code, Error, Result, Secret, TenantId};
use tracing::info;

use crate::key::format::{self, Environment, parse_key};
use crate::key::terms::Terms;
use crate::key::{Maker, NewKey, generate_key};
use crate::origin::{HOUSE, Origin};
use crate::secret_file::{self, Outcome};
use crate::store::key::{NewRow, insert_key};
use crate::store::system;
use crate::store::tenant::{self, NewTenant};
use crate::{Identity, events};

/// The file in the data folder.
const FILE: &str = "admin.key";
/// The first tenant.
const TENANT: &str = "default";

/// Makes tenant and key on an empty database; the key, if this process made it.
pub async fn run(
    identity: &Identity,
    data_dir: &Path,
    configured: Option<&Secret<String>>,
) -> Result<Option<Secret<String>>> {
    if system::has_tenants(&identity.inner.db).await? {
        return Ok(None);
    }
    let path = data_dir.join(FILE);
    let (key, outcome) = match configured {
        Some(key) => (key.clone(), write_configured(&path, key)?),
        None => write_random(&path)?,
    };
    let row = admin_row(identity, &key)?;
    let lookup = row.secret.lookup;
    if insert(identity, row).await? {
        info!(file = %path.display(), "made the first tenant and its admin key");
        return Ok(Some(key));
    }
    // Another process was faster. If the file is ours alone, nobody knows its key.
    if outcome == Outcome::Created && !system::has_lookup(&identity.inner.db, lookup).await? {
        secret_file::remove(&path)?;
    }
    Ok(None)
}

/// Puts the configured key into the file, whatever it held.
fn write_configured(path: &Path, key: &Secret<String>) -> Result<Outcome> {
    if parse_key(key.expose()).is_none() {
        let message = "MANIFOLD_BOOTSTRAP__ADMIN_KEY is not a valid API key: make one with `manifold keys generate`";
        return Err(Error::invalid("ADMIN_KEY_INVALID", message).at("bootstrap.admin_key"));
    }
    let outcome = secret_file::create(path, key.expose())?;
    if outcome == Outcome::Existed {
        secret_file::replace(path, key.expose())?;
    }
    Ok(outcome)
}

/// Puts a random key into the file, or takes the one that is there.
fn write_random(path: &Path) -> Result<(Secret<String>, Outcome)> {
    let key = generate_key(Environment::Live);
    if secret_file::create(path, key.expose())? == Outcome::Created {
        return Ok((key, Outcome::Created));
    }
    let existing = secret_file::read(path)?.filter(|text| parse_key(text.expose()).is_some());
    existing.map(|key| (key, Outcome::Existed)).ok_or_else(|| {
        let message = format!("{} does not hold a valid API key: remove it, and a new one is made", path.display());
        Error::new(Code::Precondition, "ADMIN_KEY_INVALID", message)
    })
}

fn admin_row(identity: &Identity, key: &Secret<String>) -> Result<NewRow> {
    let environment = parse_key(key.expose()).map_or(Environment::Live, |parsed| parsed.environment);
    let new = NewKey {
        name: "admin".to_owned(),
        environment,
        permissions: vec!["*".to_owned()],
        expires_at: None,
        terms: Terms::default(),
        canary: false,
        idempotency_key: None,
    };
    let maker =
        Maker { tenant: TenantId(identity.inner.ids.next()), name: HOUSE.to_owned(), at: identity.inner.clock.now() };
    identity.new_row(new, key, maker)
}

/// Inserts tenant, key and event in one transaction. False if another process was faster.
async fn insert(identity: &Identity, row: NewRow) -> Result<bool> {
    let origin = Origin::of_house(&identity.inner.ids, row.tenant);
    let environment = Environment::parse(row.environment).unwrap_or(Environment::Live);
    let event = events::key_created(&row, &format::prefix(environment, row.secret.lookup));
    let work = Arc::new((row, event, identity.inner.outbox.clone(), origin));
    identity
        .inner
        .db
        .write("make the first tenant", move |tx| {
            let work = Arc::clone(&work);
            Box::pin(async move {
                let (row, event, outbox, origin) = &*work;
                let first =
                    NewTenant { id: row.tenant, slug: TENANT.to_owned(), name: TENANT.to_owned(), at: row.created_at };
                if !tenant::insert(tx, &first).await? {
                    return Ok(false);
                }
                insert_key(tx, row).await?;
                outbox.append(tx, std::slice::from_ref(event), &origin.cause()).await?;
                Ok(true)
            })
        })
        .await
}
