//! A disk that is soon full, with a database of Postgres on it. The disk is a small file system in memory, which only the server
//! sees and which ends with it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::Postgres;

/// Room for an empty database, and some more.
const SIZE: &str = "size=32m,mode=700";
/// What is left when the disk is nearly full: room for some hundred rows.
const LEFT: u64 = 256 << 10;
/// Mounts on `$0` with the options `$1` for the owner of the folder beside it, and becomes the rest.
const MOUNT: &str = r#"mount -t tmpfs -o "$1" tmpfs "$0" && chown --reference="$0/../data" "$0" && shift && exec "$@""#;

/// A Postgres server with a database on a disk of its own.
pub struct SmallPostgres {
    /// The database on the small disk.
    pub url: String,
    postgres: Postgres,
}

impl SmallPostgres {
    /// None where nothing can be mounted, as in most containers.
    pub async fn start() -> Result<Option<Self>> {
        let mount = |disk: &Path| {
            let mut command = unshare()?;
            command.args(["sh", "-c", MOUNT]).arg(disk).arg(SIZE);
            Ok::<_, anyhow::Error>(command)
        };
        let probe = tempfile::tempdir()?;
        for folder in ["data", "disk"] {
            std::fs::create_dir(probe.path().join(folder))?;
        }
        if !mount(&probe.path().join("disk"))?.arg("true").output()?.status.success() {
            return Ok(None);
        }
        let mut postgres = Postgres::prepare(|server, folder| {
            std::fs::create_dir(folder.join("disk"))?;
            let mut command = mount(&folder.join("disk"))?;
            command.arg(server.get_program()).args(server.get_args());
            Ok(command)
        })?;
        postgres.resume().await?;
        let mut connection = PgConnection::connect(&postgres.url()).await?;
        let disk = postgres.folder.path().join("disk");
        let space = format!("CREATE TABLESPACE small LOCATION '{}'", disk.display());
        connection.execute(AssertSqlSafe(space)).await?;
        connection.execute("CREATE DATABASE small TABLESPACE small").await?;
        connection.close().await?;
        let url = format!("{}small", postgres.url().trim_end_matches("postgres"));
        Ok(Some(Self { url, postgres }))
    }

    /// Fills the disk nearly up.
    pub fn fill(&self) -> Result<()> {
        let mut ballast = File::create(self.ballast()?)?;
        let piece = [0; 64 << 10];
        while ballast.write_all(&piece).is_ok() {}
        let length = ballast.metadata()?.len();
        Ok(ballast.set_len(length.saturating_sub(LEFT))?)
    }

    /// Makes room again.
    pub fn clear(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.ballast()?)?)
    }

    /// A file on the disk, as the server sees it.
    fn ballast(&self) -> Result<PathBuf> {
        let disk = self.postgres.folder.path().join("disk");
        let root = PathBuf::from(format!("/proc/{}/root", self.postgres.daemon.pid()?));
        Ok(root.join(disk.strip_prefix("/")?).join("ballast"))
    }
}

/// Gives a process a view of the file systems of its own.
fn unshare() -> Result<Command> {
    let mut command = Command::new("unshare");
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    command.arg("--mount");
    Ok(command)
}
