//! Processes that charge one key as fast as they can: this program again, with the same test in it.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use manifold_cache::{Algorithm, Decision, Mode, OnStoreFailure, Policy, Window};
use manifold_core::Clock;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::server::{Process, REPLICAS, name, setting};

/// What the processes are told.
const ORDER: &str = "MANIFOLD_TEST_CROWD";
/// Requests at once, per process.
const AT_ONCE: u64 = 16;
/// How often a process looks whether Redis is back.
const LOOK: Duration = Duration::from_millis(250);
/// So long that no window ends meanwhile.
pub const WINDOW: Duration = Duration::from_secs(300 * 24 * 3_600);

/// How requests are counted.
#[derive(Clone, Copy, Debug)]
pub enum Counted {
    Gcra,
    Sliding,
    Fixed,
    /// In months of the calendar.
    Month,
}

impl Counted {
    pub fn policy(self, name: String, quota: u64, mode: Mode) -> Policy {
        let window = if matches!(self, Self::Month) { Window::Month } else { WINDOW.into() };
        let policy = Policy::new(name, quota, window, None).unwrap();
        let policy = match self {
            Self::Gcra | Self::Month => policy,
            Self::Sliding => policy.counted(Algorithm::Sliding).unwrap(),
            Self::Fixed => policy.counted(Algorithm::Fixed).unwrap(),
        };
        policy.shared(mode, OnStoreFailure::Deny)
    }

    fn parse(text: &str) -> Self {
        let all = [Self::Gcra, Self::Sliding, Self::Fixed, Self::Month];
        all.into_iter().find(|counted| format!("{counted:?}") == text).unwrap()
    }
}

/// What a crowd does.
#[derive(Clone, Copy)]
pub struct Order<'o> {
    pub url: &'o str,
    pub quota: u64,
    pub mode: Mode,
    pub counted: Counted,
    /// Decisions in all.
    pub requests: u64,
}

/// Processes at work. Dropping it kills them.
pub struct Crowd {
    processes: Vec<Child>,
    outputs: Vec<BufReader<ChildStdout>>,
}

impl Crowd {
    /// Starts them with the name of the test that starts them.
    pub fn start(test: &str, order: Order<'_>) -> Self {
        let Order { url, quota, mode, counted, requests } = order;
        let order = format!("{} {url} {quota} {mode:?} {counted:?} {}", name("crowd"), requests / u64::from(REPLICAS));
        let process = |_| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", test, "--nocapture"]).env(ORDER, &order);
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
        };
        let mut processes: Vec<_> = (0..REPLICAS).map(process).collect();
        let outputs = processes.iter_mut().map(|process| BufReader::new(process.stdout.take().unwrap())).collect();
        Self { processes, outputs }
    }

    /// Waits until all of them are at work.
    pub async fn working(&mut self) {
        self.outputs = tokio::task::block_in_place(|| {
            let outputs = self.outputs.drain(..);
            outputs.map(|mut output| said(&mut output, "working").map(|_| output).unwrap()).collect()
        });
    }

    /// Waits for their end; how many requests were admitted by all of them together, and how many each of them tried in vain
    /// because nobody counted.
    pub async fn end(mut self) -> (u64, Vec<u64>) {
        let words: Vec<_> = tokio::task::block_in_place(|| {
            let outputs = self.outputs.iter_mut();
            outputs.map(|output| said(output, "admitted ").expect("it comes to its end")).collect()
        });
        let counts = words.iter().map(|words| words.split_once(" in vain ").unwrap());
        let counts: Vec<(u64, u64)> = counts.map(|(n, vain)| (n.parse().unwrap(), vain.parse().unwrap())).collect();
        (counts.iter().map(|count| count.0).sum(), counts.iter().map(|count| count.1).collect())
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill().and_then(|()| process.wait());
        }
    }
}

/// Waits for a line that begins so; the rest of it.
fn said(output: &mut BufReader<ChildStdout>, begin: &str) -> Option<String> {
    let mut lines = output.lines().map_while(Result::ok);
    lines.find_map(|line| line.strip_prefix(begin).map(str::to_owned))
}

/// Does its part, if this is one of the processes.
#[expect(clippy::print_stdout, reason = "who has started this process adds up")]
pub async fn work_as_told() -> bool {
    let Some(order) = setting(ORDER) else { return false };
    let words: Vec<_> = order.split(' ').collect();
    let [name, url, quota, mode, counted, requests] = words[..] else { panic!("{order}") };
    let mode = if mode == "Leased" { Mode::Leased } else { Mode::Strict };
    let policy = Arc::new(Counted::parse(counted).policy(name.to_owned(), quota.parse().unwrap(), mode));
    let process = Arc::new(Process::at(url).await);
    let (mut crowd, each) = (JoinSet::new(), requests.parse::<u64>().unwrap().div_ceil(AT_ONCE));
    let (mut looks, looking) = (JoinSet::new(), process.clone());
    looks.spawn(async move {
        loop {
            sleep(LOOK).await;
            let _ = looking.redis.refresh().await;
        }
    });
    // The name of the test stands on the same line.
    println!("\nworking");
    for _ in 0..AT_ONCE {
        crowd.spawn(caller(process.clone(), policy.clone(), each));
    }
    let counts = crowd.join_all().await;
    let (admitted, vain) = counts.into_iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    println!("admitted {admitted} in vain {vain}");
    true
}

/// Charges until so many requests were decided; how many were admitted, and how many could not be counted.
async fn caller(process: Arc<Process>, policy: Arc<Policy>, requests: u64) -> (u64, u64) {
    let (clock, mut decided, mut admitted, mut vain) = (Clock::system(), 0, 0, 0);
    while decided < requests {
        match process.limiter.charge(&policy, 7, 1, clock.now()).await {
            Ok(charge) => {
                decided += 1;
                admitted += u64::from(matches!(charge.decision, Decision::Admitted { .. }));
            }
            Err(_) => {
                vain += 1;
                sleep(Duration::from_millis(5)).await;
            }
        }
    }
    (admitted, vain)
}
