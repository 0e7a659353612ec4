//! `manifold roles`: what people may do, on a running server, through its public REST like any other client.

use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use manifold_core::Result;
use serde_json::{Value, json};

use crate::command::api::{Api, print};
use crate::config::Config;
use crate::output;

/// `manifold roles …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List roles and what each may do
    List,
    /// List all permissions, and which operations ask for them
    Permissions,
    /// Make a role
    Create {
        /// What people call it
        name: String,
        /// Such as keys.key.read, ai.* or, for one's own keys only, keys.key.*@own
        #[arg(required = true)]
        permissions: Vec<String>,
        /// In which moments, in CEL, such as `request.hour < 18`
        #[arg(long)]
        when: Option<String>,
    },
    /// Remove a role that nobody holds
    Delete {
        /// Its id, `rol_…`
        id: String,
    },
}

/// Calls the server.
pub async fn run(config: Config, command: Command) -> Result<ExitCode> {
    let api = Api::new(&config)?;
    match command {
        Command::List => {
            let roles = api.call(Method::GET, "/v1/roles", None).await?;
            let rows: Vec<_> = roles["data"].as_array().into_iter().flatten().map(row).collect();
            print(&["id", "name", "grants"], &rows);
        }
        Command::Permissions => {
            let permissions = api.call(Method::GET, "/v1/roles/permissions", None).await?;
            print(&["permission", "operations"], permissions["data"].as_array().into_iter().flatten());
        }
        Command::Create { name, permissions, when } => {
            let grants: Vec<_> = permissions.iter().map(|text| grant(text, when.as_deref())).collect();
            let role = json!({"name": name, "grants": grants});
            let made = api.call(Method::POST, "/v1/roles", Some(&role)).await?;
            output::line(made["id"].as_str().unwrap_or_default());
        }
        Command::Delete { id } => {
            api.call(Method::DELETE, &format!("/v1/roles/{id}"), None).await?;
            output::line(format!("there is no {id} any more"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// `keys.key.*@own,env:test` as the server takes it.
fn grant(text: &str, when: Option<&str>) -> Value {
    let (permission, labels) = text.split_once('@').unwrap_or((text, ""));
    let on: Vec<_> = labels.split(',').filter(|label| !label.is_empty()).collect();
    json!({"permission": permission, "on": on, "when": when})
}

/// A role with its grants in one cell.
fn row(role: &Value) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let print = |grant: &Value| {
        let on: Vec<_> = grant["on"].as_array().into_iter().flatten().map(text).collect();
        let on = if on.is_empty() { String::new() } else { format!("@{}", on.join(",")) };
        let when = grant["when"].as_str().map_or(String::new(), |when| format!(" when {when}"));
        format!("{}{on}{when}", text(&grant["permission"]))
    };
    let grants: Vec<_> = role["grants"].as_array().into_iter().flatten().map(print).collect();
    json!({"id": role["id"], "name": role["name"], "grants": grants.join("; ")})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_printed_as_they_are_typed() {
        let role = json!({"id": "rol_1", "name": "x", "grants": [grant("keys.key.*@own,env:test", None), grant("ai.*", Some("true"))]});

        assert_eq!(row(&role)["grants"], "keys.key.*@own,env:test; ai.* when true");
    }
}
