//! `manifold vault`: the master keys, which no server shows or takes. Works on the database, with the server running or
//! stopped.

use std::future::pending;
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;
use manifold_core::{Clock, Code, Error, Result};
use manifold_store::{Db, Location, WriterConfig};

use crate::config::Config;
use crate::output;

/// `manifold vault …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Seal every key under another master key; when interrupted, run it again
    RotateMaster {
        /// File or id of the new key, which every process has among identity.master_keys
        #[arg(long, value_name = "FILE")]
        new: String,
    },
    /// List the master keys, and how many keys each seals
    Status,
}

/// Works on the database of identity.
pub async fn run(config: Config, command: Command) -> Result<ExitCode> {
    let location = Location::parse(&config.store.url, &config.data_dir)?;
    if let Location::Sqlite { folder } = &location
        && !folder.join("identity.db").exists()
    {
        let message = format!("{} holds no database: name the data folder with --data-dir", folder.display());
        return Err(Error::new(Code::Precondition, "FAILED_PRECONDITION", message));
    }
    let (bus, own) = (manifold_bus::migrations(), manifold_identity::migrations());
    let (db, writer) = Db::open(&location, "identity", &[&bus, &own], &WriterConfig::default()).await?;
    let work = async {
        match command {
            Command::RotateMaster { new } => rotate(&config, &db, &new).await,
            Command::Status => status(&config, &db).await,
        }
    };
    tokio::select! {
        done = work => done.map(|()| ExitCode::SUCCESS),
        () = writer.run(pending()) => Err(Error::internal("nobody writes the database")),
    }
}

async fn rotate(config: &Config, db: &Db, new: &str) -> Result<()> {
    let id = find(config, new)?;
    let done = manifold_identity::rotate_master(db, &Clock::system(), &config.master_keys(), &id).await?;
    output::line(format!("{id} seals everything now; {} keys were sealed anew, and all were checked", done.n_keys));
    for old in done.retired {
        output::line(format!(
            "{old} is retired: remove it from identity.master_keys of every process, and its file; only backups of before need it"
        ));
    }
    Ok(())
}

async fn status(config: &Config, db: &Db) -> Result<()> {
    let heading = ["ID", "STATE", "KEYS", "CONFIGURED", "SINCE"].map(str::to_owned).to_vec();
    let mut rows = vec![heading];
    let configured = config.master_keys();
    for key in manifold_identity::master_status(db).await? {
        let here = if configured.iter().any(|one| one.id == key.id) { "yes" } else { "no" };
        rows.push(vec![key.id, key.state, key.n_keys.to_string(), here.to_owned(), key.created_at.to_string()]);
    }
    output::table(&rows);
    Ok(())
}

/// The key that is meant. One that only this command knew would lock every running process out.
fn find(config: &Config, new: &str) -> Result<String> {
    let wanted = real(Path::new(new));
    let keys = &config.identity.master_keys;
    let is_meant = |file: &Path| real(&config.data_dir.join(file)) == wanted;
    let found = keys.iter().find(|key| key.id == new || key.file.as_deref().is_some_and(is_meant));
    found.map(|key| key.id.clone()).ok_or_else(|| {
        let message = format!(
            "identity.master_keys names no key {new}: add it there in every process, behind the one in use, and restart them first"
        );
        Error::invalid("CONFIG_INVALID", message).at("identity.master_keys")
    })
}

/// The same for every way to write it.
fn real(path: &Path) -> std::path::PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}
