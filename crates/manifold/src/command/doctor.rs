//! `manifold doctor`: looks at everything that usually goes wrong, and says how to mend it. Works with the server running
//! or stopped. Exit code 1 if something does not work.

mod risk;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;

use manifold_ai_router::{Finding, Severity};
use manifold_core::{Clock, Result};
use manifold_runtime::config::Loaded;
use manifold_store::{Db, Location, WriterConfig};
use serde_json::json;

use crate::config::Config;
use crate::{node, output};

/// Examines everything and prints the report.
pub async fn run(
    loaded: Result<Loaded<Config>>,
    environment: BTreeMap<String, String>,
    offline: bool,
    as_json: bool,
) -> Result<ExitCode> {
    let findings = match loaded {
        Ok(loaded) => examine(&loaded, &environment, offline).await,
        Err(error) => vec![Finding::new(
            "configuration",
            Severity::Fail,
            error.message(),
            "correct it; every setting is explained in config.default.toml",
        )],
    };
    if as_json {
        output::json(&findings.iter().map(to_json).collect::<Vec<_>>());
    } else {
        findings.iter().for_each(print);
    }
    let failed = findings.iter().any(|finding| finding.severity == Severity::Fail);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn examine(loaded: &Loaded<Config>, environment: &BTreeMap<String, String>, offline: bool) -> Vec<Finding> {
    let config = &loaded.value;
    let set = loaded.settings.values().filter(|setting| setting.origin != "the defaults").count();
    let mut findings = vec![Finding::new(
        "configuration",
        Severity::Ok,
        format!("valid, with {set} settings beside the defaults"),
        "",
    )];
    findings.push(data_folder(&config.data_dir));
    findings.push(open_files());
    findings.extend(databases(config).await);
    findings.extend(redis(config).await);
    findings.push(mail(config).await);
    findings.extend(risk::find(loaded, environment));
    match providers(config, offline).await {
        Ok(more) => findings.extend(more),
        Err(error) => {
            findings.push(Finding::new("providers", Severity::Fail, error.message(), "correct the section [ai]"));
        }
    }
    findings
}

fn to_json(finding: &Finding) -> serde_json::Value {
    json!({"id": finding.id, "state": word(finding.severity), "found": finding.found, "remedy": finding.remedy})
}

fn print(finding: &Finding) {
    let remedy = if finding.remedy.is_empty() { String::new() } else { format!(" → {}", finding.remedy) };
    output::line(format!("{:4} {:22} {}{remedy}", word(finding.severity), finding.id, finding.found));
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Ok => "ok",
        Severity::Warn => "warn",
        Severity::Fail => "fail",
        Severity::Skip => "skip",
    }
}

fn data_folder(folder: &Path) -> Finding {
    let shown = folder.display();
    match std::fs::metadata(folder) {
        Err(_) => Finding::new("data_dir", Severity::Ok, format!("{shown} will be made at the first start"), ""),
        Ok(found) if !found.is_dir() => {
            Finding::new("data_dir", Severity::Fail, format!("{shown} is no folder"), "set data_dir")
        }
        Ok(found) if found.permissions().mode() & 0o077 != 0 => Finding::new(
            "data_dir",
            Severity::Warn,
            format!("{shown} can be read by others"),
            format!("chmod 700 {shown}"),
        ),
        Ok(_) => Finding::new("data_dir", Severity::Ok, format!("{shown} belongs to its owner alone"), ""),
    }
}

/// Every connection is an open file.
fn open_files() -> Finding {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<u64>().ok());
    match soft {
        Some(limit) if limit < 4_096 => {
            Finding::new("open_files", Severity::Warn, format!("at most {limit} open files"), "ulimit -n 65536")
        }
        Some(limit) => Finding::new("open_files", Severity::Ok, format!("up to {limit}"), ""),
        None => Finding::new("open_files", Severity::Skip, "the system does not tell", ""),
    }
}

async fn databases(config: &Config) -> Vec<Finding> {
    let location = match Location::parse(&config.store.url, &config.data_dir) {
        Ok(location) => location,
        Err(error) => return vec![Finding::new("database", Severity::Fail, error.message(), "correct store.url")],
    };
    let bus = manifold_bus::migrations();
    let mut findings = Vec::new();
    for (service, migrations) in
        [("identity", manifold_identity::migrations()), ("ai-router", manifold_ai_router::migrations())]
    {
        let id = format!("database.{service}");
        if matches!(&location, Location::Sqlite { folder } if !folder.join(format!("{service}.db")).exists()) {
            findings.push(Finding::new(id, Severity::Ok, "will be made at the first start", ""));
            continue;
        }
        findings.push(match Db::pending(&location, service, &[&bus, &migrations]).await {
            Ok(pending) if pending.is_empty() => Finding::new(id, Severity::Ok, "reachable, schema up to date", ""),
            Ok(pending) => Finding::new(
                id,
                Severity::Warn,
                format!("reachable, {} migrations wait", pending.len()),
                "manifold db migrate, or start the server",
            ),
            Err(error) => Finding::new(id, Severity::Fail, error.message(), "start the database, or correct store.url"),
        });
    }
    findings
}

/// Whether people get mail, and whether strangers register.
async fn mail(config: &Config) -> Finding {
    let (has_mail, open) = (!config.mail.url.expose().is_empty(), is_open(config).await);
    match (has_mail, open) {
        (false, true) => {
            let found = "anybody may register, and there is no mail server: the server does not start";
            Finding::new("mail", Severity::Fail, found, "set mail.url")
        }
        (false, false) => Finding::new("mail", Severity::Ok, "no mail server: who invites hands the tokens out", ""),
        (true, true) => {
            let found = "anybody who has an address may register";
            let remedy = "set registration of the first tenant to invite, unless it is meant so";
            Finding::new("mail", Severity::Warn, found, remedy)
        }
        (true, false) => Finding::new("mail", Severity::Ok, "a mail server, and nobody registers uninvited", ""),
    }
}

/// Whether strangers register; no where nobody can tell.
async fn is_open(config: &Config) -> bool {
    let Ok(location) = Location::parse(&config.store.url, &config.data_dir) else { return false };
    if matches!(&location, Location::Sqlite { folder } if !folder.join("identity.db").exists()) {
        return false;
    }
    let (bus, own) = (manifold_bus::migrations(), manifold_identity::migrations());
    if !Db::pending(&location, "identity", &[&bus, &own]).await.is_ok_and(|pending| pending.is_empty()) {
        return false;
    }
    match Db::open(&location, "identity", &[&bus, &own], &WriterConfig::default()).await {
        Ok((db, _)) => manifold_identity::is_open(&db).await.unwrap_or(false),
        Err(_) => false,
    }
}

/// Not there is a warning only: requests go on without it.
async fn redis(config: &Config) -> Option<Finding> {
    let redis = config.cache.redis().ok()??;
    Some(match redis.refresh().await {
        Ok(()) => Finding::new("redis", Severity::Ok, "reachable", ""),
        Err(error) => {
            let remedy = "start Redis, correct cache.redis_url, or mend what keeps Redis from taking writes";
            Finding::new("redis", Severity::Warn, error.message().to_owned(), remedy)
        }
    })
}

async fn providers(config: &Config, offline: bool) -> Result<Vec<Finding>> {
    let http = node::http_client(config)?;
    manifold_ai_router::examine(&config.ai, &http, Clock::system().now(), offline).await
}
