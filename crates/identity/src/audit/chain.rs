//! The chain: what an entry is as text, and how its hash holds everything before it. Pure.
//!
//! The text is JSON with sorted keys, no blanks, and everything beyond printable ASCII escaped: Python's
//! `json.dumps(entry, sort_keys=True, separators=(",", ":"))`. What an entry does not have is left out.

use manifold_core::{TenantId, Timestamp};
use manifold_store::Micros;
use sha2::{Digest, Sha256};
use sqlx::FromRow;
use uuid::Uuid;

use crate::hex::{push_hex, to_hex};

/// SHA-256.
pub type Hash = [u8; 32];

/// What stands before the first entry.
pub const START: Hash = [0; 32];

/// Keeps these hashes apart from all others.
const DOMAIN: &[u8] = b"manifold-audit-v1\0";

/// What was done. All but `detail` and `hash` is chained.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Entry {
    /// Whose chain; nil for the installation's own.
    pub tenant_id: Uuid,
    /// Its place in the chain, from 1 on without gaps.
    pub seq: i64,
    /// When.
    #[sqlx(try_from = "Micros")]
    pub at: Timestamp,
    /// Who: the printed id of a person or key, or the name of a service.
    pub actor: String,
    /// What was done: `identity.key.created`.
    pub action: String,
    /// To what: a printed id.
    pub target: String,
    /// `ok`, `failed` or `denied`.
    pub outcome: String,
    /// By which request.
    pub request_id: Option<String>,
    /// In which trace, 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// SHA-256 of the detail, also when it is erased.
    pub detail_sha256: Vec<u8>,
    /// What was done in particular, as JSON; None when it is erased.
    pub detail: Option<String>,
    /// SHA-256 of everything up to here.
    pub hash: Vec<u8>,
}

impl Entry {
    /// The text that is chained.
    pub fn canonical(&self) -> String {
        let (tenant, detail) = (TenantId(self.tenant_id).to_string(), to_hex(&self.detail_sha256));
        canonical(&[
            ("action", Value::Text(&self.action)),
            ("actor", Value::Text(&self.actor)),
            ("at", Value::Integer(self.at.micros())),
            ("detail_sha256", Value::Text(&detail)),
            ("outcome", Value::Text(&self.outcome)),
            ("request_id", self.request_id.as_deref().map_or(Value::Absent, Value::Text)),
            ("seq", Value::Integer(self.seq)),
            ("target", Value::Text(&self.target)),
            ("tenant", Value::Text(&tenant)),
            ("trace_id", self.trace_id.as_deref().map_or(Value::Absent, Value::Text)),
        ])
    }

    /// The hash of this entry behind the one with the hash `before`.
    pub fn hash_after(&self, before: &Hash) -> Hash {
        link(before, &self.canonical())
    }
}

/// What a field of an entry is.
enum Value<'v> {
    Text(&'v str),
    Integer(i64),
    Absent,
}

/// `fields` are sorted by name.
fn canonical(fields: &[(&str, Value<'_>)]) -> String {
    let mut text = String::with_capacity(512);
    for (name, value) in fields {
        if matches!(value, Value::Absent) {
            continue;
        }
        text.push(if text.is_empty() { '{' } else { ',' });
        quote(&mut text, name);
        text.push(':');
        match value {
            Value::Text(value) => quote(&mut text, value),
            Value::Integer(value) => text.push_str(&value.to_string()),
            Value::Absent => {}
        }
    }
    text.push('}');
    text
}

fn quote(text: &mut String, value: &str) {
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            ' '..='~' => text.push(letter),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            _ => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    text.push_str("\\u");
                    push_hex(text, &unit.to_be_bytes());
                }
            }
        }
    }
    text.push('"');
}

/// `SHA-256(domain ‖ hash before ‖ length as u32, big-endian ‖ text)`.
fn link(before: &Hash, canonical: &str) -> Hash {
    let length = u32::try_from(canonical.len()).unwrap_or(u32::MAX);
    let parts = [DOMAIN, before, &length.to_be_bytes(), canonical.as_bytes()];
    parts.iter().fold(Sha256::new(), Digest::chain_update).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_chain_as_the_vectors_do() {
        let entry = |action, at, seq| {
            canonical(&[
                ("action", Value::Text(action)),
                ("actor", Value::Text("usr_01")),
                ("at", Value::Integer(at)),
                ("request_id", Value::Absent),
                ("seq", Value::Integer(seq)),
            ])
        };
        let created = entry("identity.key.created", 1_763_629_200_000_000, 1);
        let revoked = entry("identity.key.revoked", 1_763_629_201_000_000, 2);

        let first = link(&START, &created);
        let second = link(&first, &revoked);

        assert_eq!(created, r#"{"action":"identity.key.created","actor":"usr_01","at":1763629200000000,"seq":1}"#);
        assert_eq!(to_hex(&first), "a67f48c8519c83a0cd39bc8c81c9019d500a20c71c8d3d4a4d6217ed7520a6fa");
        assert_eq!(to_hex(&second), "f7d25eda6c168812a89cebc8aeed9044853e001fbdc62f1617e51dfffe1f967e");
    }

    #[test]
    fn what_could_forge_or_hide_a_line_is_escaped_as_python_does() {
        let text = canonical(&[("actor", Value::Text("a\r\n\u{1b}[2K\u{202e}\"\\\u{7f}é😀\0"))]);

        assert_eq!(text, r#"{"actor":"a\r\n\u001b[2K\u202e\"\\\u007f\u00e9\ud83d\ude00\u0000"}"#);
        assert!(text.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }
}
