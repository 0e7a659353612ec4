//! What checking a key costs: one that is cached, one with a wrong checksum, one that does not exist. And an access token:
//! one that was seen before, and one whose signature has to be checked, and is wrong. First of all, how long the slowest of
//! many checks take, and how many two threads make in a second.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it saw")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use manifold_core::{Clock, Ids, Principal, RequestId, Secret, TraceContext};
use manifold_identity::{
    Config, Deps, Environment, Identity, MailConfig, NewKey, NewOwner, Started, Terms, Visit, Visitor, generate_key,
};
use manifold_runtime::{CallContext, Health, Tasks};
use manifold_store::{Db, Location, WriterConfig};
use tokio::runtime::Runtime;
use tokio::time::Instant;
use uuid::Uuid;

fn start(runtime: &Runtime, folder: &std::path::Path, tasks: &Tasks) -> Started {
    runtime.block_on(async {
        let location = Location::Sqlite { folder: folder.to_owned() };
        let (bus, own) = (manifold_bus::migrations(), manifold_identity::migrations());
        let options = WriterConfig::default();
        let (db, writer) = Db::open(&location, "identity", &[&bus, &own], &options).await.expect("a database");
        let stop = tasks.token();
        tasks.spawn("writer", writer.run(async move { stop.cancelled().await }));
        let master_keys = vec![manifold_identity::MasterKey::of_folder(folder)];
        let config = Config {
            data_dir: folder.to_owned(),
            master_keys,
            admin_key: None,
            grace: Duration::from_secs(600),
            mail: MailConfig::default(),
            public_url: String::new(),
        };
        let (clock, health, tasks) = (Clock::system(), Health::new(), tasks.clone());
        let bus = manifold_bus::Bus::Embedded(Vec::new());
        let deps = Deps { db, ids: Ids::new(clock.clone()), clock, bus, limits: None, health, tasks };
        manifold_identity::start(config, deps).await.expect("a first start")
    })
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn call(principal: Principal) -> CallContext {
    let deadline = Instant::now() + Duration::from_secs(60);
    CallContext {
        principal,
        request: RequestId(Uuid::nil()),
        trace: TraceContext::root(),
        deadline,
        unchanged_since: None,
    }
}

/// The first owner's access token.
async fn log_in(started: &Started) -> Secret<String> {
    let (identity, token) = (&started.identity, started.setup_token.clone().expect("a new database"));
    let call = call(Principal::anonymous());
    let visitor = Visitor { ip: LOCAL, agent: "a bench".to_owned() };
    let (email, name) = ("ada@example.org".to_owned(), "Ada".to_owned());
    let new = NewOwner { token, email, name, password: Secret::from("correct horse battery staple") };
    let entered = identity.set_up(&call, visitor, new).await.expect("a first owner");
    identity.issue_tokens(entered).await.expect("tokens").access
}

/// Makes keys that nobody has used yet.
async fn keys(identity: &Identity, admin: &str, count: usize) -> Vec<Secret<String>> {
    let caller = call(identity.authenticate(admin).await.expect("an administrator"));
    let mut made = Vec::with_capacity(count);
    for _ in 0..count {
        let new = NewKey {
            name: "app".to_owned(),
            environment: Environment::Live,
            permissions: vec!["ai.*".to_owned()],
            expires_at: None,
            terms: Terms::default(),
            canary: false,
            idempotency_key: None,
        };
        made.push(identity.create_key(&caller, new).await.expect("a key").secret);
    }
    made
}

/// Tells how long the middle, the slowest hundredth and the slowest of many checks take.
fn spread(name: &str, count: usize, check: impl Fn(usize) -> bool) {
    let mut times: Vec<_> = (0..count)
        .map(|n| {
            let begun = std::time::Instant::now();
            assert!(black_box(check(n)), "the key is good");
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    let (p50, p99, max) = (times[count / 2], times[count * 99 / 100], times[count - 1]);
    println!("key_check {name}: p50 {p50:?}, p99 {p99:?}, max {max:?} of {count}");
}

/// Tells how many checks of one key two tasks make in a second.
fn rate(runtime: &Runtime, identity: &Identity, key: &str) {
    const COUNT: usize = 500_000;
    let begun = std::time::Instant::now();
    let tasks = [(); 2].map(|()| {
        let (identity, key) = (identity.clone(), key.to_owned());
        runtime.spawn(async move {
            for _ in 0..COUNT {
                black_box(identity.authenticate(&key).await).expect("a good key");
            }
        })
    });
    for task in tasks {
        runtime.block_on(task).expect("no panic");
    }
    println!("key_check cached, two tasks: {:.0}/s", (2 * COUNT) as f64 / begun.elapsed().as_secs_f64());
}

fn key_check(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (folder, tasks) = (tempfile::tempdir().expect("a folder"), Tasks::new());
    let started = start(&runtime, folder.path(), &tasks);
    let identity = &started.identity;
    let cached = started.first_admin_key.as_ref().expect("a new key").expose().as_str();
    let unknown = generate_key(Environment::Live);
    let mistyped = cached.replace("live", "test");

    spread("cached", 1_000_000, |_| runtime.block_on(identity.authenticate(cached)).is_ok());
    let fresh = runtime.block_on(keys(identity, cached, 1_000));
    spread("for the first time", fresh.len(), |n| runtime.block_on(identity.authenticate(fresh[n].expose())).is_ok());
    rate(&runtime, identity, cached);

    let mut group = criterion.benchmark_group("key_check");
    for (name, key) in [("cached", cached), ("unknown", unknown.expose()), ("checksum", &mistyped)] {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| async { black_box(identity.authenticate(black_box(key)).await) });
        });
    }
    group.finish();

    let token = runtime.block_on(log_in(&started));
    let cached = token.expose().as_str();
    let (signed, signature) = cached.rsplit_once('.').expect("a token has three parts");
    let forged = format!("{signed}AAAA.{signature}");
    assert!(runtime.block_on(identity.authenticate_bearer(cached, LOCAL, &Visit::default())).is_ok());
    let mut group = criterion.benchmark_group("token_check");
    for (name, token) in [("cached", cached), ("signature", &forged)] {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| async {
                black_box(identity.authenticate_bearer(black_box(token), LOCAL, &Visit::default()).await)
            });
        });
    }
    group.finish();
    runtime.block_on(tasks.shutdown(Duration::from_secs(5)));
}

criterion_group!(benches, key_check);
criterion_main!(benches);
