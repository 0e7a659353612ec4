//! `manifold secrets`: secrets of the admin key's tenant, through the public REST of a running server.

use std::io::{IsTerminal, Read, stdin};
use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use manifold_core::{Code, Result, ResultExt, Secret};
use serde_json::json;

use crate::command::api::{Api, print};
use crate::config::Config;
use crate::output;

/// More is refused by the server; what is typed is read to here.
const MAX_VALUE: u64 = 64 * 1024 + 2;

/// `manifold secrets …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a secret whose value comes from standard input, without the line end
    Set {
        /// What it is called: a-z 0-9 . _ -
        name: String,
    },
    /// List secrets, without their values
    List,
    /// Delete a secret
    Delete {
        /// What it is called
        name: String,
    },
}

/// Calls the server.
pub async fn run(config: Config, command: Command) -> Result<ExitCode> {
    let api = Api::new(&config)?;
    let columns = ["name", "last4", "version", "updated_at", "updated_by"];
    match command {
        Command::Set { name } => {
            let body = json!({ "value": read_value()?.expose() });
            let written = api.call(Method::PUT, &format!("/v1/secrets/{name}"), Some(&body)).await?;
            print(&columns, [&written]);
        }
        Command::List => print(&columns, &api.list("/v1/secrets").await?),
        Command::Delete { name } => {
            api.call(Method::DELETE, &format!("/v1/secrets/{name}"), None).await?;
            output::line(format!("{name} is gone"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Never from an argument: those stand in the history of the shell and in the list of processes.
fn read_value() -> Result<Secret<String>> {
    if stdin().is_terminal() {
        output::complain("type or paste the value, then press Enter and Ctrl-D");
    }
    let mut text = String::new();
    let read = stdin().lock().take(MAX_VALUE).read_to_string(&mut text);
    let text = Secret::new(text);
    read.or_err(Code::Invalid, "read the value from standard input")?;
    let value = text.expose().strip_suffix('\n').unwrap_or(text.expose());
    Ok(Secret::from(value.strip_suffix('\r').unwrap_or(value)))
}
