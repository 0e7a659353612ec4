//! A process stands still with a job in its hands, until its lease has run out and another one has done the job. Then it goes
//! on, and changes nothing.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use manifold_bus::{NewJob, Running, State, Worker};
use manifold_core::Clock;
use serde_json::json;

use super::kill::{itself, place};
use super::shop::{KIND, Shop, effect, first, job, progress};
use crate::consumer::eventually;
use crate::house::TENANT;
use crate::scratch::Scratch;

const TEST: &str = "job::frozen::a_worker_that_stood_still_while_its_lease_ran_out_changes_nothing";
/// So long that the process is stopped before it first says that it goes on.
const LEASE: Duration = Duration::from_secs(3);

fn worker() -> Worker {
    Worker { lease: LEASE, ..Worker::new(KIND, 1) }
}

#[tokio::test]
async fn a_worker_that_stood_still_while_its_lease_ran_out_changes_nothing() {
    if work_as_told().await {
        return;
    }
    let scratch = Scratch::postgres().await;
    let mut shop = Shop::open_with(scratch.location(), Clock::system()).await;
    let id = shop.enqueue(job()).await;
    let mut process = Process(itself(scratch.location(), TEST).stdin(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(process.0.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line == "began"), "it has the job");

    process.signal("STOP");
    // It finds this when it goes on, and writes at once.
    process.0.stdin.as_mut().unwrap().write_all(b"go on\n").unwrap();
    eventually(async || shop.count("SELECT lease_until FROM job").await < shop.clock.now().micros()).await;
    let other = shop.work(worker(), |running: Running| async move {
        let went_on_from = first(&running);
        running.finish(json!(went_on_from), effect("second")).await
    });
    let done = shop.until(id, |job| job.state == State::Succeeded).await;
    other.abort();
    process.signal("CONT");
    // Whoever takes this has put the other one away.
    let next = shop.enqueue(NewJob { args: json!("next"), ..job() }).await;
    let last = shop.until(next, |job| job.state == State::Succeeded).await;
    drop(process);

    let told: Vec<_> = lines.filter(|line| line.starts_with("late")).collect();
    assert!(told.iter().all(|line| line == "late: JOB_LEASE_LOST"), "{told:?}");
    let after = shop.jobs.get(TENANT, id).await.unwrap();
    assert_eq!((after.result, after.fence, after.done, after.error), (Some(json!(1)), 2, 1, None));
    assert_eq!((after.finished_at, after.n_attempts), (done.finished_at, done.n_attempts));
    assert_eq!((last.fence, shop.effects().await), (1, ["first", "next", "second"].map(str::to_owned).to_vec()));
}

/// Killed at the end, whether it stands still or not.
struct Process(Child);

impl Process {
    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success(), "SIG{name} could not be sent");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// Works until it is killed, if this is the process that is to stand still.
async fn work_as_told() -> bool {
    let Some(location) = place() else { return false };
    let mut shop = Shop::open_with(&location, Clock::system()).await;
    shop.work(worker(), |mut running: Running| async move {
        if running.job().args == json!("next") {
            return running.finish(json!(null), effect("next")).await;
        }
        running.step(progress(1, 2), effect("first")).await?;
        tell("began");
        let told = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        told.await.unwrap().unwrap();
        if let Err(error) = running.step(progress(9, 9), effect("late")).await {
            tell(&format!("late: {}", error.reason()));
        }
        running.finish(json!("late"), effect("late, too")).await
    });
    std::future::pending().await
}

#[expect(clippy::print_stderr, reason = "the other process hears of it")]
fn tell(what: &str) {
    eprintln!("{what}");
}
