//! `manifold config`: what is set, where it comes from, and whether it holds.

use clap::Subcommand;
use manifold_core::Result;
use manifold_runtime::config::Loaded;

use crate::config::Config;
use crate::explain::located;
use crate::{node, output};

/// `manifold config …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Command {
    /// Print every setting that somebody made, and where
    Show,
    /// Check the configuration without starting anything
    Check,
}

/// Reading the configuration has already checked each setting.
pub fn run(loaded: &Loaded<Config>, command: &Command) -> Result<()> {
    match command {
        Command::Show => show(loaded),
        Command::Check => {
            node::check(&loaded.value).map_err(|error| located(error, &loaded.settings))?;
            output::line("the configuration is valid");
        }
    }
    Ok(())
}

/// Only what somebody set: the defaults are in the manual.
fn show(loaded: &Loaded<Config>) {
    let set = loaded.settings.iter().filter(|(_, setting)| setting.origin != "the defaults");
    let rows: Vec<_> =
        set.map(|(key, setting)| vec![key.clone(), setting.value.clone(), setting.origin.clone()]).collect();
    if rows.is_empty() {
        output::line("every setting has its default");
    }
    output::table(&rows);
}
