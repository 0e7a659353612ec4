//! What checking a key costs: one that is cached, one with a wrong checksum, one that does not exist.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use manifold_core::{Clock, Ids};
use manifold_identity::{Config, Deps, Environment, MailConfig, Started, generate_key};
use manifold_runtime::{Health, Tasks};
use manifold_store::{Db, Location, WriterConfig};
use tokio::runtime::Runtime;

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
    runtime.block_on(tasks.shutdown(Duration::from_secs(5)));
}

criterion_group!(benches, key_check);
criterion_main!(benches);
