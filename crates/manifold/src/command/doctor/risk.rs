//! Settings that work and may hurt: who can read along, who may call, what a thief of one folder has.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use http::Uri;
use manifold_ai_router::{Finding, Severity};
use manifold_identity::{MasterKey, MasterSource};
use manifold_runtime::config::Loaded;

use crate::config::Config;

/// How `config show` and reports print what must not be seen.
const HIDDEN: &str = "***";

/// Everything that is risky.
pub fn find(loaded: &Loaded<Config>, environment: &BTreeMap<String, String>) -> Vec<Finding> {
    let config = &loaded.value;
    let found =
        [plain_http(config), cors(config), management(config), admin_key(config), master_key(config), no_limit(config)];
    let found = found.into_iter().flatten().chain(readable_secrets(loaded)).chain(proxy(environment));
    found.map(|(id, found, remedy)| Finding::new(format!("risk.{id}"), Severity::Warn, found, remedy)).collect()
}

/// The last part of the finding's id, what was found, and what to do about it.
type Risk = (&'static str, String, String);

fn risk(id: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Option<Risk> {
    Some((id, found.into(), remedy.into()))
}

/// The server itself speaks no TLS, so in a network it stands behind what does.
fn plain_http(config: &Config) -> Option<Risk> {
    let (listen, edge) = (config.edge.listen, &config.edge);
    if listen.ip().is_loopback() {
        return None;
    }
    if edge.trusted_proxies.is_empty() {
        let remedy = "put a TLS proxy in front and name it in edge.trusted_proxies";
        return risk("plain_http", format!("{listen} is open to the network without TLS"), remedy);
    }
    if !edge.public_url.starts_with("https://") {
        let remedy = "set edge.public_url to the https address of the TLS proxy";
        return risk(
            "plain_http",
            format!("{listen} is open to the network, and no https address leads to it"),
            remedy,
        );
    }
    None
}

/// With patterns the server does not start.
fn cors(config: &Config) -> Option<Risk> {
    let is_plain = |origin: &&String| {
        let uri: Option<Uri> = origin.parse().ok().filter(|uri: &Uri| uri.scheme_str() == Some("http"));
        uri.is_some_and(|uri| !matches!(uri.host(), Some("localhost" | "127.0.0.1" | "[::1]")))
    };
    let plain = config.edge.cors_origins.iter().find(is_plain)?;
    let found = format!("pages of {plain} may call, and whoever is on their way to the browser can change them");
    risk("cors", found, "name https origins only in edge.cors_origins")
}

fn management(config: &Config) -> Option<Risk> {
    let listen = config.management.listen;
    let found = || format!("metrics at {listen} are open to the network");
    (!listen.ip().is_loopback())
        .then(found)
        .and_then(|found| risk("management", found, "keep the port away from the internet"))
}

fn admin_key(config: &Config) -> Option<Risk> {
    let found = "admin.key still lies in the data folder";
    config.admin_key_file().exists().then(|| risk("admin_key", found, "store it elsewhere and delete the file"))?
}

/// A master key in the data folder: on SQLite whoever copies the folder has both, on Postgres only this machine has it.
fn master_key(config: &Config) -> Option<Risk> {
    let folder = config.data_dir();
    let is_inside =
        |file: &Path| file.exists() && std::path::absolute(file).is_ok_and(|file| file.starts_with(&folder));
    let keys = config.master_keys();
    let key = keys.iter().find(|key| file_of(key).is_some_and(is_inside))?;
    if config.store.url.expose().is_empty() {
        let remedy = "name a file elsewhere in identity.master_keys, or keep it out of backups of the data folder";
        return risk("master_key", format!("{key} lies beside the databases that it protects"), remedy);
    }
    let found =
        format!("{key} lies in the data folder of this machine alone: who loses it loses every secret of the database");
    risk("master_key", found, "keep it in a secret store that all processes read, and name it in identity.master_keys")
}

fn file_of(key: &MasterKey) -> Option<&Path> {
    match &key.source {
        MasterSource::File(file) => Some(file),
        MasterSource::Variable(..) => None,
    }
}

/// Files with secrets that every account of the machine reads.
fn readable_secrets(loaded: &Loaded<Config>) -> Vec<Risk> {
    let config = &loaded.value;
    let keys = config.master_keys();
    let keys = keys.iter().filter_map(|key| file_of(key).map(Path::to_owned));
    let settings = loaded.settings.values().filter(|setting| setting.value.contains(HIDDEN));
    let settings = settings.map(|setting| PathBuf::from(&setting.origin));
    let all: BTreeSet<_> =
        keys.chain(settings).chain([config.admin_key_file(), config.data_dir().join("setup.token")]).collect();
    let is_readable = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o004 != 0)
    };
    let risky = all.into_iter().filter(is_readable).filter_map(|file| {
        let shown = file.display();
        let found = format!("{shown} holds a secret, and everybody on this machine can read it");
        risk("readable_secret", found, format!("chmod 600 {shown}"))
    });
    risky.collect()
}

fn no_limit(config: &Config) -> Option<Risk> {
    config
        .edge
        .limits
        .is_empty()
        .then(|| risk("no_limit", "nobody's requests are limited", "set [edge.limits.per_key]"))?
}

fn proxy(environment: &BTreeMap<String, String>) -> Option<Risk> {
    let names = ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"];
    let name = names.into_iter().find(|name| environment.contains_key(*name))?;
    let found = format!("{name} is set and ignored: providers are called directly");
    risk("proxy", found, "allow the way to the providers")
}
