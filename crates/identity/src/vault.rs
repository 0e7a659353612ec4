//! The master key in the data folder and the system keys that it seals. A system key is random and never derived from
//! the master key, so that changing the master key invalidates nothing.

pub mod envelope;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use manifold_core::{Code, Error, Result, ResultExt, Secret};
use manifold_store::Db;
use tracing::info;

use crate::store::system::{self, SystemKey};
use crate::{random, secret_file};
use envelope::{KeyBytes, Label};

/// The file in the data folder.
const FILE: &str = "master.key";
/// The only master key there is so far.
const MASTER_ID: &str = "k1";

/// A master key and where it came from.
struct Master {
    path: PathBuf,
    key: KeyBytes,
}

/// All versions of the system key `name`, opened. On an empty database the master key and the first version are made;
/// of several processes that try at once, one succeeds and the others use its key.
pub async fn open_system_key(db: &Db, data_dir: &Path, name: &'static str) -> Result<Vec<(i32, KeyBytes)>> {
    let path = data_dir.join(FILE);
    let stored = system::list_system_keys(db).await?;
    let master = if stored.is_empty() { create_master(path)? } else { load_master(path)? };
    let stored = match stored.iter().any(|key| key.name == name) {
        true => stored,
        false => create_system_key(db, &master, name).await?,
    };
    let versions = stored.iter().filter(|key| key.name == name);
    versions.map(|key| Ok((key.version, master.open(key)?))).collect()
}

/// Seals a new system key, unless another process was faster; returns what is stored now.
async fn create_system_key(db: &Db, master: &Master, name: &'static str) -> Result<Vec<SystemKey>> {
    let label = Label { owner: name, version: 1, master_id: MASTER_ID };
    let wrapped = envelope::wrap(&master.key, &Secret::new(random::bytes()), random::bytes(), label);
    let key = SystemKey { name: name.to_owned(), version: 1, wrapped, master_id: MASTER_ID.to_owned() };
    db.write("create a system key", move |tx| {
        let key = key.clone();
        Box::pin(async move { system::insert_system_key(tx, &key).await })
    })
    .await?;
    system::list_system_keys(db).await
}

/// Reads the master key of a database without sealed keys, or makes one.
fn create_master(path: PathBuf) -> Result<Master> {
    if let Some(folder) = path.parent() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.or_err(Code::Precondition, "create the data folder")?;
    }
    let key: KeyBytes = Secret::new(random::bytes());
    let outcome = secret_file::create(&path, Secret::new(to_hex(key.expose())).expose())?;
    if outcome == secret_file::Outcome::Created {
        info!(file = %path.display(), "made a new master key; back it up, without it nothing that it seals can be opened");
    }
    load_master(path)
}

/// Reads the master key; a database with sealed keys is lost without it.
fn load_master(path: PathBuf) -> Result<Master> {
    let Some(text) = secret_file::read(&path)? else {
        return Err(wrong("MASTER_KEY_MISSING", &path, "is missing"));
    };
    match from_hex(text.expose()) {
        Some(key) => Ok(Master { path, key }),
        None => Err(wrong("MASTER_KEY_INVALID", &path, "does not hold 64 hexadecimal digits")),
    }
}

impl Master {
    fn open(&self, key: &SystemKey) -> Result<KeyBytes> {
        let label = Label { owner: &key.name, version: key.version, master_id: &key.master_id };
        envelope::unwrap(&self.key, &key.wrapped, label).ok_or_else(|| {
            let sealed = format!("is not the master key {} that sealed this database", key.master_id);
            wrong("MASTER_KEY_WRONG", &self.path, &sealed)
        })
    }
}

fn wrong(reason: &'static str, path: &Path, what: &str) -> Error {
    let remedy = "restore the file from the backup, or copy it from another instance on the same database";
    Error::new(Code::Precondition, reason, format!("{} {what}: {remedy}", path.display()))
}

fn to_hex(key: &[u8; 32]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = key.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    digits.map(char::from).collect()
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
        let path = folder.path().join("data").join(FILE);

        let first = create_master(path.clone()).unwrap();
        let second = create_master(path).unwrap();

        assert_eq!(first.key.expose(), second.key.expose());
    }

    #[test]
    fn a_missing_or_spoilt_file_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);

        let missing = load_master(path.clone()).err().unwrap();
        std::fs::write(&path, "not a key").unwrap();
        let spoilt = load_master(path).err().unwrap();

        assert_eq!((missing.reason(), spoilt.reason()), ("MASTER_KEY_MISSING", "MASTER_KEY_INVALID"));
        for error in [missing, spoilt] {
            assert!(error.message().contains("master.key") && error.message().contains("backup"), "{error}");
        }
    }
}
