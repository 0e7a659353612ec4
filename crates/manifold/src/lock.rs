//! One process per data folder: two writers of the same SQLite files would be a mistake of the operator.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use manifold_core::{Code, Error, Result, ResultExt};

/// What to do about a folder that cannot be used.
pub const ELSEWHERE: &str = "set data_dir or --data-dir";

/// Held while the process runs; the operating system releases it however the process ends.
pub struct DataLock {
    _file: File,
}

impl DataLock {
    /// Creates the folder if absent and takes its lock. Names the other process if there is one, and says `remedy` then.
    pub fn take(folder: &Path, remedy: &str) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|source| refused(folder, "cannot be created", ELSEWHERE).because(source))?;
        let path = folder.join("manifold.lock");
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = opened.map_err(|source| refused(folder, "cannot be written to", ELSEWHERE).because(source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).or_err(Code::Internal, "read the lock of the data folder")?;
                let used = format!("is used by the running process {}", holder.trim());
                return Err(refused(folder, &used, remedy));
            }
            Err(TryLockError::Error(source)) => {
                return Err(refused(folder, "cannot be locked", ELSEWHERE).because(source));
            }
        }
        file.set_len(0).or_err(Code::Internal, "write the lock of the data folder")?;
        file.rewind().or_err(Code::Internal, "write the lock of the data folder")?;
        write!(file, "{}", std::process::id()).or_err(Code::Internal, "write the lock of the data folder")?;
        Ok(Self { _file: file })
    }
}

fn refused(folder: &Path, what: &str, remedy: &str) -> Error {
    let message = format!("the data folder {} {what}; {remedy}", folder.display());
    Error::new(Code::Invalid, "DATA_DIR_INVALID", message).at("data_dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_refused_with_the_number_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let held = DataLock::take(folder.path(), ELSEWHERE).unwrap();

        let error = DataLock::take(folder.path(), ELSEWHERE).err().unwrap();

        assert!(error.message().contains(&std::process::id().to_string()), "{error}");
        drop(held);
        assert!(DataLock::take(folder.path(), ELSEWHERE).is_ok());
    }
}
