//! `manifold status`: whether a running server is ready. The health check of containers, which have no shell.

use std::process::ExitCode;

use manifold_core::Result;

use crate::command::api::Api;
use crate::config::Config;
use crate::output;

/// Asks `/readyz`: exit code 0 if ready, 1 if not.
pub async fn run(config: Config, quiet: bool) -> Result<ExitCode> {
    let answer = Api::new(&config)?.get_anonymous("/readyz").await;
    let (ready, text) = match answer {
        Ok((status, body)) => (status == 200, body),
        Err(error) => (false, error.message().to_owned()),
    };
    if !quiet {
        output::line(text.trim_end());
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
