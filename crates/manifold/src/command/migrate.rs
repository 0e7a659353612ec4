//! `manifold migrate`: from the SQLite files of the data folder to Postgres, once, while no server runs. A client that
//! tries again until the server is back notices no more than a pause.

use std::path::Path;
use std::process::ExitCode;

use manifold_core::{Clock, Code, Error, Ids, Result, Secret};
use manifold_store::{Location, Table, Transfer};

use crate::command::db::databases;
use crate::config::Config;
use crate::lock::DataLock;
use crate::output;

const STOP_IT: &str =
    "stop the server first: on SIGTERM it finishes what it has begun, and clients that try again lose nothing";

/// Moves all services, or only says what would be moved.
pub async fn run(config: Config, to: Secret<String>, dry_run: bool) -> Result<ExitCode> {
    let Ok(target @ Location::Postgres { .. }) = Location::parse(&to, &config.data_dir) else {
        return Err(Error::invalid("STORE_URL_INVALID", "--to is not a postgres:// URL that can be read"));
    };
    let folder = config.data_dir();
    there_is_something(&folder)?;
    let _lock = DataLock::take(&folder, STOP_IT)?;
    let id = Ids::new(Clock::system()).next();
    let Some(mut transfer) = Transfer::begin(&folder, &target, id).await? else {
        output::line("everything was moved before; nothing was done");
        remind(&folder);
        return Ok(ExitCode::SUCCESS);
    };
    let place = transfer.place().to_owned();
    let bus = manifold_bus::migrations();
    let mut tables = Vec::new();
    for (service, migrations) in databases() {
        tables.extend(transfer.plan(service, &[&bus, &migrations]).await?);
    }
    if dry_run {
        report(&tables);
        output::line(format!("would be moved to {place}; nothing was changed"));
        return Ok(ExitCode::SUCCESS);
    }
    for table in &tables {
        transfer.copy(table).await?;
    }
    for (service, _) in databases() {
        manifold_bus::follow_move(&mut transfer.within(service).await?).await?;
    }
    transfer.commit().await?;
    report(&tables);
    output::line(format!("moved to {place}, and counted there"));
    remind(&folder);
    Ok(ExitCode::SUCCESS)
}

/// A mistyped folder would be created and moved as an empty one.
fn there_is_something(folder: &Path) -> Result<()> {
    for (service, _) in databases() {
        let file = folder.join(format!("{service}.db"));
        if !file.exists() {
            let message = format!("{} is missing: name the data folder with --data-dir", file.display());
            return Err(Error::new(Code::Precondition, "FAILED_PRECONDITION", message));
        }
    }
    Ok(())
}

fn report(tables: &[Table]) {
    let row = |table: &Table| vec![table.service.to_owned(), table.name.clone(), table.n_rows.to_string()];
    let heading = ["SERVICE", "TABLE", "ROWS"].map(str::to_owned).to_vec();
    output::table(&std::iter::once(heading).chain(tables.iter().map(row)).collect::<Vec<_>>());
}

/// What the operator has to do and to keep.
fn remind(folder: &Path) {
    output::line("start with store.url (MANIFOLD_STORE__URL) set to the address given to --to");
    output::line(format!(
        "keep {}: every process of the edge needs it in its data folder, without it no key can be checked",
        folder.join("master.key").display()
    ));
    output::line("the SQLite files are as they were; no start takes them while moved-to-postgres lies beside them");
}
