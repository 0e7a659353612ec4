//! The database: one `Db` over SQLite and Postgres, migrations, the move from one to the other, the group-commit writer,
//! retention and keyset pages. It knows no table of any service.

mod command;
mod db;
mod fault;
mod location;
mod migrate;
mod page;
mod queue;
mod retain;
mod row;
mod time;
mod transfer;
mod tx;
mod values;
mod writer;

pub use db::{Db, PostgresDb, SqliteDb};
pub use fault::SqlResultExt;
pub use location::Location;
pub use migrate::Migrations;
pub use page::{newest_first, oldest_first};
pub use queue::Rows;
pub use retain::prune;
pub use row::{Group, Row};
pub use time::Micros;
pub use transfer::{Table, Transfer};
pub use tx::{Engine, Tx};
pub use values::Values;
pub use writer::{Durability, Writer, WriterConfig};
