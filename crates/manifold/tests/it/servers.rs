//! Postgres and Redis of a story's own, which it stops, freezes and starts again with their data.

mod small;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::program::{fixed_port, until};
pub use small::SmallPostgres;

/// A server that keeps its port and its files. Dropping it kills it.
pub struct Daemon {
    command: Command,
    running: Option<Child>,
}

impl Daemon {
    fn new(mut command: Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { command, running: None }
    }

    fn spawn(&mut self) -> Result<()> {
        let child = self.command.spawn();
        self.running = Some(child.with_context(|| format!("start {:?}", self.command.get_program()))?);
        Ok(())
    }

    /// Its number.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.running.as_ref().context("a server that runs")?.id())
    }

    /// Ends it with this signal.
    fn end(&mut self, signal: &str) -> Result<()> {
        if let Some(mut child) = self.running.take() {
            send(signal, &[child.id()])?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.running {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Sends a signal to processes.
pub fn send(signal: &str, processes: &[u32]) -> Result<()> {
    let sent = Command::new("kill").arg("-s").arg(signal).args(processes.iter().map(u32::to_string)).status()?;
    ensure!(sent.success(), "SIG{signal} could not be sent to {processes:?}");
    Ok(())
}

/// A Redis that keeps what it was told.
pub struct Redis {
    daemon: Daemon,
    port: u16,
    _folder: TempDir,
}

impl Redis {
    /// An empty one.
    pub async fn start() -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, fixed_port()?);
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "yes"]);
        command.arg("--dir").arg(folder.path());
        let mut redis = Self { daemon: Daemon::new(command), port, _folder: folder };
        redis.resume().await?;
        Ok(redis)
    }

    /// For `cache.redis_url`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it without warning.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.end("KILL")
    }

    /// Starts it with what it had.
    pub async fn resume(&mut self) -> Result<()> {
        self.daemon.spawn()?;
        let address = ("127.0.0.1", self.port);
        until("Redis listens", async || Ok(tokio::net::TcpStream::connect(address).await.is_ok())).await
    }
}

/// A Postgres server whose commits survive its end.
pub struct Postgres {
    daemon: Daemon,
    port: u16,
    folder: TempDir,
}

impl Postgres {
    /// An empty one.
    pub async fn start() -> Result<Self> {
        let mut postgres = Self::prepare(|postgres, _| Ok(postgres))?;
        postgres.resume().await?;
        Ok(postgres)
    }

    /// Makes its files. `wrap` says how it is started, given its folder.
    fn prepare(wrap: impl FnOnce(Command, &Path) -> Result<Command>) -> Result<Self> {
        let (folder, port) = (tempfile::tempdir()?, fixed_port()?);
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777))?;
        let data = folder.path().join("data");
        let mut initdb = as_postgres("initdb")?;
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
        let made = initdb.current_dir(folder.path()).output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut command = as_postgres("postgres")?;
        command.arg("-D").arg(&data).args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories=", "-c", "fsync=off"]);
        let mut command = wrap(command, folder.path())?;
        command.current_dir(folder.path());
        Ok(Self { daemon: Daemon::new(command), port, folder })
    }

    /// For `store.url`.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Ends it without a checkpoint, as a crash does.
    pub fn crash(&mut self) -> Result<()> {
        self.daemon.end("QUIT")
    }

    /// Starts it with its data.
    pub async fn resume(&mut self) -> Result<()> {
        self.daemon.spawn()?;
        until("Postgres answers", async || Ok(PgConnection::connect(&self.url()).await?.close().await.is_ok())).await
    }

    /// Stops all its processes where they are: connections stay, and nobody answers.
    pub fn freeze(&self) -> Result<()> {
        // First the one that would start others.
        send("STOP", &[self.daemon.pid()?])?;
        send("STOP", &self.children()?)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<()> {
        send("CONT", &self.children()?)?;
        send("CONT", &[self.daemon.pid()?])
    }

    fn children(&self) -> Result<Vec<u32>> {
        let pid = self.daemon.pid()?;
        let listed = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        listed.split_whitespace().map(|child| child.parse().context("a number of a process")).collect()
    }
}

/// A program of Postgres, which refuses to run as root.
fn as_postgres(program: &str) -> Result<Command> {
    let program = bin()?.join(program);
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(Command::new(program));
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    Ok(command)
}

/// The folder of the programs of the newest Postgres on this machine.
fn bin() -> Result<PathBuf> {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut homes: Vec<_> = packaged.map(|version| version.path().join("bin")).collect();
    // `/usr/lib/postgresql/9/bin` before `/usr/lib/postgresql/15/bin`.
    homes.sort_by_key(|home| (home.as_os_str().len(), home.clone()));
    let others = ["/usr/local/bin", "/usr/bin"].map(PathBuf::from);
    let found = others.into_iter().chain(homes).rfind(|home| home.join("initdb").exists());
    found.context("Postgres is not there: apt-get install postgresql")
}
