//! The command line: what can be typed, and the exit code of what went wrong.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use manifold_core::{Error, Result, Secret};
use manifold_runtime::config::Loaded;

use crate::command::{
    audit, bus, config as config_command, db, doctor, keys, migrate, roles, secrets, serve, status, tenants, users,
    vault,
};
use crate::config::{self, Config};
use crate::explain::{explain, located};
use crate::output;

/// One address for every AI provider, with one key.
#[derive(Debug, Parser)]
#[command(name = "manifold", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

/// Where settings come from.
#[derive(Args, Debug)]
struct Settings {
    /// Configuration file [default: manifold.toml if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder for databases and keys
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve {
        /// Services of this process, with commas between them [default: all]
        #[arg(long, value_name = "NAMES")]
        services: Option<String>,
        /// Address of the public door
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
        /// Address of probes and metrics
        #[arg(long, value_name = "ADDRESS")]
        management: Option<SocketAddr>,
    },
    /// Make, list and revoke API keys
    Keys {
        #[command(subcommand)]
        command: keys::Command,
    },
    /// Name what people may do
    Roles {
        #[command(subcommand)]
        command: roles::Command,
    },
    /// Make, suspend and delete tenants
    Tenants {
        #[command(subcommand)]
        command: tenants::Command,
    },
    /// Invite people, give them roles and new passwords
    Users {
        #[command(subcommand)]
        command: users::Command,
    },
    /// Show, export and verify what was done
    Audit {
        #[command(subcommand)]
        command: audit::Command,
    },
    /// Write, list and delete secrets
    Secrets {
        #[command(subcommand)]
        command: secrets::Command,
    },
    /// Change the master key, and see what it seals
    Vault {
        #[command(subcommand)]
        command: vault::Command,
    },
    /// Look for what is wrong and say how to mend it
    Doctor {
        /// Leave out what needs the network
        #[arg(long)]
        offline: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show or check the configuration
    Config {
        #[command(subcommand)]
        command: config_command::Command,
    },
    /// Care for the databases
    Db {
        #[command(subcommand)]
        command: db::Command,
    },
    /// Move everything from the SQLite files of the data folder to Postgres, while no server runs
    Migrate {
        /// An empty database, `postgres://user:password@host:5432/database`
        #[arg(long, value_name = "URL")]
        to: String,
        /// Only say what would be moved
        #[arg(long)]
        dry_run: bool,
    },
    /// See how events come along, and send again what was given up
    Bus {
        #[command(subcommand)]
        command: bus::Command,
    },
    /// Ask a running server whether it is ready
    Status {
        /// Print nothing, only set the exit code
        #[arg(long)]
        quiet: bool,
    },
    /// Print the OpenAPI document of the public surface
    Openapi,
    /// Print a completion script for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Runs the program.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(code) => code,
        Err(error) => {
            output::complain(format!("manifold: {}", explain(&error)));
            ExitCode::from(exit_code(&error))
        }
    }
}

fn execute(cli: Cli) -> Result<ExitCode> {
    let settings = &cli.settings;
    match cli.command {
        Command::Openapi => output::line(
            manifold_edge::openapi()
                .to_pretty_json()
                .map_err(|error| Error::internal("print OpenAPI").because(error))?,
        ),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "manifold", &mut std::io::stdout());
        }
        Command::Keys { command: keys::Command::Generate { test } } => keys::generate(test),
        Command::Serve { services, listen, management } => {
            let flags = [("edge.listen", listen), ("management.listen", management)];
            let flags = flags.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_string())));
            let loaded = read(settings, flags.collect())?;
            return serve::run(loaded.value, services.as_deref()).map_err(|error| located(error, &loaded.settings));
        }
        Command::Keys { command } => return block_on(keys::run(read(settings, Vec::new())?.value, command)),
        Command::Roles { command } => return block_on(roles::run(read(settings, Vec::new())?.value, command)),
        Command::Tenants { command } => return block_on(tenants::run(read(settings, Vec::new())?.value, command)),
        Command::Audit { command } => return block_on(audit::run(read(settings, Vec::new())?.value, command)),
        Command::Users { command } => return block_on(users::run(read(settings, Vec::new())?.value, command)),
        Command::Secrets { command } => return block_on(secrets::run(read(settings, Vec::new())?.value, command)),
        Command::Vault { command } => return block_on(vault::run(read(settings, Vec::new())?.value, command)),
        Command::Doctor { offline, json } => {
            let environment = environment();
            return block_on(doctor::run(read(settings, Vec::new()), environment, offline, json));
        }
        Command::Config { command } => config_command::run(&read(settings, Vec::new())?, &command)?,
        Command::Bus { command } => return block_on(bus::run(read(settings, Vec::new())?.value, command)),
        Command::Db { command } => return block_on(db::run(read(settings, Vec::new())?.value, command)),
        Command::Migrate { to, dry_run } => {
            return block_on(migrate::run(read(settings, Vec::new())?.value, Secret::new(to), dry_run));
        }
        Command::Status { quiet } => return block_on(status::run(read(settings, Vec::new())?.value, quiet)),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(settings: &Settings, mut flags: Vec<(String, String)>) -> Result<Loaded<Config>> {
    if let Some(folder) = &settings.data_dir {
        flags.push(("data_dir".to_owned(), folder.display().to_string()));
    }
    config::read(settings.config.clone(), environment(), flags)
}

#[expect(clippy::disallowed_methods, reason = "the environment is read here, once, and handed to the configuration")]
fn environment() -> BTreeMap<String, String> {
    std::env::vars().collect()
}

fn block_on(future: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::internal("start the runtime").because(error))?.block_on(future)
}

/// 2 bad configuration, 4 address in use, 70 anything else.
fn exit_code(error: &Error) -> u8 {
    match error.reason() {
        "ADDRESS_IN_USE" => 4,
        _ if error.code() == manifold_core::Code::Invalid => 2,
        _ => 70,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_kind_of_failure_has_its_exit_code() {
        assert_eq!(exit_code(&Error::invalid("CONFIG_INVALID", "x")), 2);
        assert_eq!(exit_code(&Error::internal("x")), 70);
    }
}
