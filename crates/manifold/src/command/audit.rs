//! `manifold audit`: what was done, of a running server through its public REST; and exports, verified by themselves.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use http::Method;
use manifold_core::{Code, Result, ResultExt};
use manifold_identity::verify_audit_file;
use serde_json::Value;
use url::form_urlencoded::Serializer;

use crate::command::api::{Api, print};
use crate::config::Config;
use crate::output;

/// `manifold audit …`
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what was done, newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many, 1 to 200
        #[arg(long, value_name = "N", default_value_t = 50)]
        limit: u32,
    },
    /// Write what was done into a file, oldest first
    Export {
        #[command(flatten)]
        filter: Filter,
        /// ndjson, which can be verified, or csv
        #[arg(long, default_value = "ndjson")]
        format: String,
        /// The file
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Look whether the record is whole: the server's, or an exported one without any server
    Verify {
        /// An export as NDJSON, whole or from some time on
        #[arg(long, value_name = "FILE", requires = "key")]
        file: Option<PathBuf>,
        /// The public key that `manifold audit key` printed
        #[arg(long, value_name = "KEY", requires = "file")]
        key: Option<String>,
    },
    /// List what looks like an attack, newest first
    Incidents,
    /// Note that an incident was looked into
    Acknowledge {
        /// Its id, `inc_…`
        id: String,
    },
    /// List the networks that nothing is taken from
    Blocks,
    /// Take from a network again
    Unblock {
        /// Id of the block, `blk_…`
        id: String,
    },
    /// Print the public key that signs the record; keep it elsewhere
    Key,
}

/// Which entries.
#[derive(Args, Debug)]
pub struct Filter {
    /// Who did it, such as usr_… or key_…
    #[arg(long)]
    actor: Option<String>,
    /// What was done, such as identity.key.created
    #[arg(long)]
    action: Option<String>,
    /// To what, such as key_…
    #[arg(long)]
    target: Option<String>,
    /// ok, failed or denied
    #[arg(long)]
    outcome: Option<String>,
    /// Not before, as 2026-11-20T00:00:00Z
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Before, as 2026-11-21T00:00:00Z
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

impl Filter {
    /// The address of these entries.
    fn path(&self, path: &str, others: &[(&str, &str)]) -> String {
        let mut query = Serializer::new(String::new());
        let filters = [
            ("actor", &self.actor),
            ("action", &self.action),
            ("target", &self.target),
            ("outcome", &self.outcome),
            ("from", &self.from),
            ("to", &self.to),
        ];
        query.extend_pairs(filters.iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value))));
        format!("{path}?{}", query.extend_pairs(others).finish())
    }
}

/// Calls the server, or reads a file.
pub async fn run(config: Config, command: Command) -> Result<ExitCode> {
    if let Command::Verify { file: Some(file), key: Some(key) } = &command {
        return verify_file(file, key);
    }
    let api = Api::new(&config)?;
    match command {
        Command::List { filter, limit } => {
            let path = filter.path("/v1/audit", &[("limit", &limit.to_string())]);
            let page = api.call(Method::GET, &path, None).await?;
            let columns = ["seq", "at", "actor", "action", "target", "outcome"];
            print(&columns, page["data"].as_array().into_iter().flatten());
        }
        Command::Export { filter, format, output } => {
            let file = File::create(&output).or_err(Code::Invalid, "create the file")?;
            let mut file = BufWriter::new(file);
            api.download(&filter.path("/v1/audit/export", &[("format", &format)]), &mut file).await?;
            file.flush().or_err(Code::Internal, "write the file")?;
            output::line(output.display().to_string());
        }
        Command::Verify { .. } => return Ok(report(&api.call(Method::POST, "/v1/audit/verify", None).await?)),
        Command::Incidents => {
            let columns = ["id", "rule", "severity", "subject", "count", "last_at", "seen", "acknowledged_by"];
            print(&columns, &api.list("/v1/audit/incidents").await?);
        }
        Command::Acknowledge { id } => {
            api.call(Method::POST, &format!("/v1/audit/incidents/{id}/acknowledge"), None).await?;
            output::line(format!("{id} is acknowledged"));
        }
        Command::Blocks => {
            let blocks = api.call(Method::GET, "/v1/audit/blocks", None).await?;
            let columns = ["id", "network", "rule", "created_at", "expires_at"];
            print(&columns, blocks["data"].as_array().into_iter().flatten());
        }
        Command::Unblock { id } => {
            api.call(Method::DELETE, &format!("/v1/audit/blocks/{id}"), None).await?;
            output::line(format!("{id} is over"));
        }
        Command::Key => {
            let verdict = api.call(Method::POST, "/v1/audit/verify", None).await?;
            output::line(verdict["key"]["public"].as_str().unwrap_or_default());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn verify_file(path: &Path, key: &str) -> Result<ExitCode> {
    let file = BufReader::new(File::open(path).or_err(Code::Invalid, "open the file")?);
    let verdict = verify_audit_file(file, key)?;
    Ok(report(&serde_json::json!({
        "intact": verdict.broken.is_none(),
        "first_bad_seq": verdict.broken.map(|broken| broken.seq),
        "fault": verdict.broken.map(|broken| broken.fault.name()),
        "n_entries": verdict.n_entries,
        "n_erased": verdict.n_erased,
        "n_checkpoints": verdict.n_checkpoints,
    })))
}

/// Says what came of it; the exit code is 1 if the record is not whole.
fn report(verdict: &Value) -> ExitCode {
    let counts = format!(
        "{} entries, {} of them with an erased detail, {} signatures",
        verdict["n_entries"], verdict["n_erased"], verdict["n_checkpoints"]
    );
    if verdict["intact"] == true {
        output::line(format!("intact: {counts}"));
        return ExitCode::SUCCESS;
    }
    let fault = verdict["fault"].as_str().unwrap_or_default();
    output::line(format!("broken at seq {}: {fault}; before it {counts}", verdict["first_bad_seq"]));
    ExitCode::FAILURE
}
