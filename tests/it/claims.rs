//! What docs/attack-cases.md and tests/asvs.csv claim: each of their rows names tests that there are, or says why not.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Result, bail};

use crate::hygiene;

/// Something that is claimed, the tests that hold it, and what is said beside them.
struct Claim {
    what: String,
    tests: Vec<String>,
    note: String,
}

fn text_of(file: &str) -> Result<String> {
    Ok(fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file))?)
}

fn owned<'a>(tests: impl Iterator<Item = &'a str>) -> Vec<String> {
    tests.map(str::to_owned).collect()
}

/// Rows of docs/attack-cases.md.
fn cases() -> Result<Vec<Claim>> {
    let text = text_of("docs/attack-cases.md")?;
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let number = cells.next().filter(|number| number.parse::<u32>().is_ok())?;
        let note = cells.nth(1)?;
        let tests = owned(note.split('`').skip(1).step_by(2));
        Some(Claim { what: number.to_owned(), tests, note: note.to_owned() })
    });
    Ok(rows.collect())
}

/// Rows of tests/asvs.csv, whose cells hold no commas.
fn requirements() -> Result<Vec<Claim>> {
    let text = text_of("tests/asvs.csv")?;
    let rows = text.lines().skip(1).map(|line| {
        let cells: Vec<_> = line.split(',').collect();
        let [what, "1" | "2", _, tests, note] = cells[..] else { bail!("this is no row: {line}") };
        Ok(Claim { what: what.to_owned(), tests: owned(tests.split_whitespace()), note: note.to_owned() })
    });
    rows.collect()
}

#[test]
fn every_case_and_every_requirement_names_tests_that_there_are_or_says_why_not() -> Result<()> {
    let code: String = hygiene::all().into_iter().map(|(_, text)| text).collect();
    let (cases, requirements) = (cases()?, requirements()?);
    let headings = text_of("docs/security.md")?.to_lowercase().replace(' ', "-");

    let numbers: Vec<_> = cases.iter().map(|case| case.what.clone()).collect();
    assert_eq!(numbers, (1..=35).chain(61..=78).map(|number| number.to_string()).collect::<Vec<_>>());
    // So many have level 1 or 2 in these eight chapters.
    let names: BTreeSet<_> = requirements.iter().map(|one| one.what.clone()).collect();
    assert_eq!((names.len(), requirements.len()), (139, 139));
    for Claim { what, tests, note } in cases.into_iter().chain(requirements) {
        let why = ["not here: ", "by documentation: docs/security.md#", "by configuration of the operator: "];
        let is_held = !tests.is_empty() || why.iter().any(|kind| note.starts_with(kind));
        assert!(is_held && !note.contains("missing: "), "{what}: {note}");
        for section in note.split("docs/security.md#").skip(1).filter_map(|rest| rest.split_whitespace().next()) {
            assert!(
                headings.lines().any(|line| line.trim_start_matches('#') == format!("-{section}")),
                "{what}: {note}"
            );
        }
        for test in tests {
            let found = [format!("fn {test}("), format!("story!({test},")].iter().any(|form| code.contains(form));
            assert!(found, "{what}: there is no test {test}");
        }
    }
    Ok(())
}
