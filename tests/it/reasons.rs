//! Every reason that an error can have leads its reader to a page, and no page is about an error that cannot happen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use crate::story;

/// Functions whose first argument is a reason, whatever it looks like.
const MAKERS: [&str; 3] = ["invalid", "not_found", "bad"];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.to_string_lossy().ends_with(".rs") && !path.to_string_lossy().ends_with("tests.rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// Code without comments and without the tests at its end.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Words in upper snake case that stand where errors take their reason.
fn reasons(code: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (start, _) in code.match_indices('"') {
        let (before, rest) = (code[..start].trim_end(), &code[start + 1..]);
        let Some((word, after)) = rest.split_once('"') else { break };
        let upper = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        let named = word.starts_with(|first: char| first.is_ascii_uppercase()) && word.bytes().all(upper);
        if named && is_reason(before, word, after.trim_start()) {
            found.insert(word);
        }
    }
    found
}

fn is_reason(before: &str, word: &str, after: &str) -> bool {
    // `let reason = if … { "A" } else { "B" };`
    let binding = before.rsplit("let ").next().unwrap_or_default();
    if binding.starts_with("reason =") && !binding.contains(';') {
        return true;
    }
    // `invalid("A", …)`, or a helper that hands its first argument on.
    if let Some(call) = before.strip_suffix('(') {
        let name =
            call.rsplit(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_')).next().unwrap_or_default();
        let helper =
            name.starts_with(|first: char| first.is_ascii_lowercase()) && word.contains('_') && after.starts_with(',');
        let pair =
            call.trim_end().ends_with("=>") && after.starts_with(',') && after[1..].trim_start().starts_with('"');
        return MAKERS.contains(&name) || helper || pair;
    }
    // `Error::new(code, "A", …)`, `(Code::Invalid, "A")`.
    let Some(arguments) = before.strip_suffix(',') else { return false };
    let (call, first) = arguments.rsplit_once('(').unwrap_or(("", arguments));
    let coded = first.trim().rsplit_once("::").is_some_and(|(path, _)| path.ends_with("Code"));
    coded || ((call.ends_with("Error::new") || call.ends_with("Refusal::new")) && !first.contains(['"', ',']))
}

/// Every reason in the code of the house, and a file that uses it.
fn used() -> Result<BTreeMap<String, PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(crates())? {
        let folder = entry?.path();
        if !folder.ends_with("testkit") {
            sources(&folder.join("src"), &mut files)?;
        }
    }
    let mut used = BTreeMap::new();
    for path in files {
        let code = code(&fs::read_to_string(&path)?);
        used.extend(reasons(&code).into_iter().map(|reason| (reason.to_owned(), path.clone())));
    }
    Ok(used)
}

fn pages() -> Result<BTreeSet<String>> {
    let mut pages = BTreeSet::new();
    for entry in fs::read_dir(crates().join("core/errors"))? {
        pages.extend(entry?.path().file_stem().map(|reason| reason.to_string_lossy().into_owned()));
    }
    Ok(pages)
}

#[test]
fn the_scan_sees_every_way_to_name_a_reason() {
    let code = r#"
        Error::new(Code::Denied, "ONE", "x"); Error::new(
            manifold_core::Code::Timeout,
            "TWO_LINES", "x"); Refusal::new(StatusCode::NOT_FOUND, "THREE", "x");
        Error::invalid("FOUR", "x").at("p"); Refusal::bad("FIVE", format!("x"));
        let reason = if full { "SIX" } else { "SEVEN" };
        wrong("EIGHT_HELPED", &path); Self::Full => ("NINE", "x"), Grpc::Ok => (Code::Internal, "TEN"),
        Some("NOT_THIS") => "NOR_THIS", matches!(word, "NOR_THAT"), Mode::Any => ("ANY", None), record("status", "ERROR");
    "#;

    let expected = ["ONE", "TWO_LINES", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT_HELPED", "NINE", "TEN"];
    assert_eq!(reasons(code), BTreeSet::from(expected));
}

#[test]
fn every_reason_has_a_page() -> Result<()> {
    let pages = pages()?;

    let without: Vec<_> = used()?.into_iter().filter(|(reason, _)| !pages.contains(reason)).collect();

    assert!(without.is_empty(), "write crates/core/errors/<REASON>.md for {without:#?}");
    Ok(())
}

#[test]
fn every_page_is_about_a_reason_that_the_code_uses() -> Result<()> {
    let used = used()?;

    let idle: Vec<_> = pages()?.into_iter().filter(|page| !used.contains_key(page)).collect();

    assert!(idle.is_empty(), "no code gives these reasons: {idle:?}");
    Ok(())
}

story!(the_help_of_a_problem_is_a_page_for_everybody, |builder| {
    let sandbox = builder.start().await?;
    let stranger = sandbox.admin.with_key(None);
    let problems = [
        stranger.get("/v1/nothing").await?,
        stranger.get("/v1/keys").await?,
        sandbox.admin.get("/v1/keys?limit=0").await?,
    ];

    for problem in problems {
        let (code, help) = (problem.json()["code"].clone(), problem.json()["help"].clone());
        let page = stranger.get(help.as_str().unwrap_or_default()).await?;
        let heading = format!("# {}\n", code.as_str().unwrap_or_default().to_uppercase());
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, "text/markdown; charset=utf-8"),
            "{help} {}",
            page.text
        );
        assert!(page.text.starts_with(&heading), "{}", page.text);
    }

    let unknown = stranger.get("/docs/errors/nobody_said_this").await?;
    assert_eq!((unknown.status, unknown.header("content-type")), (404, "application/problem+json"));
    assert_eq!(unknown.json()["help"], json!("/docs/errors/route_not_found"));
    sandbox.stop().await?;
    Ok(())
});
