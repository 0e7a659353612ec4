//! What checking a key costs: one that is cached, one with a wrong checksum, one that does not exist. And an access token:
//! one that was seen before, and one whose signature has to be checked, and is wrong.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use manifold_core::{Clock, Ids, Principal, RequestId, Secret, TraceContext};
use manifold_identity::{Config, Deps, Environment, MailConfig, NewOwner, Started, Visit, Visitor, generate_key};
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
        let deps = Deps { db, ids: Ids::new(clock.clone()), clock, bus, health, tasks };
        manifold_identity::start(config, deps).await.expect("a first start")
    })
}

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The first owner's access token.
async fn log_in(started: &Started) -> Secret<String> {
    let (identity, token) = (&started.identity, started.setup_token.clone().expect("a new database"));
    let call = CallContext {
        principal: Principal::anonymous(),
        request: RequestId(Uuid::nil()),
        trace: TraceContext::root(),
        deadline: Instant::now() + Duration::from_secs(60),
    };
    let visitor = Visitor { ip: LOCAL, agent: "a bench".to_owned() };
    let (email, name) = ("ada@example.org".to_owned(), "Ada".to_owned());
    let new = NewOwner { token, email, name, password: Secret::from("correct horse battery staple") };
    let entered = identity.set_up(&call, visitor, new).await.expect("a first owner");
    identity.issue_tokens(entered).await.expect("tokens").access
}

fn key_check(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let (folder, tasks) = (tempfile::tempdir().expect("a folder"), Tasks::new());
    let started = start(&runtime, folder.path(), &tasks);
    let identity = &started.identity;
    let cached = started.first_admin_key.as_ref().expect("a new key").expose().as_str();
    let unknown = generate_key(Environment::Live);
    let mistyped = cached.replace("live", "test");

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
