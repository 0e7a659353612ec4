//! `manifold users`: people and invitations of a running server, through its public REST like any other client.

use std::process::ExitCode;

use clap::Subcommand;
use http::Method;
use manifold_core::Result;
use serde_json::{Value, json};

use crate::command::api::{Api, print};
use crate::config::Config;
use crate::output;

/// `manifold users …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List people and their roles
    List,
    /// Invite somebody; without a mail server, print the token, once: it is for POST /v1/auth/register
    Invite {
        /// The person's e-mail address
        email: String,
        /// What the person will be: owner, admin, operator, developer or viewer
        #[arg(long, default_value = "developer")]
        role: String,
    },
    /// List invitations that nobody has followed yet
    Invitations,
    /// Take an invitation back
    Uninvite {
        /// Its id, `inv_…`
        id: String,
    },
    /// Give a person these roles and no others
    Roles {
        /// Id of the person, `usr_…`
        id: String,
        /// Names of roles
        #[arg(required = true)]
        roles: Vec<String>,
    },
    /// Print a token for a new password, once: it is for POST /v1/auth/reset
    ResetLink {
        /// Id of the person, `usr_…`
        id: String,
    },
    /// Remove the second factor and recovery codes of a person who lost them; the person's sessions end
    ResetFactors {
        /// Id of the person, `usr_…`
        id: String,
    },
    /// Remove a person
    Remove {
        /// Id of the person, `usr_…`
        id: String,
    },
}

/// Calls the server.
pub async fn run(config: Config, command: Command) -> Result<ExitCode> {
    let api = Api::new(&config)?;
    match command {
        Command::List => print(&["id", "email", "name", "roles", "joined_at"], &api.list("/v1/users").await?),
        Command::Invite { email, role } => {
            let invitation = json!({"email": email, "role": role});
            show_token(&api.call(Method::POST, "/v1/invitations", Some(&invitation)).await?);
        }
        Command::Invitations => {
            print(&["id", "email", "role", "invited_by", "expires_at"], &api.list("/v1/invitations").await?);
        }
        Command::Uninvite { id } => {
            api.call(Method::DELETE, &format!("/v1/invitations/{id}"), None).await?;
            output::line(format!("{id} does not work any more"));
        }
        Command::Roles { id, roles } => {
            let person = api.call(Method::PATCH, &format!("/v1/users/{id}"), Some(&json!({"roles": roles}))).await?;
            print(&["id", "email", "name", "roles"], [&person]);
        }
        Command::ResetLink { id } => {
            show_token(&api.call(Method::POST, &format!("/v1/users/{id}/reset-link"), None).await?);
        }
        Command::ResetFactors { id } => {
            api.call(Method::DELETE, &format!("/v1/users/{id}/factors"), None).await?;
            output::line(format!("{id} logs in with the password alone now"));
        }
        Command::Remove { id } => {
            api.call(Method::DELETE, &format!("/v1/users/{id}"), None).await?;
            output::line(format!("{id} is no member any more"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_token(answer: &Value) {
    output::line(answer["token"].as_str().unwrap_or("the token is in the mail"));
}
