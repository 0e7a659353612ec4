//! Settings from four layers, and how their errors read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use manifold_core::Secret;
use manifold_runtime::config::{ConfigError, Loaded, Problem, Sources, load};
use serde::Deserialize;

const DEFAULTS: &str = r#"
data_dir = "./data"
[edge]
listen = "127.0.0.1:8080"
workers = 4
compress = true
[egress]
allow = []
"#;

const ALIASES: &[(&str, &str)] = &[("GROQ_API_KEY", "providers.groq.api_key")];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    data_dir: PathBuf,
    edge: Edge,
    egress: Egress,
    #[serde(default)]
    providers: BTreeMap<String, Provider>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Edge {
    listen: SocketAddr,
    workers: u16,
    compress: bool,
    drain_seconds: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Egress {
    allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    api_key: Option<Secret<String>>,
    base_url: Option<String>,
}

fn read(file: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Loaded<Config>, ConfigError> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("manifold.toml");
    std::fs::write(&path, file).expect("it can be written");
    let own = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
    };
    load(&Sources {
        defaults: DEFAULTS,
        file: Some(path),
        env: own(env).into_iter().collect(),
        aliases: own(ALIASES),
        overrides: own(flags),
    })
}

fn problems(file: &str, env: &[(&str, &str)]) -> Vec<Problem> {
    read(file, env, &[]).expect_err("something is wrong").problems
}

#[test]
fn a_stronger_layer_wins() {
    let file = "data_dir = '/file'\n[edge]\nworkers = 5\nlisten = '127.0.0.1:1'";
    let env = [("MANIFOLD_EDGE__WORKERS", "6"), ("MANIFOLD_EDGE__LISTEN", "127.0.0.1:2")];

    let loaded = read(file, &env, &[("edge.listen", "127.0.0.1:3")]).unwrap();

    let Config { data_dir, edge, .. } = &loaded.value;
    assert_eq!((data_dir.to_str(), edge.workers, edge.listen.port(), edge.compress), (Some("/file"), 6, 3, true));
    assert!(loaded.origin("data_dir").unwrap().ends_with("manifold.toml"));
    assert_eq!(loaded.origin("edge.workers"), Some("environment variable MANIFOLD_EDGE__WORKERS"));
    assert_eq!(loaded.origin("edge.listen"), Some("the command line"));
    assert_eq!(loaded.origin("edge.compress"), Some("the defaults"));
}

#[test]
fn the_environment_speaks_text_and_is_read_as_what_is_wanted() {
    let env = [
        ("MANIFOLD_EGRESS__ALLOW", "localhost:1, 10.0.0.1:2"),
        ("MANIFOLD_EDGE__COMPRESS", "false"),
        ("MANIFOLD_EDGE__DRAIN_SECONDS", "25"),
        ("MANIFOLD_PROVIDERS__OLLAMA__BASE_URL", "http://127.0.0.1:11434"),
        ("MANIFOLD_PROVIDERS__OLLAMA__API_KEY", "007"),
    ];

    let config = read("", &env, &[]).unwrap().value;

    assert_eq!(config.egress.allow, ["localhost:1", "10.0.0.1:2"]);
    assert_eq!((config.edge.compress, config.edge.drain_seconds), (false, Some(25)));
    let ollama = &config.providers["ollama"];
    assert_eq!(ollama.base_url.as_deref(), Some("http://127.0.0.1:11434"));
    assert_eq!(ollama.api_key.as_ref().unwrap().expose(), "007");
}

#[test]
fn customary_names_count_unless_ours_is_set() {
    let key = |env: &[(&str, &str)]| {
        let config = read("", env, &[]).unwrap().value;
        config.providers.get("groq").and_then(|groq| groq.api_key.as_ref().map(|key| key.expose().clone()))
    };

    assert_eq!(key(&[("GROQ_API_KEY", "gsk_1")]).as_deref(), Some("gsk_1"));
    assert_eq!(
        key(&[("GROQ_API_KEY", "gsk_1"), ("MANIFOLD_PROVIDERS__GROQ__API_KEY", "gsk_2")]).as_deref(),
        Some("gsk_2")
    );
    assert_eq!(key(&[("GROQ_API_KEY", "")]), None);
}

#[test]
fn shown_settings_hide_secrets() {
    let env = [("GROQ_API_KEY", "gsk_canary"), ("MANIFOLD_PROVIDERS__GROQ__BASE_URL", "https://user:canary@host/v1")];

    let loaded = read("", &env, &[]).unwrap();

    let shown = format!("{:?}", loaded.settings);
    assert!(!shown.contains("canary"), "{shown}");
    assert_eq!(loaded.settings["providers.groq.base_url"].value, "\"https://user:***@host/v1\"");
}

#[test]
fn a_misspelt_key_names_the_file_and_what_was_meant() {
    let problems = problems("[edge]\nlisen = '127.0.0.1:1'", &[]);

    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!((problems[0].key.as_str(), problems[0].remedy.as_str()), ("edge.lisen", "did you mean edge.listen?"));
    assert!(problems[0].origin.ends_with("manifold.toml"));
}

#[test]
fn a_wrong_variable_is_named_and_its_value_is_not() {
    let env = [("MANIFOLD_EDGE__WORKERS", "many"), ("MANIFOLD_EDGE__LISTEN", "canary"), ("MANIFOLD_TYPO", "canary")];

    let problems = problems("", &env);

    let named: Vec<_> = problems.iter().map(|problem| (problem.key.as_str(), problem.origin.as_str())).collect();
    assert!(named.contains(&("edge.workers", "environment variable MANIFOLD_EDGE__WORKERS")), "{named:?}");
    assert!(named.contains(&("edge.listen", "environment variable MANIFOLD_EDGE__LISTEN")), "{named:?}");
    assert!(named.contains(&("typo", "environment variable MANIFOLD_TYPO")), "{named:?}");
    assert!(!format!("{problems:?}").contains("canary"));
    let workers = problems.iter().find(|problem| problem.key == "edge.workers").unwrap();
    assert_eq!(
        (workers.message.as_str(), workers.remedy.as_str()),
        ("this is text instead of u16", "the default is 4")
    );
}

#[test]
fn a_group_takes_no_value() {
    let problems = problems("", &[("MANIFOLD_EDGE", "on")]);

    assert_eq!(
        (problems[0].key.as_str(), problems[0].remedy.as_str()),
        ("edge", "set one of its keys, such as edge.compress")
    );
}

#[test]
fn a_file_that_is_no_toml_or_not_there_is_named() {
    let broken = problems("[edge\nlisten", &[]);
    let sources = Sources { defaults: DEFAULTS, file: Some("/nowhere/manifold.toml".into()), ..Sources::default() };
    let absent = load::<Config>(&sources).unwrap_err().to_string();

    assert!(broken[0].message.starts_with("this is not TOML"), "{broken:?}");
    assert!(absent.contains("(/nowhere/manifold.toml): the file cannot be read"), "{absent}");
}

#[test]
fn foreign_variables_are_ignored() {
    let env = [
        ("MANIFOLD_API_KEY", "x"),
        ("MANIFOLD_PORT", "tcp://10.0.0.1:80"),
        ("MANIFOLD_TEST__CLOCK", "1"),
        ("PATH", "/bin"),
    ];

    assert!(read("", &env, &[]).is_ok());
}
