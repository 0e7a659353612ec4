//! The throw-away Redis of the tests, and processes that count on it.

use std::net::SocketAddr;
use std::time::Duration;

use manifold_cache::{Limiter, Policy, Redis, Shared};
use manifold_core::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub const REPLICAS: u32 = 3;

/// `redis://127.0.0.1:PORT`
pub fn url() -> String {
    setting("MANIFOLD_TEST_REDIS")
        .expect("MANIFOLD_TEST_REDIS is not set: run `make test`, which starts a Redis for the tests")
}

#[expect(clippy::disallowed_methods, reason = "the settings of the tests")]
pub fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A name that no other test has.
pub fn name(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::new_v4().simple())
}

/// What a process has: a connection and a limiter of its own.
pub struct Process {
    pub redis: Redis,
    pub limiter: Limiter,
}

impl Process {
    /// One that waits for Redis as long as it takes on a busy machine, unless it is reached through a network.
    pub async fn at(url: &str) -> Self {
        let patience = if url == self::url() { Duration::from_secs(20) } else { Duration::from_millis(500) };
        let redis = Redis::new(&Secret::from(url), patience).unwrap();
        redis.refresh().await.unwrap();
        let shared = Shared { redis: redis.clone(), replicas: REPLICAS };
        Self { redis, limiter: Limiter::new(1_000, Some(shared)) }
    }
}

/// Three of them.
pub async fn processes(url: &str) -> Vec<Process> {
    let mut processes = Vec::new();
    for _ in 0..REPLICAS {
        processes.push(Process::at(url).await);
    }
    processes
}

/// How many more than the policy allows its bound lets pass.
pub fn slack(policy: &Policy) -> u64 {
    u64::from(REPLICAS) * policy.max_lease(REPLICAS)
}

/// A network between a process and Redis that can fall silent: nothing is refused, nothing arrives.
pub struct Network {
    address: SocketAddr,
    whole: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Network {
    pub async fn start() -> Self {
        let server = url().trim_start_matches("redis://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (whole, watched) = watch::channel(true);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                connections.spawn(pass(client, server, watched.clone()));
            }
        });
        Self { address, whole, _tasks: tasks }
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    pub fn silence(&self) {
        self.whole.send_replace(false);
    }

    /// What was on its way arrives late.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, mut whole: watch::Receiver<bool>) {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let passed = tokio::select! {
            n = client.read(&mut up) => forward(n, &up, &mut server, &mut whole).await,
            n = server.read(&mut down) => forward(n, &down, &mut client, &mut whole).await,
        };
        if passed.is_none() {
            return;
        }
    }
}

async fn forward(
    n: std::io::Result<usize>,
    bytes: &[u8],
    to: &mut TcpStream,
    whole: &mut watch::Receiver<bool>,
) -> Option<()> {
    let n = n.ok().filter(|n| *n > 0)?;
    whole.wait_for(|whole| *whole).await.ok()?;
    to.write_all(&bytes[..n]).await.ok()
}
