//! A NATS server of its own for each test, which can be killed and whose files can be exchanged. Other crates include this
//! file by its path.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// A server, running or not; its address stays the same.
pub struct Nats {
    folder: TempDir,
    port: u16,
    running: Option<Child>,
}

impl Nats {
    /// A server without streams.
    pub async fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = port.expect("a free port").port();
        let mut nats = Self { folder: tempfile::tempdir().expect("a temporary folder"), port, running: None };
        nats.resume().await;
        nats
    }

    /// For `BrokerConfig`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Starts it again, with the files that are there, unless it runs.
    pub async fn resume(&mut self) {
        if self.running.is_some() {
            return;
        }
        let settings = self.folder.path().join("nats.conf");
        let text = format!(
            "host: 127.0.0.1\nport: {}\njetstream {{ store_dir: {:?}, max_mem: 16MB, max_file: 1GB }}\n",
            self.port,
            self.files()
        );
        std::fs::write(&settings, text).expect("a configuration");
        let program =
            ["/usr/sbin/nats-server", "/usr/local/bin/nats-server"].into_iter().find(|path| Path::new(path).exists());
        let mut command = Command::new(program.unwrap_or("nats-server"));
        let log = std::fs::File::create(self.folder.path().join("log")).expect("a log");
        let child = command.arg("-c").arg(settings).stdout(Stdio::null()).stderr(log).stdin(Stdio::null()).spawn();
        self.running = Some(child.expect("nats-server is not there: apt-get install nats-server"));
        let listens = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), listens).await.expect("the NATS server listens");
    }

    /// Ends it without warning.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.running.take() {
            child.kill().and_then(|()| child.wait()).expect("the NATS server ends");
        }
    }

    /// Ends it in order: its files are complete.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.running.take() {
            let asked = Command::new("kill").arg(child.id().to_string()).status();
            assert!(asked.is_ok_and(|status| status.success()), "the NATS server can be asked to end");
            child.wait().expect("the NATS server ends");
        }
    }

    /// Where it keeps streams.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("streams")
    }

    /// A copy of its files. It should not run.
    pub fn copy(&self) -> TempDir {
        let copy = tempfile::tempdir().expect("a temporary folder");
        copy_files(&self.files(), copy.path());
        copy
    }

    /// Puts a copy in the place of its files, or of that part of them.
    pub fn restore(&self, copy: &TempDir, part: &str) {
        let (from, to) = (copy.path().join(part), self.files().join(part));
        let _ = std::fs::remove_dir_all(&to);
        copy_files(&from, &to);
    }

    /// Takes all its files away.
    pub fn forget(&self) {
        std::fs::remove_dir_all(self.files()).expect("the files of the NATS server can be removed");
    }
}

fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    let copied = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "{} can be copied", from.display());
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}
