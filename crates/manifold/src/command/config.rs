//! `manifold config`: what is set, where it comes from, and whether it holds.

use clap::Subcommand;
use manifold_core::Result;
use manifold_runtime::config::Loaded;

use crate::config::Config;
use crate::output;

/// `manifold config …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Print every setting that differs from its default, and where it was set
    Show,
    /// Check the configuration without starting anything
    Check,
}

/// Reading the configuration has already checked it.
pub fn run(loaded: &Loaded<Config>, command: &Command) {
    match command {
        Command::Show => show(loaded),
        Command::Check => output::line("the configuration is valid"),
    }
}

fn show(loaded: &Loaded<Config>) {
    let rows: Vec<_> = loaded.origin.iter().map(|(key, source)| vec![key.clone(), source.clone()]).collect();
    if rows.is_empty() {
        output::line("every setting has its default");
    }
    output::table(&rows);
}

/// Checks what the services check when they start.
pub fn check(config: &Config) -> Result<()> {
    manifold_ai_router::check(&config.ai)
}
