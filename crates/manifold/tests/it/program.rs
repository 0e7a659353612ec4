//! The program as a process: a folder of its own, settings by environment, output in files, and every kind of end.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use manifold_testkit::{Client, Upstream};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// A model of the provider that plays a part in most stories.
pub const MODEL: &str = "groq/llama-3.1-8b-instant";
/// What the mesh of a story knows.
pub const SECRET: &str = "process-mesh-secret";

const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// What processes are started with. Clones share the folder.
#[derive(Clone)]
pub struct Program {
    folder: Arc<TempDir>,
    variables: BTreeMap<String, String>,
    starts: Arc<AtomicU32>,
    file_size_kib: Option<u32>,
}

/// A command that came to its end.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// A server that runs. It keeps the folder; dropping it kills it.
pub struct Server {
    child: Child,
    out: PathBuf,
    err: PathBuf,
    data: PathBuf,
    _folder: Arc<TempDir>,
}

impl Program {
    /// A folder of its own, and ports that nobody else has.
    pub fn new() -> Result<Self> {
        let program = Self {
            folder: Arc::new(tempfile::tempdir()?),
            variables: BTreeMap::new(),
            starts: Arc::default(),
            file_size_kib: None,
        };
        let data = program.data().display().to_string();
        let program = program.set("data_dir", data).set("edge.listen", "127.0.0.1:0");
        Ok(program.set("management.listen", "127.0.0.1:0").set("grpc.listen", "127.0.0.1:0"))
    }

    /// Sets one setting, named as in the configuration file.
    pub fn set(self, key: &str, value: impl Into<String>) -> Self {
        self.variable(&format!("MANIFOLD_{}", key.replace('.', "__").to_ascii_uppercase()), value)
    }

    /// Sets any variable.
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(name.to_owned(), value.into());
        self
    }

    /// Lets Groq be played by `upstream`.
    pub fn groq(self, upstream: &Upstream) -> Self {
        let base_url = format!("http://{}/v1", upstream.address);
        self.set("ai.providers.groq.base_url", base_url).set("ai.providers.groq.api_key", "gsk_canary_provider_key")
    }

    /// No file of the process may grow beyond this: a full disk for whoever writes a database.
    pub fn limit_files(mut self, kib: u32) -> Self {
        self.file_size_kib = Some(kib);
        self
    }

    /// Where everything of the story lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_manifold");
        let mut command = match self.file_size_kib {
            None => Command::new(program),
            Some(kib) => {
                let mut shell = Command::new("bash");
                shell.arg("-c").arg(format!("trap '' XFSZ; ulimit -S -f {kib}; exec \"$0\" \"$@\"")).arg(program);
                shell
            }
        };
        command.args(arguments).env_clear().env("PATH", path()).envs(&self.variables);
        command.current_dir(self.folder()).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Result<Done> {
        self.feed(arguments, "").await
    }

    /// Runs a command that reads this from its standard input.
    pub async fn feed(&self, arguments: &[&str], input: &str) -> Result<Done> {
        let mut command = self.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut stdin = child.stdin.take().context("a standard input")?;
        let fed = async {
            // Who does not read it may end before.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
            child.wait_with_output().await
        };
        let output = timeout(PATIENCE, fed).await.with_context(|| format!("{arguments:?} does not end"))??;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().context("an exit code, not a signal")?;
        Ok(Done { code, out: text(&output.stdout), err: text(&output.stderr) })
    }

    /// Begins a command that somebody else ends.
    pub fn begin(&self, arguments: &[&str]) -> Result<Child> {
        Ok(self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    /// Starts a server and returns before it has done anything.
    pub fn spawn(&self, arguments: &[&str]) -> Result<Server> {
        let n = self.starts.fetch_add(1, Ordering::Relaxed);
        let file = |name: &str| self.folder().join(format!("{name}-{n}.txt"));
        let (out, err) = (file("out"), file("err"));
        let mut command = self.command(&[&["serve"], arguments].concat());
        let child = command.stdout(File::create(&out)?).stderr(File::create(&err)?).spawn()?;
        Ok(Server { child, out, err, data: self.data(), _folder: self.folder.clone() })
    }

    /// Starts some services and returns when they have greeted.
    pub async fn start(&self, services: &str) -> Result<Server> {
        let mut server = self.spawn(&["--services", services])?;
        server.greeted("mesh     ").await?;
        Ok(server)
    }

    /// Starts everything and returns when it is ready.
    pub async fn serve(&self) -> Result<Server> {
        let mut server = self.spawn(&[])?;
        server.greeted("metrics  ").await?;
        server.ready().await?;
        Ok(server)
    }

    /// Settings with which commands find `server`.
    pub fn beside(&self, server: &Server) -> Result<Self> {
        Ok(self.clone().set("edge.listen", server.public()?.to_string()))
    }
}

impl Server {
    /// What it printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.err).unwrap_or_default()
    }

    /// The number of the process.
    pub fn pid(&self) -> Result<u32> {
        self.child.id().context("a process that runs")
    }

    /// The public door.
    pub fn public(&self) -> Result<SocketAddr> {
        self.printed("manifold is ready at http://")
    }

    /// Probes and metrics.
    pub fn management(&self) -> Result<SocketAddr> {
        self.printed("metrics  http://")
    }

    /// Where other processes call.
    pub fn grpc(&self) -> Result<SocketAddr> {
        self.printed("mesh     ")
    }

    fn printed(&self, before: &str) -> Result<SocketAddr> {
        let output = self.output();
        let rest = output.split_once(before).with_context(|| format!("{before:?} in {output:?}"))?.1;
        let end = rest.find(|letter: char| letter == '/' || letter.is_whitespace()).unwrap_or(rest.len());
        rest[..end].parse().context("an address")
    }

    /// The door, with this key.
    pub fn client(&self, key: Option<&str>) -> Result<Client> {
        Ok(Client::new(self.public()?, key))
    }

    /// The door, with the admin key of the data folder.
    pub fn admin(&self) -> Result<Client> {
        self.client(Some(admin_key(&self.data)?.as_str()))
    }

    /// A client of probes and metrics.
    pub fn operator(&self) -> Result<Client> {
        Ok(Client::new(self.management()?, None))
    }

    /// Waits until it has printed the line that says `last`.
    async fn greeted(&mut self, last: &str) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.output().split_once(last).is_some_and(|(_, rest)| rest.contains('\n')) {
            if let Some(status) = self.child.try_wait()? {
                bail!("ended with {status} instead of starting:\n{}", self.log());
            }
            if Instant::now() > end {
                bail!("does not greet:\n{}", self.log());
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Waits until `/readyz` answers 200.
    pub async fn ready(&mut self) -> Result<()> {
        let operator = self.operator()?;
        until("it is ready", async || Ok(operator.get("/readyz").await?.status == 200)).await
    }

    /// SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Any other signal, by its name.
    pub async fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -s {name} {}", self.pid()?)).status().await?;
        anyhow::ensure!(sent.success(), "SIG{name} could not be sent");
        Ok(())
    }

    /// Waits for its end and returns its exit code.
    pub async fn ended(&mut self) -> Result<i32> {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status.with_context(|| format!("it does not end:\n{}", self.log()))??;
        status.code().with_context(|| format!("an exit code instead of {status}"))
    }

    /// SIGTERM and a clean end.
    pub async fn stop(&mut self) -> Result<()> {
        self.signal("TERM").await?;
        let code = self.ended().await?;
        anyhow::ensure!(code == 0, "ended with {code}:\n{}", self.log());
        Ok(())
    }
}

/// Where shells and tools are.
#[expect(clippy::disallowed_methods, reason = "the processes of a story get nothing else from the test's environment")]
fn path() -> String {
    std::env::var("PATH").unwrap_or_default()
}

/// The admin key of a data folder.
pub fn admin_key(data: &Path) -> Result<String> {
    let file = data.join("admin.key");
    Ok(std::fs::read_to_string(&file).with_context(|| file.display().to_string())?.trim().to_owned())
}

/// Asks again until the answer is yes.
pub async fn until(what: &str, asked: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    until_within(PATIENCE, what, asked).await
}

/// Asks again for so long.
pub async fn until_within(patience: Duration, what: &str, mut asked: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + patience;
    loop {
        match asked().await {
            Ok(true) => return Ok(()),
            Ok(false) if Instant::now() > end => bail!("waited in vain until {what}"),
            Err(error) if Instant::now() > end => return Err(error.context(format!("waited in vain until {what}"))),
            Ok(false) | Err(_) => sleep(POLL).await,
        }
    }
}

/// A port for a process that has to come back on it: none that the system hands out to others meanwhile.
pub fn fixed_port() -> Result<u16> {
    static N: AtomicU32 = AtomicU32::new(0);
    // Another one each time, because nobody listens on the last one yet.
    let first = 20_000 + u16::try_from((std::process::id() + N.fetch_add(1, Ordering::Relaxed)) % 10_000)?;
    let free = (first..32_000).chain(12_000..20_000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.context("a free port")
}
