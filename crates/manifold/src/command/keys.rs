//! `manifold keys`: API keys of a running server, through its public REST like any other client.

use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use manifold_core::{Code, Error, Result, ResultExt};
use manifold_identity::Environment;
use serde_json::{Value, json};

use crate::command::api::{Api, print};
use crate::config::Config;
use crate::output;

/// `manifold keys …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key and print its secret, once
    Create {
        /// What a person calls it
        name: String,
        /// Granted permission; repeat for several [default: ai.inference.run]
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        /// Make it a test key
        #[arg(long)]
        test: bool,
        /// Make it a trap: whoever uses it is refused, and is a critical incident
        #[arg(long)]
        canary: bool,
        /// When it ends, as 2027-01-31T00:00:00Z [default: never]
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// For whom it is, `own_…` [default: nobody in particular]
        #[arg(long, value_name = "ID")]
        owner: Option<String>,
    },
    /// List keys, newest first
    List,
    /// Change a key; what is not named stays as it is
    Update {
        /// Its id, `key_…`
        id: String,
        /// What a person calls it
        #[arg(long)]
        name: Option<String>,
        /// Granted permission; repeat for several, which replace those it has
        #[arg(long = "permission", value_name = "PERMISSION")]
        permissions: Vec<String>,
        /// When it ends, as 2027-01-31T00:00:00Z, or `never`
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        /// Make it pause
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// Make it work again
        #[arg(long)]
        enable: bool,
        /// How many calls it has left, or `unlimited`
        #[arg(long, value_name = "NUMBER")]
        credits: Option<String>,
        /// From where and for what it may be used, as JSON: {"ips": ["10.0.0.0/8"]}
        #[arg(long, value_name = "JSON")]
        restrictions: Option<String>,
        /// How many days a secret of it shall live at most, or `never` if it does not matter
        #[arg(long, value_name = "DAYS")]
        rotate_every: Option<String>,
        /// For whom it is, `own_…`, or `nobody`
        #[arg(long, value_name = "ID")]
        owner: Option<String>,
    },
    /// Tell whether a key holds and may do something, without spending credits
    Verify {
        /// What it must be allowed: `a.b.c AND (d.e.f OR g.h.i)` [default: nothing in particular]
        #[arg(long, value_name = "QUERY")]
        permissions: Option<String>,
    },
    /// End a key for good
    Revoke {
        /// Its id, `key_…`
        id: String,
    },
    /// Give a key a new secret and print it, once; the old one goes on meanwhile
    Rotate {
        /// Its id, `key_…`
        id: String,
        /// How long the old secret goes on, as PT12H or P7D, at most P30D
        #[arg(long, value_name = "TIME", default_value = "P1D")]
        grace: String,
    },
    /// End the old secret of a key that is being rotated
    FinishRotation {
        /// Its id, `key_…`
        id: String,
        /// Also if nobody has used the new secret yet
        #[arg(long)]
        force: bool,
    },
    /// End the new secret of a key that is being rotated; the old one goes on
    CancelRotation {
        /// Its id, `key_…`
        id: String,
    },
    /// Show what a key was used for, by hour
    Usage {
        /// Its id, `key_…`
        id: String,
        /// How far back, such as 24h or 7d
        #[arg(long, value_name = "TIME", default_value = "24h")]
        window: String,
    },
    /// Let the next key sign access tokens from now on; it also happens by itself every 30 days
    RotateSigning,
    /// Print a new key without storing it, for MANIFOLD_BOOTSTRAP__ADMIN_KEY
    Generate {
        /// Make it a test key
        #[arg(long)]
        test: bool,
    },
}

/// Prints a fresh key that no server knows.
pub fn generate(test: bool) {
    output::line(manifold_identity::generate_key(if test { Environment::Test } else { Environment::Live }).expose());
}

/// Calls the server.
pub async fn run(config: Config, command: Command) -> Result<ExitCode> {
    let api = Api::new(&config)?;
    match command {
        Command::Create { name, permissions, test, canary, expires_at, owner } => {
            let environment = if test { "test" } else { "live" };
            let mut body = json!({"name": name, "environment": environment, "canary": canary});
            if !permissions.is_empty() {
                body["permissions"] = json!(permissions);
            }
            if let Some(expires_at) = expires_at {
                body["expires_at"] = json!(expires_at);
            }
            if let Some(owner) = owner {
                body["owner"] = json!(owner);
            }
            let made = api.call(Method::POST, "/v1/keys", Some(&body)).await?;
            output::line(made["secret"].as_str().unwrap_or_default());
        }
        Command::List => {
            let columns = ["id", "name", "environment", "state", "owner", "permissions", "created_at", "last_used_at"];
            print(&columns, &api.list("/v1/keys").await?);
        }
        Command::Revoke { id } => {
            api.call(Method::DELETE, &format!("/v1/keys/{id}"), None).await?;
            output::line(format!("{id} is revoked"));
        }
        Command::Update {
            id,
            name,
            permissions,
            expires_at,
            disable,
            enable,
            credits,
            restrictions,
            rotate_every,
            owner,
        } => {
            let mut change = json!({});
            if let Some(name) = name {
                change["name"] = json!(name);
            }
            if !permissions.is_empty() {
                change["permissions"] = json!(permissions);
            }
            if let Some(time) = expires_at {
                change["expires_at"] = if time == "never" { Value::Null } else { json!(time) };
            }
            if disable || enable {
                change["enabled"] = json!(enable);
            }
            if let Some(credits) = credits {
                change["credits"] = if credits == "unlimited" { Value::Null } else { read_json("credits", &credits)? };
            }
            if let Some(restrictions) = restrictions {
                change["restrictions"] = read_json("restrictions", &restrictions)?;
            }
            if let Some(days) = rotate_every {
                change["rotate_every"] = if days == "never" { Value::Null } else { read_json("rotate-every", &days)? };
            }
            if let Some(owner) = owner {
                change["owner"] = if owner == "nobody" { Value::Null } else { json!(owner) };
            }
            let key = api.call(Method::PATCH, &format!("/v1/keys/{id}"), Some(&change)).await?;
            print(&["id", "name", "state", "permissions", "credits", "expires_at"], [&key]);
        }
        Command::Verify { permissions } => {
            // Not an argument: those are seen by everybody on the machine.
            let key = std::io::read_to_string(std::io::stdin()).or_err(Code::Invalid, "read the key from the input")?;
            let mut question = json!({"key": key.trim()});
            if let Some(permissions) = permissions {
                question["permissions"] = json!(permissions);
            }
            let answer = api.call(Method::POST, "/v1/keys/verify", Some(&question)).await?;
            print(&["code", "key_id", "name", "owner", "environment", "permissions", "expires_at"], [&answer]);
            return Ok(if answer["valid"] == true { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Rotate { id, grace } => {
            let path = format!("/v1/keys/{id}/rotate");
            let rotated = api.call(Method::POST, &path, Some(&json!({"grace": grace}))).await?;
            output::line(rotated["secret"].as_str().unwrap_or_default());
        }
        Command::FinishRotation { id, force } => {
            let path = format!("/v1/keys/{id}/rotate/finish");
            api.call(Method::POST, &path, Some(&json!({"force": force}))).await?;
            output::line(format!("the old secret of {id} has ended"));
        }
        Command::CancelRotation { id } => {
            api.call(Method::POST, &format!("/v1/keys/{id}/rotate/cancel"), None).await?;
            output::line(format!("the new secret of {id} has ended"));
        }
        Command::Usage { id, window } => usage(&api, &id, &window).await?,
        Command::RotateSigning => {
            let rotated = api.call(Method::POST, "/v1/signing-keys/rotate", None).await?;
            output::line(format!("{} signs access tokens from now on", rotated["kid"].as_str().unwrap_or_default()));
        }
        Command::Generate { test } => generate(test),
    }
    Ok(ExitCode::SUCCESS)
}

fn read_json(name: &'static str, text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::invalid("BODY_NOT_JSON", format!("--{name} is no JSON: {error}")))
}

async fn usage(api: &Api, id: &str, window: &str) -> Result<()> {
    let columns =
        ["hour", "operation", "outcome", "n_requests", "input_tokens", "output_tokens", "cost", "mean_duration_ms"];
    let answer = api.call(Method::GET, &format!("/v1/keys/{id}/usage?window={window}"), None).await?;
    print(&columns, answer["data"].as_array().into_iter().flatten());
    Ok(())
}
