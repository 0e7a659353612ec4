//! The text of the project: sizes of files, and what must not be in it.
#![expect(clippy::unwrap_used, reason = "the tree of the project is there")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "node_modules") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every source file, with its text.
pub fn all() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in ["crates", "tests"] {
        sources(&root.join(folder), &mut found);
    }
    found.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}

#[test]
fn files_are_short() {
    let mut lines: Vec<_> = all().iter().map(|(path, text)| (text.lines().count(), path.clone())).collect();
    lines.sort();
    let (longest, path) = lines.last().unwrap();

    assert!(*longest <= 700, "{} has {longest} lines: split it", path.display());
    assert!(lines[lines.len() / 2].0 <= 150, "the median file has {} lines", lines[lines.len() / 2].0);
}

#[test]
fn every_file_says_what_lives_in_it() {
    for (path, text) in all() {
        let said =
            text.starts_with("//!") || path.to_string_lossy().ends_with("_tests.rs") || path.ends_with("tests.rs");
        assert!(said, "{} does not begin with //!", path.display());
    }
}

#[test]
fn nothing_is_unfinished_or_switched_off() {
    let forbidden = [
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("#[", "ignore"),
        concat!("#[", "allow("),
        concat!("FIX", "ME"),
        concat!("dbg", "!("),
    ];
    for (path, text) in all() {
        for word in forbidden {
            assert!(!text.contains(word), "{} contains {word}", path.display());
        }
    }
}

#[test]
fn alerts_name_metrics_that_exist_and_say_what_to_do() {
    let rules = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts.yaml")).unwrap();
    let code: String =
        all().into_iter().filter(|(path, _)| path.to_string_lossy().contains("/src/")).map(|(_, text)| text).collect();
    let alerts: Vec<_> = rules.split("- alert: ").skip(1).collect();

    assert!(alerts.len() >= 10, "there are {} alerts", alerts.len());
    for alert in &alerts {
        let name = alert.lines().next().unwrap();
        for part in ["expr: ", "labels: { severity: ", "annotations:\n", "summary: ", "description: "] {
            assert_eq!(alert.matches(part).count(), 1, "{name}: {part}");
        }
        let expression = alert.split("expr: ").nth(1).unwrap().split("labels: ").next().unwrap();
        let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let metrics: Vec<_> = words.filter(|word| word.starts_with("manifold_")).collect();
        assert!(!metrics.is_empty() || expression.contains("up{job="), "{name} looks at nothing of ours");
        for metric in metrics {
            // The exporter adds the ending to histograms.
            let metric = metric.strip_suffix("_bucket").unwrap_or(metric);
            assert!(code.contains(&format!("\"{metric}\"")), "{name}: there is no metric {metric}");
        }
    }
}
