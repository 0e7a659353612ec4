//! The file in the data folder that says where its data went. With it in place nobody writes into the SQLite files.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use manifold_core::{Code, Error, Result};
use uuid::Uuid;

const FILE: &str = "moved-to-postgres";

/// Where data went, and by which move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// `postgres://user@host:port/database`.
    pub(crate) place: String,
    pub(crate) id: Uuid,
}

impl fmt::Display for Stamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.place, self.id)
    }
}

/// Refuses a folder whose data was moved.
pub(crate) fn check(folder: &Path) -> Result<()> {
    read(folder)?.map_or(Ok(()), |stamp| Err(refusal(folder, &stamp)))
}

/// Why these files are not opened, and what to do instead.
pub(crate) fn refusal(folder: &Path, stamp: &Stamp) -> Error {
    let (place, file) = (&stamp.place, folder.join(FILE));
    let message = format!(
        "the data of {} was moved to {place}: set store.url to it; if `manifold migrate` did not tell its end, \
         run it again first, it finds out; to go back to the SQLite files, which lack what was \
         written since then, delete {}",
        folder.display(),
        file.display()
    );
    Error::new(Code::Precondition, "DATA_MOVED", message)
}

/// The stamp of the move that these files went through.
pub(crate) fn read(folder: &Path) -> Result<Option<Stamp>> {
    let path = folder.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed("read", &path, source)),
    };
    let (place, id) = text.lines().next().unwrap_or_default().rsplit_once(' ').unwrap_or((&text, ""));
    // A file that somebody else wrote is a marker, too; its move is none that could be found.
    Ok(Some(Stamp { place: place.trim().to_owned(), id: Uuid::parse_str(id).unwrap_or_default() }))
}

/// Puts the marker in place, durably.
pub(crate) fn write(folder: &Path, stamp: &Stamp) -> Result<()> {
    let path = folder.join(FILE);
    let text = format!(
        "{stamp}\nThe data of this folder was moved there by `manifold migrate`. Delete this file to go back to the SQLite \
         files beside it: they hold nothing of what was written since then.\n"
    );
    let new = path.with_extension("new");
    let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    let renamed = written.and_then(|()| fs::rename(&new, &path)).and_then(|()| File::open(folder)?.sync_all());
    renamed.map_err(|source| failed("write", &path, source))
}

fn failed(action: &str, path: &Path, source: io::Error) -> Error {
    Error::new(Code::Precondition, "FAILED_PRECONDITION", format!("cannot {action} {}: {source}", path.display()))
        .because(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_folder_is_refused_with_the_place_and_the_way_back() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = Stamp { place: "postgres://ana@db:5432/manifold".to_owned(), id: Uuid::from_u128(7) };

        let before = check(folder.path());
        write(folder.path(), &stamp).unwrap();
        let refused = check(folder.path()).unwrap_err();
        let found = read(folder.path()).unwrap();
        fs::remove_file(folder.path().join(FILE)).unwrap();

        assert!(before.is_ok() && check(folder.path()).is_ok());
        assert_eq!(found, Some(stamp.clone()));
        assert_eq!(refused.reason(), "DATA_MOVED");
        for word in [stamp.place.as_str(), "store.url", "delete", "moved-to-postgres"] {
            assert!(refused.message().contains(word), "{word} is missing in {refused}");
        }
    }

    #[test]
    fn a_marker_in_other_words_is_a_marker_too() {
        let folder = tempfile::tempdir().unwrap();

        for text in ["", "by hand", "postgres://db/manifold"] {
            fs::write(folder.path().join(FILE), text).unwrap();

            assert_eq!(check(folder.path()).unwrap_err().reason(), "DATA_MOVED", "{text:?}");
        }
    }
}
