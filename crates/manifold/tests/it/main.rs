//! What operators and scripts rely on, tried on the real program: its processes, its signals, its files, its words.

mod again;
mod command_line;
mod database;
mod disk_full;
mod doctor;
mod events;
mod first_start;
mod kill;
mod limits;
mod load;
mod locked;
mod logs;
mod mesh;
mod migrate;
#[path = "../../../bus/tests/it/nats.rs"]
#[expect(dead_code, reason = "other tests exchange its files")]
mod nats;
mod outage;
mod program;
mod scale;
mod servers;
mod slow_clients;
mod stop;
mod three_doors;
mod tls;
mod trace;
mod vault;
