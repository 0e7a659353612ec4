//! CPU time per request of writing what every AI request leaves behind: request, attempt and outbox row.
//!
//! `cargo bench -p manifold-store --bench writer`. Prints the CPU time of this process, which on SQLite includes the
//! database; on Postgres (`MANIFOLD_TEST_POSTGRES`) the server's share is not in it.
#![expect(clippy::print_stdout, reason = "a benchmark prints")]

use std::time::{Duration, Instant};

use manifold_core::{Clock, Ids, Timestamp};
use manifold_store::{Db, Group, Location, Migrations, Row, Values, Writer, WriterConfig, on};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use uuid::Uuid;

/// The allocator of the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[path = "../tests/it/scratch.rs"]
mod scratch;
use scratch::Scratch;

/// Requests per round. Pushed in batches, so that every commit is full.
const REQUESTS: usize = 64 * 1_024;
const ROUNDS: usize = 8;
/// Time between requests as their ids see it: new keys then meet the neighbours they would meet at 40,000 per second.
const SPACING: Duration = Duration::from_micros(25);
/// What a full commit may cost per request on SQLite.
const BAR: Duration = Duration::from_micros(15);

struct RequestRow {
    id: Uuid,
    created_at: Timestamp,
    input_tokens: i64,
}

struct AttemptRow {
    request_id: Uuid,
    created_at: Timestamp,
}

struct EventRow {
    event_id: Uuid,
    created_at: Timestamp,
    payload: Vec<u8>,
}

const TENANT: Uuid = Uuid::from_u128(0x0193_4b2c_7a11_7c3e_9d5f_2b6a_8c4e_1f00);

#[rustfmt::skip]
impl Row for RequestRow {
    const TABLE: &'static str = "ai_request";
    const COLUMNS: &'static [&'static str] = &[
        "id", "tenant_id", "created_at", "key_id", "user_id", "team_id", "session", "dialect", "operation", "requested",
        "route", "prompt", "experiment_id", "arm", "labels", "stream", "cache", "outcome", "class", "n_attempts",
        "input_tokens", "output_tokens", "cost_nanos", "price_state", "ttft_us", "duration_us", "overhead_us", "trace_id",
    ];

    fn bind(&self, values: &mut Values<'_>) {
        values.uuid(self.id);
        values.uuid(TENANT);
        values.time(self.created_at);
        values.opt_uuid(Some(TENANT));
        values.opt_uuid(None);
        values.opt_uuid(None);
        values.opt_text(None);
        values.text("openai");
        values.text("chat");
        values.text("groq/llama-3.3-70b-versatile");
        values.opt_text(None);
        values.opt_text(None);
        values.opt_uuid(None);
        values.opt_text(None);
        values.json_text(r#"{"team":"search","environment":"production"}"#);
        values.bool(false);
        values.text("off");
        values.text("ok");
        values.text("");
        values.int(1);
        values.int(self.input_tokens);
        values.int(211);
        values.opt_int(Some(412_400));
        values.text("priced");
        values.opt_int(Some(81_000));
        values.int(640_000);
        values.int(48);
        values.text("4bf92f3577b34da6a3ce929d0e0e4736");
    }
}

#[rustfmt::skip]
impl Row for AttemptRow {
    const TABLE: &'static str = "ai_attempt";
    const COLUMNS: &'static [&'static str] = &[
        "request_id", "n", "tenant_id", "created_at", "provider", "model", "credential_id", "tier", "class", "status",
        "usage", "usage_source", "cost_nanos", "price_state", "duration_us",
    ];

    fn bind(&self, values: &mut Values<'_>) {
        values.uuid(self.request_id);
        values.int(1);
        values.uuid(TENANT);
        values.time(self.created_at);
        values.text("groq");
        values.text("llama-3.3-70b-versatile");
        values.opt_uuid(Some(TENANT));
        values.text("paid");
        values.text("ok");
        values.opt_int(Some(200));
        values.json_text(r#"{"input":1200,"cached":0,"output":211,"reasoning":0}"#);
        values.text("provider");
        values.opt_int(Some(412_400));
        values.text("priced");
        values.int(639_000);
    }
}

impl Row for EventRow {
    const TABLE: &'static str = "outbox";
    const COLUMNS: &'static [&'static str] = &["event_id", "tenant_id", "type", "subject", "payload", "created_at"];

    fn bind(&self, values: &mut Values<'_>) {
        values.uuid(self.event_id);
        values.uuid(TENANT);
        values.text("ai.request.completed");
        values.text("mf.evt.ten_01jd5jr6h1fgz9tqs2nak4e4f0.ai.request.completed");
        values.bytes(&self.payload);
        values.time(self.created_at);
    }
}

fn group(ids: &Ids, clock: &Clock) -> Group {
    let (id, created_at) = (ids.next(), clock.now());
    let event = EventRow { event_id: ids.next(), created_at, payload: vec![b'e'; 700] };
    Group::new()
        .with(RequestRow { id, created_at, input_tokens: 1_200 })
        .with(AttemptRow { request_id: id, created_at })
        .with(event)
}

/// CPU time of this process in all its threads, in ticks of a hundredth of a second.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has /proc");
    // The name of the program, in brackets, may contain spaces; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().expect("ticks are a number")).sum();
    Duration::from_millis(ticks * 10)
}

async fn settled(db: &Db) {
    while db.rows().depth() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// CPU time and elapsed time per request of the best round: other programs on the machine only ever add to it.
async fn measure(db: &Db) -> (Duration, Duration) {
    let (clock, mut costs) = (Clock::manual(Timestamp::from_micros(1_763_629_200_000_000)), Vec::new());
    let ids = Ids::new(clock.clone());
    for _ in 0..ROUNDS {
        let (cpu, begun) = (cpu_time(), Instant::now());
        for _ in 0..REQUESTS / 8_192 {
            for _ in 0..8_192 {
                clock.advance(SPACING);
                db.rows().push(group(&ids, &clock));
            }
            settled(db).await;
        }
        let n_requests = REQUESTS as u32;
        costs.push(((cpu_time() - cpu) / n_requests, begun.elapsed() / n_requests));
    }
    costs.into_iter().min().expect("there are rounds")
}

async fn bench(name: &str, location: &Location) -> Duration {
    let migrations = Migrations {
        sqlite: sqlx::migrate!("benches/migrations/sqlite"),
        postgres: sqlx::migrate!("benches/migrations/postgres"),
    };
    let opened: (Db, Writer) =
        Db::open(location, "bench", &[&migrations], &WriterConfig::default()).await.expect("the database opens");
    let (db, writer) = opened;
    let (stop, stopped) = oneshot::channel::<()>();
    let mut tasks = JoinSet::new();
    tasks.spawn(writer.run(async move { drop(stopped.await) }));

    let (cpu, elapsed) = measure(&db).await;

    let stored: i64 = on!(&db, |pool| sqlx::query_scalar("SELECT COUNT(*) FROM ai_request").fetch_one(pool).await)
        .expect("the rows can be counted");
    assert_eq!(stored, (REQUESTS * ROUNDS) as i64);
    let rate = 1.0 / elapsed.as_secs_f64();
    println!("writer/{name}: {:.1} µs of CPU per request of three rows, {rate:.0} requests/s", cpu.as_secs_f64() * 1e6);
    drop(stop);
    while tasks.join_next().await.is_some() {}
    cpu
}

#[expect(clippy::disallowed_methods, reason = "the one setting of the benchmark")]
fn main() {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let cpu = runtime.block_on(async { bench("sqlite", Scratch::sqlite().location()).await });
    if std::env::var_os("MANIFOLD_TEST_POSTGRES").is_some() {
        runtime.block_on(async { bench("postgres", Scratch::postgres().await.location()).await });
    }
    let verdict = if cpu > BAR { "more than" } else { "within" };
    println!("writer/sqlite: {verdict} the {BAR:?} that it may cost");
}
