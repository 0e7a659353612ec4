//! The file that a chain is exported to: how its lines are written, and verified by who has nothing but the file.
//!
//! NDJSON begins with a line that tells the tenant, the number of the last entry and all checkpoints; then each line is an
//! entry: what is chained, its detail and its hash. CSV is for people: it cannot be verified.

use std::borrow::Cow;
use std::io::BufRead;

use manifold_core::{Code, Error, Result, ResultExt, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::chain::Entry;
use super::checkpoint::{Checkpoint, read_public};
use super::verify::{Verdict, Verifier};
use crate::hex::to_hex;

/// First line of a CSV file.
pub const HEADING: &str = "seq,at,actor,action,target,outcome,request_id,trace_id,detail,detail_sha256,hash\r\n";
/// What the first line of an NDJSON file calls itself.
const NAME: &str = "manifold-audit-v1";

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object per line. It can be verified.
    Ndjson,
    /// For spreadsheets (RFC 4180).
    Csv,
}

impl Format {
    /// `ndjson` or `csv`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::Csv => "csv",
        }
    }

    /// Reads [`Format::name`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Ndjson, Self::Csv].into_iter().find(|format| format.name() == text)
    }
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head<'h> {
    format: Cow<'h, str>,
    tenant: Cow<'h, str>,
    last: i64,
    checkpoints: Vec<Signed>,
}

/// A checkpoint in the first line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    seq: i64,
    hash: String,
    at: i64,
    kid: String,
    signature: String,
}

/// Any other line.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    #[serde(borrow)]
    action: Cow<'l, str>,
    #[serde(borrow)]
    actor: Cow<'l, str>,
    at: i64,
    #[serde(borrow)]
    detail: Option<&'l RawValue>,
    #[serde(borrow)]
    detail_sha256: Cow<'l, str>,
    #[serde(borrow)]
    hash: Cow<'l, str>,
    #[serde(borrow)]
    outcome: Cow<'l, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    request_id: Option<Cow<'l, str>>,
    seq: i64,
    #[serde(borrow)]
    target: Cow<'l, str>,
    #[serde(borrow)]
    tenant: Cow<'l, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none", default)]
    trace_id: Option<Cow<'l, str>>,
}

/// The first line of an NDJSON file.
pub fn begin(tenant: TenantId, last: i64, checkpoints: &[Checkpoint]) -> Result<Vec<u8>> {
    let signed = |one: &Checkpoint| Signed {
        seq: one.seq,
        hash: to_hex(&one.hash),
        at: one.at.micros(),
        kid: one.kid.clone(),
        signature: to_hex(&one.signature),
    };
    let checkpoints = checkpoints.iter().map(signed).collect();
    let mut text = Vec::new();
    print(&mut text, &Head { format: NAME.into(), tenant: tenant.to_string().into(), last, checkpoints })?;
    Ok(text)
}

/// These entries as lines.
pub fn lines(entries: &[Entry], format: Format) -> Result<Vec<u8>> {
    let mut text = Vec::with_capacity(entries.len() * 512);
    for entry in entries {
        match format {
            Format::Ndjson => ndjson(&mut text, entry)?,
            Format::Csv => csv(&mut text, entry),
        }
    }
    Ok(text)
}

fn ndjson(text: &mut Vec<u8>, entry: &Entry) -> Result<()> {
    let detail = entry.detail.as_deref().map(serde_json::from_str::<&RawValue>).transpose();
    let line = Line {
        action: (&entry.action).into(),
        actor: (&entry.actor).into(),
        at: entry.at.micros(),
        detail: detail.or_err(Code::Internal, "read the detail of an audit entry")?,
        detail_sha256: to_hex(&entry.detail_sha256).into(),
        hash: to_hex(&entry.hash).into(),
        outcome: (&entry.outcome).into(),
        request_id: entry.request_id.as_deref().map(Cow::from),
        seq: entry.seq,
        target: (&entry.target).into(),
        tenant: TenantId(entry.tenant_id).to_string().into(),
        trace_id: entry.trace_id.as_deref().map(Cow::from),
    };
    print(text, &line)
}

fn print(text: &mut Vec<u8>, line: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *text, line).or_err(Code::Internal, "print a line of an export")?;
    text.push(b'\n');
    Ok(())
}

fn csv(text: &mut Vec<u8>, entry: &Entry) {
    let (seq, at) = (entry.seq.to_string(), entry.at.to_string());
    let (sha256, hash) = (to_hex(&entry.detail_sha256), to_hex(&entry.hash));
    let cells: [&str; 11] = [
        &seq,
        &at,
        &entry.actor,
        &entry.action,
        &entry.target,
        &entry.outcome,
        entry.request_id.as_deref().unwrap_or_default(),
        entry.trace_id.as_deref().unwrap_or_default(),
        entry.detail.as_deref().unwrap_or_default(),
        &sha256,
        &hash,
    ];
    text.extend_from_slice(cells.map(cell).join(",").as_bytes());
    text.extend_from_slice(b"\r\n");
}

/// What a spreadsheet would take for a formula gets an apostrophe before it.
fn cell(value: &str) -> String {
    let guard = if value.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if value.contains(['"', ',', '\r', '\n']) {
        return format!("\"{guard}{}\"", value.replace('"', "\"\""));
    }
    format!("{guard}{value}")
}

/// Looks at every entry of an NDJSON export that no filter left entries out of. `key` is the public key of its checkpoints, as
/// it was printed; the file cannot vouch for it.
///
/// # Errors
/// `INVALID_ARGUMENT` for what is no key; `EXPORT_INVALID` if the file does not begin as an export does. Whatever is wrong behind its first line is in the verdict.
pub fn verify(file: impl BufRead, key: &str) -> Result<Verdict> {
    let public = read_public(key)?;
    let mut lines = file.split(b'\n');
    let first = lines.next().transpose().or_err(Code::Invalid, "read the file")?.unwrap_or_default();
    let (tenant, last, checkpoints) = head(&first).ok_or_else(no_export)?;
    let mut verifier = Verifier::new(tenant, &public, checkpoints);
    for line in lines {
        let line = line.or_err(Code::Invalid, "read the file")?;
        let holds = match entry(&line) {
            Some(entry) => verifier.check(&entry),
            None => verifier.spoilt(),
        };
        if !holds {
            break;
        }
    }
    Ok(verifier.finish_at(last))
}

fn head(line: &[u8]) -> Option<(TenantId, i64, Vec<Checkpoint>)> {
    let head: Head<'_> = serde_json::from_slice(line).ok().filter(|head: &Head<'_>| head.format == NAME)?;
    let tenant = TenantId::parse(&head.tenant)?;
    let checkpoints = head.checkpoints.into_iter().map(|signed| {
        Some(Checkpoint {
            tenant_id: tenant.0,
            seq: signed.seq,
            hash: from_hex(&signed.hash)?,
            at: Timestamp::from_micros(signed.at),
            kid: signed.kid,
            signature: from_hex(&signed.signature)?,
        })
    });
    Some((tenant, head.last, checkpoints.collect::<Option<_>>()?))
}

fn entry(line: &[u8]) -> Option<Entry> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    Some(Entry {
        tenant_id: TenantId::parse(&line.tenant)?.0,
        seq: line.seq,
        at: Timestamp::from_micros(line.at),
        actor: line.actor.into_owned(),
        action: line.action.into_owned(),
        target: line.target.into_owned(),
        outcome: line.outcome.into_owned(),
        request_id: line.request_id.map(Cow::into_owned),
        trace_id: line.trace_id.map(Cow::into_owned),
        detail_sha256: from_hex(&line.detail_sha256)?,
        detail: line.detail.map(|detail| detail.get().to_owned()),
        hash: from_hex(&line.hash)?,
    })
}

/// Lower-case hexadecimal and nothing else: another spelling would be another byte that nobody notices.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let lower = text.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let pairs = text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    if lower && text.len().is_multiple_of(2) { pairs.collect() } else { None }
}

fn no_export() -> Error {
    Error::invalid("EXPORT_INVALID", "this is no export of an audit chain as NDJSON")
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::super::verify::tests::{TENANT, chain, sign};
    use super::*;
    use crate::audit::checkpoint::Signer;
    use crate::audit::verify::Fault;

    fn exported() -> Vec<u8> {
        let mut entries = chain(4);
        entries[1].detail = None;
        let mut file = begin(TENANT, 4, &[sign(&entries[2])]).unwrap();
        file.extend(lines(&entries, Format::Ndjson).unwrap());
        file
    }

    fn look(file: &[u8]) -> Option<(i64, Fault)> {
        let signer = Signer::new(1, &[7; 32]).unwrap();
        let verdict = verify(Cursor::new(file), &signer.printed()).unwrap();
        verdict.broken.map(|broken| (broken.seq, broken.fault))
    }

    #[test]
    fn a_file_is_verified_by_who_has_nothing_else_but_the_key() {
        let signer = Signer::new(1, &[7; 32]).unwrap();

        let verdict = verify(Cursor::new(exported()), &signer.printed()).unwrap();

        assert_eq!(verdict, Verdict { n_entries: 4, from: 1, n_erased: 1, n_checkpoints: 1, broken: None });
        let other = Signer::new(1, &[8; 32]).unwrap();
        let verdict = verify(Cursor::new(exported()), &other.printed()).unwrap();
        assert_eq!(verdict.broken.map(|broken| broken.fault), Some(Fault::CheckpointDiffers));
        assert_eq!(verify(Cursor::new(b"{}\n"), "").unwrap_err().reason(), "EXPORT_INVALID");
    }

    #[test]
    fn one_changed_byte_of_any_line_names_its_entry() {
        let file = exported();
        let starts: Vec<_> =
            file.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
        for seq in 1..=4 {
            let (start, end) = (starts[seq - 1], starts[seq] - 1);
            for at in start..end {
                let mut spoilt = file.clone();
                spoilt[at] = if spoilt[at] == b'0' { b'1' } else { b'0' };

                let found = look(&spoilt).map(|(seq, _)| seq);

                assert!(found == Some(seq as i64), "{at}: {found:?} {}", String::from_utf8_lossy(&spoilt[start..end]));
            }
        }
    }

    #[test]
    fn a_cut_and_a_reordered_file_are_named() {
        let file = exported();
        let lines: Vec<_> = file.split_inclusive(|byte| *byte == b'\n').collect();

        assert_eq!(look(&lines[..4].concat()), Some((4, Fault::Truncated)));
        assert_eq!(look(&[lines[0], lines[1], lines[3], lines[2], lines[4]].concat()), Some((2, Fault::Missing)));
        assert_eq!(look(&[lines[0], lines[1], lines[2], lines[1]].concat()), Some((3, Fault::Reordered)));
    }

    #[test]
    fn no_cell_becomes_a_formula() {
        for (value, expected) in [
            ("usr_01", "usr_01"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("a,\"b\"\r\n", "\"a,\"\"b\"\"\r\n\""),
            ("=\"a\"", "\"'=\"\"a\"\"\""),
        ] {
            assert_eq!(cell(value), expected);
        }
        let text = String::from_utf8(super::lines(&chain(1), Format::Csv).unwrap()).unwrap();
        assert_eq!(text.trim_end().split(',').count(), HEADING.split(',').count(), "{text}");
    }
}
