//! A process with a job in the middle is killed again and again: every item is done once all the same.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use manifold_bus::{Running, State, Worker};
use manifold_core::{Secret, Timestamp};
use manifold_store::Location;
use serde_json::json;

use super::shop::{KIND, START, Shop, effect, first, job, progress};
use crate::house::TENANT;
use crate::scratch::Scratch;

const KILLS: u64 = 20;
const ITEMS: i64 = 200;
/// Where the process that is killed finds its database, and what time it is there.
const PLACE: &str = "MANIFOLD_TEST_JOBS_PLACE";
const TIME: &str = "MANIFOLD_TEST_JOBS_TIME";
/// The seed of a run that is to be repeated.
const SEED: &str = "MANIFOLD_TEST_SEED";

#[tokio::test]
async fn a_job_that_is_killed_again_and_again_does_every_item_once_on_sqlite() {
    if !work_as_told().await {
        let test = "job::kill::a_job_that_is_killed_again_and_again_does_every_item_once_on_sqlite";
        kill_again_and_again(&Scratch::sqlite(), test).await;
    }
}

#[tokio::test]
async fn a_job_that_is_killed_again_and_again_does_every_item_once_on_postgres() {
    if !work_as_told().await {
        let test = "job::kill::a_job_that_is_killed_again_and_again_does_every_item_once_on_postgres";
        kill_again_and_again(&Scratch::postgres().await, test).await;
    }
}

/// The process that is killed is this one with the same test in it.
async fn kill_again_and_again(scratch: &Scratch, test: &str) {
    let mut random = Random::new();
    let shop = Shop::open(scratch).await;
    let id = shop.enqueue(job()).await;
    drop(shop);

    for round in 1..=KILLS {
        let (n, wait) = (random.below(8) + 1, Duration::from_micros(random.below(3_000)));
        let mut process = command(scratch.location(), round, test).spawn().unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
        let n_seen = lines.filter(|line| line == "item").take(usize::try_from(n).unwrap()).count();
        std::thread::sleep(wait);
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(n_seen as u64, n, "it worked until it was killed in round {round}");
    }
    let ended = command(scratch.location(), KILLS + 1, test).stderr(Stdio::null()).status().unwrap();

    assert!(ended.success());
    let shop = Shop::open(scratch).await;
    let job = shop.jobs.get(TENANT, id).await.unwrap();
    let mut expected: Vec<_> = (0..ITEMS).map(|item| format!("{item:04}")).collect();
    expected.push("end".to_owned());
    assert_eq!(shop.effects().await, expected);
    assert_eq!((job.state, job.done), (State::Succeeded, ITEMS));
    assert_eq!(job.fence.unsigned_abs(), KILLS + 1, "each process took it over from the one before");
}

/// A process in which it is so late that the lease of the one before has run out.
fn command(location: &Location, round: u64, test: &str) -> Command {
    let now = START.after(Duration::from_secs(120 * round)).micros();
    let mut command = itself(location, test);
    command.env(TIME, now.to_string()).stdin(Stdio::null());
    command
}

/// A process that is this one with the same test in it, which finds its part by [`place`].
pub fn itself(location: &Location, test: &str) -> Command {
    let place = match location {
        Location::Sqlite { folder } => folder.display().to_string(),
        Location::Postgres { url } => url.expose().clone(),
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(PLACE, place);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Where the process that another one started finds its database.
pub fn place() -> Option<Location> {
    let place = setting(PLACE)?;
    Some(match place.starts_with("postgres") {
        true => Location::Postgres { url: Secret::new(place) },
        false => Location::Sqlite { folder: Path::new(&place).to_owned() },
    })
}

/// Works until the job is done, if this is the process that is to be killed.
#[expect(clippy::print_stderr, reason = "who is to kill this process counts the items")]
async fn work_as_told() -> bool {
    let (Some(location), Some(time)) = (place(), setting(TIME)) else { return false };
    let mut shop = Shop::open_at(&location, Timestamp::from_micros(time.parse().unwrap())).await;
    shop.work(Worker::new(KIND, 1), |mut running: Running| async move {
        for item in first(&running)..ITEMS {
            running.step(progress(item + 1, ITEMS), effect(format!("{item:04}"))).await?;
            eprintln!("item");
        }
        running.finish(json!(null), effect("end")).await
    });
    crate::consumer::eventually(async || shop.count("SELECT COUNT(*) FROM job WHERE state = 3").await == 1).await;
    true
}

#[expect(clippy::disallowed_methods, reason = "what the test tells the process that it kills")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Numbers that look random and come again with their seed: xorshift64, <https://www.jstatsoft.org/article/view/v008i14>.
struct Random(u64);

impl Random {
    #[expect(clippy::print_stdout, reason = "a run that failed can be repeated")]
    fn new() -> Self {
        let seed = setting(SEED).map_or_else(|| uuid::Uuid::new_v4().as_u64_pair().1, |seed| seed.parse().unwrap());
        println!("{SEED}={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
