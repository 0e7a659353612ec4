//! Which crate may use which: the table of docs/ARCHITECTURE.md, and the home of each fixed library.
#![expect(clippy::unwrap_used, reason = "the tree of the project is there")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use toml::Table;

/// Crate → crates of ours that it may use. Whatever is not here is a new arrow, and the biggest kind of change.
const ARROWS: &[(&str, &[&str])] = &[
    ("manifold-core", &[]),
    ("manifold-contract", &[]),
    ("manifold-store", &["manifold-core"]),
    ("manifold-cache", &["manifold-core"]),
    ("manifold-expr", &["manifold-core"]),
    ("manifold-runtime", &["manifold-core", "manifold-contract"]),
    ("manifold-bus", &["manifold-core", "manifold-contract", "manifold-store"]),
    (
        "manifold-identity",
        &[
            "manifold-core",
            "manifold-contract",
            "manifold-runtime",
            "manifold-store",
            "manifold-cache",
            "manifold-expr",
            "manifold-bus",
        ],
    ),
    (
        "manifold-ai-router",
        &["manifold-core", "manifold-contract", "manifold-runtime", "manifold-store", "manifold-cache", "manifold-bus"],
    ),
    (
        "manifold-edge",
        &[
            "manifold-core",
            "manifold-contract",
            "manifold-runtime",
            "manifold-store",
            "manifold-cache",
            "manifold-bus",
            "manifold-identity",
        ],
    ),
];

/// Library → crates that may use it.
const HOMES: &[(&str, &[&str])] = &[
    ("figment", &["manifold-runtime"]),
    ("hyper-rustls", &["manifold-runtime"]),
    ("opentelemetry_sdk", &["manifold-runtime"]),
    ("opentelemetry-otlp", &["manifold-runtime"]),
    ("metrics-exporter-prometheus", &["manifold-runtime"]),
    ("axum", &["manifold-edge"]),
    ("utoipa", &["manifold-edge"]),
    ("redis", &["manifold-cache"]),
    ("cel", &["manifold-expr"]),
    ("aes-gcm", &["manifold-identity"]),
    ("argon2", &["manifold-identity"]),
    ("ring", &["manifold-identity"]),
    ("hmac", &["manifold-identity"]),
    ("sha1", &["manifold-identity"]),
    ("getrandom", &["manifold-identity"]),
    ("md-5", &[]),
    ("rand", &[]),
    ("fastrand", &[]),
    ("rsa", &[]),
    ("prost", &["manifold-contract", "manifold-runtime", "manifold-bus"]),
];

/// Crates that may use everything.
const ABOVE: &[&str] = &["manifold", "manifold-testkit", "manifold-tests"];

fn manifests() -> BTreeMap<String, Table> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let crates = fs::read_dir(root.join("crates")).unwrap().map(|entry| entry.unwrap().path().join("Cargo.toml"));
    let read = |path: std::path::PathBuf| {
        let table: Table = fs::read_to_string(path).unwrap().parse().unwrap();
        (table["package"]["name"].as_str().unwrap().to_owned(), table)
    };
    crates.map(read).collect()
}

fn dependencies(manifest: &Table) -> BTreeSet<String> {
    manifest
        .get("dependencies")
        .and_then(|table| table.as_table())
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect()
}

#[test]
fn arrows_point_down_only() {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    for (name, manifest) in manifests() {
        if ABOVE.contains(&name.as_str()) {
            continue;
        }
        let allowed = arrows.get(name.as_str()).unwrap_or_else(|| panic!("{name} has no place in the house"));
        for dependency in dependencies(&manifest).into_iter().filter(|dependency| dependency.starts_with("manifold")) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not use {dependency}");
        }
    }
}

#[test]
fn each_fixed_library_stays_at_home() {
    for (name, manifest) in manifests() {
        let used = dependencies(&manifest);
        for (library, homes) in HOMES {
            assert!(!used.contains(*library) || homes.contains(&name.as_str()), "{name} must not use {library}");
        }
    }
}

#[test]
fn every_crate_keeps_the_lints_of_the_house() {
    for (name, manifest) in manifests() {
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{name}");
    }
}

#[test]
fn every_dependency_says_why_it_is_there() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml")).unwrap();
    let section = text.split("[workspace.dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    for line in section.lines().filter(|line| line.contains("version =") && !line.contains("path =")) {
        assert!(line.contains(" # "), "no reason: {line}");
    }
}
