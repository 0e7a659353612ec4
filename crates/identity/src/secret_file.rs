//! Files in the data folder that hold a secret: only their owner reads them, they appear whole or not at all, and their
//! name is durable before anybody relies on it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use manifold_core::{Code, Error, Result, Secret, encode_id};
use uuid::Uuid;

/// Whether [`create`] made the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did not exist before.
    Created,
    /// It was there, and is as it was.
    Existed,
}

/// Makes the file unless it exists; of several processes that try, one succeeds.
pub fn create(path: &Path, content: &str) -> Result<Outcome> {
    let temporary = write_beside(path, content).map_err(|source| failed("write", path, source))?;
    let linked = fs::hard_link(&temporary, path);
    let removed = fs::remove_file(&temporary);
    match linked {
        Ok(()) => {
            removed.and_then(|()| sync_folder(path)).map_err(|source| failed("write", path, source))?;
            Ok(Outcome::Created)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Outcome::Existed),
        Err(source) => Err(failed("write", path, source)),
    }
}

/// Makes the file or puts the content in its place.
pub fn replace(path: &Path, content: &str) -> Result<()> {
    let written = write_beside(path, content).and_then(|temporary| fs::rename(temporary, path));
    written.and_then(|()| sync_folder(path)).map_err(|source| failed("write", path, source))
}

/// What the file holds, without the line end; None if there is no file.
pub fn read(path: &Path) -> Result<Option<Secret<String>>> {
    match fs::read_to_string(path).map(Secret::new) {
        Ok(content) => Ok(Some(Secret::from(content.expose().trim()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed("read", path, source)),
    }
}

/// Removes the file.
pub fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|source| failed("remove", path, source))
}

/// Writes a whole, durable file under a name of its own in the same folder.
fn write_beside(path: &Path, content: &str) -> io::Result<PathBuf> {
    let temporary = path.with_extension(encode_id("new", Uuid::new_v4()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(content.as_bytes()).and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all())?;
    Ok(temporary)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

fn failed(action: &str, path: &Path, source: io::Error) -> Error {
    Error::new(Code::Precondition, "SECRET_FILE", format!("cannot {action} {}: {source}", path.display()))
        .because(source)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_owner_reads_a_new_file_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.key");

        let outcome = create(&path, "secret").unwrap();

        assert_eq!(outcome, Outcome::Created);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_exists_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.key");
        create(&path, "first").unwrap();

        let outcome = create(&path, "second").unwrap();

        assert_eq!(outcome, Outcome::Existed);
        assert_eq!(read(&path).unwrap().unwrap().expose(), "first");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn replacing_leaves_one_private_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.key");
        fs::write(&path, "for everybody").unwrap();

        replace(&path, "second").unwrap();

        assert_eq!(read(&path).unwrap().unwrap().expose(), "second");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_missing_file_is_none_and_a_missing_folder_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("absent").join("admin.key");

        let error = create(&path, "secret").unwrap_err();

        assert!(read(&path).unwrap().is_none());
        assert!(error.message().contains("absent/admin.key"), "{error}");
    }
}
