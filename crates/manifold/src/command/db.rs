//! `manifold db`: migrations by hand, for deployments that run them before the new version starts.

use std::process::ExitCode;

use clap::Subcommand;
use manifold_core::Result;
use manifold_store::{Db, Location, Migrations, WriterConfig};

use crate::config::Config;
use crate::output;

/// `manifold db …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Bring every database to the schema of this version
    Migrate,
}

/// Migrates the databases of all services.
pub async fn run(config: Config, command: Command) -> Result<ExitCode> {
    let Command::Migrate = command;
    let location = Location::parse(&config.store.url, &config.data_dir)?;
    let bus = manifold_bus::migrations();
    for (service, migrations) in databases() {
        let pending = Db::pending(&location, service, &[&bus, &migrations]).await?;
        let (_db, _writer) = Db::open(&location, service, &[&bus, &migrations], &WriterConfig::default()).await?;
        output::line(format!(
            "{service}: {}",
            if pending.is_empty() { "up to date".to_owned() } else { pending.join(", ") }
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// The services that have a database, with their tables.
pub fn databases() -> [(&'static str, Migrations); 2] {
    [("identity", manifold_identity::migrations()), ("ai-router", manifold_ai_router::migrations())]
}
