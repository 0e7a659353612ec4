//! `manifold config`: what is set, where it comes from, and whether it holds.

use clap::Subcommand;
use manifold_runtime::config::Loaded;

use crate::config::Config;
use crate::output;

/// `manifold config …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Print every setting that somebody made, and where
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

/// Only what somebody set: the defaults are in the manual.
fn show(loaded: &Loaded<Config>) {
    let set = loaded.settings.iter().filter(|(_, setting)| setting.origin != "the defaults");
    let rows: Vec<_> = set.map(|(key, setting)| vec![key.clone(), setting.value.clone(), setting.origin.clone()]).collect();
    if rows.is_empty() {
        output::line("every setting has its default");
    }
    output::table(&rows);
}
