//! Master keys: where they come from, and that they are those which sealed this database. What they seal is random and
//! never derived from them, so that changing the master key invalidates nothing.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use manifold_core::{Code, Error, Result, ResultExt, Secret, Timestamp};
use manifold_store::Db;
use tracing::info;

use super::envelope::{self, KeyBytes, Label};
use crate::hex::to_hex;
use crate::store::system::SystemKey;
use crate::store::vault::{self as store, MasterRow};
use crate::{random, secret_file};

/// The file in the data folder that is used unless others are configured, and its name in the database.
const FILE: (&str, &str) = ("k1", "master.key");
/// What a check blob holds, sealed. The associated data is `mfc1|<master id>`.
const CHECK: &[u8] = b"manifold master key";

/// A configured master key.
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// How the database calls it.
    pub id: String,
    /// Where it is.
    pub source: MasterSource,
}

/// Where a master key is: 64 hexadecimal digits.
#[derive(Clone, Debug)]
pub enum MasterSource {
    /// In a file.
    File(PathBuf),
    /// In this environment variable, which holds this.
    Variable(String, Option<Secret<String>>),
}

/// The configured master keys, by id.
pub struct Masters {
    keys: BTreeMap<String, Master>,
}

struct Master {
    config: MasterKey,
    key: KeyBytes,
}

impl Masters {
    /// Reads the configured keys and checks them against the database, whose system keys are `sealed`. On an empty database
    /// the first one is made, unless it is there; of several processes that try at once, one succeeds and the others use
    /// its key.
    ///
    /// # Errors
    /// `MASTER_KEY_MISSING`, `MASTER_KEY_INVALID`, `MASTER_KEY_WRONG`, with the key, its place and the remedy.
    pub async fn open(db: &Db, configured: &[MasterKey], sealed: &[SystemKey], now: Timestamp) -> Result<Self> {
        let known = store::list_masters(db).await?;
        if let Some(MasterKey { source: MasterSource::File(path), .. }) = configured.first()
            && known.is_empty()
            && sealed.is_empty()
        {
            create(path)?;
        }
        let mut keys = BTreeMap::new();
        for config in configured {
            let master = Master { key: read(config)?, config: config.clone() };
            keys.insert(config.id.clone(), master);
        }
        let masters = Self { keys };
        let known = match known.is_empty() {
            true => masters.introduce(db, configured, sealed, now).await?,
            false => known,
        };
        masters.check(&known)?;
        Ok(masters)
    }

    /// Makes the first key of a database known to it. One that is older than check blobs tells by what it sealed.
    async fn introduce(
        &self,
        db: &Db,
        configured: &[MasterKey],
        sealed: &[SystemKey],
        now: Timestamp,
    ) -> Result<Vec<MasterRow>> {
        for key in sealed {
            self.unwrap(&key.wrapped, Label::of(key))?;
        }
        let first = sealed.first().map(|key| &key.master_id).or(configured.first().map(|config| &config.id));
        if let Some(first) = first {
            let row = self.new_row(first, now)?;
            db.write("introduce a master key", move |tx| {
                let row = row.clone();
                Box::pin(async move { store::insert_master(tx, &row).await })
            })
            .await?;
        }
        store::list_masters(db).await
    }

    /// The row by which a database knows a configured key.
    pub fn new_row(&self, id: &str, now: Timestamp) -> Result<MasterRow> {
        let check_blob = envelope::seal(self.get(id)?, CHECK, random::bytes(), context(id).as_bytes());
        Ok(MasterRow { id: id.to_owned(), check_blob, state: "active".to_owned(), created_at: now })
    }

    /// Refuses keys that are not those of the database, and that one which it still needs is not configured.
    pub(super) fn check(&self, known: &[MasterRow]) -> Result<()> {
        for row in known {
            let Some(master) = self.keys.get(&row.id) else {
                if row.state == "retired" {
                    continue;
                }
                return Err(not_configured(&row.id));
            };
            if envelope::open(&master.key, &row.check_blob, context(&row.id).as_bytes()).is_none() {
                return Err(master.config.is_wrong());
            }
        }
        Ok(())
    }

    fn get(&self, id: &str) -> Result<&KeyBytes> {
        self.keys.get(id).map(|master| &master.key).ok_or_else(|| not_configured(id))
    }

    /// Seals a key under the master key that the label names.
    pub fn wrap(&self, key: &KeyBytes, label: Label<'_>) -> Result<Vec<u8>> {
        Ok(envelope::wrap(self.get(label.master_id)?, key, random::bytes(), label))
    }

    /// Opens a key that was sealed under the master key that the label names.
    pub fn unwrap(&self, wrapped: &[u8], label: Label<'_>) -> Result<KeyBytes> {
        let Some(master) = self.keys.get(label.master_id) else { return Err(not_configured(label.master_id)) };
        envelope::unwrap(&master.key, wrapped, label).ok_or_else(|| master.config.is_wrong())
    }
}

impl MasterKey {
    /// The key that is used unless others are configured.
    pub fn of_folder(data_dir: &Path) -> Self {
        Self { id: FILE.0.to_owned(), source: MasterSource::File(data_dir.join(FILE.1)) }
    }

    fn is_wrong(&self) -> Error {
        refused("MASTER_KEY_WRONG", &format!("{self} is not the one that sealed this database"))
    }
}

impl fmt::Display for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            MasterSource::File(path) => write!(formatter, "the master key {} in {}", self.id, path.display()),
            MasterSource::Variable(name, _) => write!(formatter, "the master key {} in the variable {name}", self.id),
        }
    }
}

/// Makes a key unless there is one.
fn create(path: &Path) -> Result<()> {
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.or_err(Code::Precondition, "create the folder of the master key")?;
    }
    let key: KeyBytes = Secret::new(random::bytes());
    let outcome = secret_file::create(path, Secret::new(to_hex(key.expose())).expose())?;
    if outcome == secret_file::Outcome::Created {
        info!(file = %path.display(), "made a new master key; back it up, without it nothing that it seals can be opened");
    }
    Ok(())
}

fn read(config: &MasterKey) -> Result<KeyBytes> {
    let text = match &config.source {
        MasterSource::File(path) => secret_file::read(path)?,
        MasterSource::Variable(_, text) => text.clone(),
    };
    let Some(text) = text else {
        return Err(refused("MASTER_KEY_MISSING", &format!("{config} is missing")));
    };
    let malformed = || refused("MASTER_KEY_INVALID", &format!("{config} is not 64 hexadecimal digits"));
    from_hex(text.expose().trim()).ok_or_else(malformed)
}

fn not_configured(id: &str) -> Error {
    let what = format!("this database is sealed under the master key {id}, which is not among identity.master_keys");
    refused("MASTER_KEY_MISSING", &what)
}

fn refused(reason: &'static str, what: &str) -> Error {
    let remedy = "restore it from the backup, or copy it from another instance on the same database";
    Error::new(Code::Precondition, reason, format!("{what}: {remedy}"))
}

fn context(id: &str) -> String {
    format!("mfc1|{id}")
}

fn from_hex(text: &str) -> Option<KeyBytes> {
    if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[index * 2..index * 2 + 2], 16).ok()?;
    }
    Some(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_goes_both_ways() {
        let key: [u8; 32] = std::array::from_fn(|index| (index * 8) as u8);

        let text = to_hex(&key);

        assert_eq!(from_hex(&text).unwrap().expose(), &key);
        assert!(from_hex(&text[1..]).is_none());
        assert!(from_hex(&text.replace('f', "g")).is_none());
        assert!(from_hex(&"+f".repeat(32)).is_none());
    }

    #[test]
    fn a_new_master_key_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let config = MasterKey::of_folder(&folder.path().join("data"));
        let MasterSource::File(path) = &config.source else { unreachable!("it is a file") };

        create(path).unwrap();
        let first = read(&config).unwrap();
        create(path).unwrap();

        assert_eq!(read(&config).unwrap().expose(), first.expose());
    }

    #[test]
    fn a_missing_or_spoilt_key_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = MasterKey::of_folder(folder.path());
        let variable = |text: Option<&str>| MasterKey {
            id: "k2".to_owned(),
            source: MasterSource::Variable("VAULT_K2".to_owned(), text.map(Secret::from)),
        };

        let missing = [read(&file), read(&variable(None))];
        std::fs::write(folder.path().join("master.key"), "not a key").unwrap();
        let spoilt = [read(&file), read(&variable(Some("")))];

        for (outcomes, reason) in [(missing, "MASTER_KEY_MISSING"), (spoilt, "MASTER_KEY_INVALID")] {
            for (outcome, place) in outcomes.into_iter().zip(["k1 in", "k2 in the variable VAULT_K2"]) {
                let error = outcome.err().unwrap();
                assert_eq!(error.reason(), reason);
                assert!(error.message().contains(place) && error.message().contains("backup"), "{error}");
            }
        }
    }
}
