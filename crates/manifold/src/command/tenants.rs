//! `manifold tenants`: the tenants of a running server, through its public REST like any other client.

use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use manifold_core::Result;
use serde_json::{Value, json};

use crate::command::api::{Api, print};
use crate::config::Config;
use crate::output;

const COLUMNS: [&str; 5] = ["id", "slug", "name", "state", "delete_after"];

/// `manifold tenants …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List tenants
    List,
    /// Make a tenant; without a mail server, print the token for its owner, once: it is for POST /v1/auth/register
    Create {
        /// What addresses call it, such as acme
        slug: String,
        /// E-mail address of the person who shall own it
        #[arg(long)]
        owner: String,
        /// What people call it; as the slug if nobody says
        #[arg(long)]
        name: Option<String>,
    },
    /// Give a tenant another name
    Rename {
        /// Its id, `ten_…`
        id: String,
        /// What people call it
        name: String,
    },
    /// Refuse all keys and sessions of a tenant
    Suspend {
        /// Its id, `ten_…`
        id: String,
    },
    /// Bring a suspended or deleted tenant back
    Resume {
        /// Its id, `ten_…`
        id: String,
    },
    /// Delete a tenant: everything of it is removed after 30 days
    Delete {
        /// Its id, `ten_…`
        id: String,
    },
}

/// Calls the server.
pub async fn run(config: Config, command: Command) -> Result<ExitCode> {
    let api = Api::new(&config)?;
    let change = async |id: String, change: Value| {
        let tenant = api.call(Method::PATCH, &format!("/v1/tenants/{id}"), Some(&change)).await?;
        print(&COLUMNS, [&tenant]);
        Ok(())
    };
    match command {
        Command::List => print(&COLUMNS, &api.list("/v1/tenants").await?),
        Command::Create { slug, owner, name } => {
            let name = name.unwrap_or_else(|| slug.clone());
            let new = json!({"slug": slug, "name": name, "owner": owner});
            let made = api.call(Method::POST, "/v1/tenants", Some(&new)).await?;
            output::line(made["id"].as_str().unwrap_or_default());
            output::line(made["invitation"]["token"].as_str().unwrap_or("the token for its owner is in the mail"));
        }
        Command::Rename { id, name } => change(id, json!({"name": name})).await?,
        Command::Suspend { id } => change(id, json!({"state": "suspended"})).await?,
        Command::Resume { id } => change(id, json!({"state": "active"})).await?,
        Command::Delete { id } => {
            let tenant = api.call(Method::DELETE, &format!("/v1/tenants/{id}"), None).await?;
            print(&COLUMNS, [&tenant]);
        }
    }
    Ok(ExitCode::SUCCESS)
}
