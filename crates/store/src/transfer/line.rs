//! A row of SQLite as a line of the text format of `COPY`: <https://www.postgresql.org/docs/current/sql-copy.html>.

use std::fmt;
use std::io::Write;

use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, TypeInfo, ValueRef};
use uuid::Uuid;

use crate::values::{storable, storable_json};

/// A column on its way, by its type in Postgres.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// How values of a column are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Uuid,
    Bytes,
    Text,
    Json,
    Int,
    Real,
    Bool,
}

impl Kind {
    /// Of a type as Postgres names it; None if no column of the house has it.
    pub(super) fn of(postgres: &str) -> Option<Self> {
        Some(match postgres {
            "uuid" => Self::Uuid,
            "bytea" => Self::Bytes,
            "text" => Self::Text,
            "jsonb" => Self::Json,
            "bigint" | "integer" => Self::Int,
            "double precision" => Self::Real,
            "boolean" => Self::Bool,
            _ => return None,
        })
    }
}

/// A value that its column in Postgres does not take.
#[derive(Debug)]
pub(super) struct Unfit {
    column: String,
    stored: String,
    kind: Kind,
}

impl fmt::Display for Unfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} is a SQLite {} that is no {:?} of Postgres", self.column, self.stored, self.kind)
    }
}

/// Appends a row to `lines`, with one field per column.
pub(super) fn push(lines: &mut Vec<u8>, row: &SqliteRow, columns: &[Column]) -> Result<(), Unfit> {
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            lines.push(b'\t');
        }
        field(lines, row, index, column.kind).map_err(|stored| Unfit {
            column: column.name.clone(),
            stored,
            kind: column.kind,
        })?;
    }
    lines.push(b'\n');
    Ok(())
}

/// The error is what SQLite calls the value.
fn field(lines: &mut Vec<u8>, row: &SqliteRow, index: usize, kind: Kind) -> Result<(), String> {
    let value = row.try_get_raw(index).map_err(|error| error.to_string())?;
    if value.is_null() {
        lines.extend_from_slice(b"\\N");
        return Ok(());
    }
    let stored = value.type_info().name().to_owned();
    let unfit = || stored.clone();
    match (kind, stored.as_str()) {
        (Kind::Uuid, "BLOB") => {
            let bytes = read::<&[u8]>(value).ok_or_else(unfit)?;
            print(lines, format_args!("{}", Uuid::from_slice(bytes).map_err(|_| unfit())?));
        }
        (Kind::Bytes, "BLOB") => hexadecimal(lines, read(value).ok_or_else(unfit)?),
        (Kind::Text, "TEXT") => escaped(lines, &storable(read(value).ok_or_else(unfit)?)),
        (Kind::Json, "TEXT") => escaped(lines, &storable_json(read(value).ok_or_else(unfit)?)),
        (Kind::Int, "INTEGER") => print(lines, format_args!("{}", read::<i64>(value).ok_or_else(unfit)?)),
        // The shortest number that reads as the same bits.
        (Kind::Real, "REAL" | "INTEGER") => print(lines, format_args!("{:e}", read::<f64>(value).ok_or_else(unfit)?)),
        (Kind::Bool, "INTEGER") => lines.push(match read::<i64>(value) {
            Some(0) => b'f',
            Some(1) => b't',
            _ => return Err(stored),
        }),
        _ => return Err(stored),
    }
    Ok(())
}

/// None for text that is not UTF-8.
fn read<'r, T: Decode<'r, Sqlite>>(value: sqlx::sqlite::SqliteValueRef<'r>) -> Option<T> {
    T::decode(value).ok()
}

fn print(lines: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    // Writing into memory does not fail.
    let _ = lines.write_fmt(text);
}

fn hexadecimal(lines: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    lines.extend_from_slice(b"\\\\x");
    for byte in bytes {
        lines.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

fn escaped(lines: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'\\' => lines.extend_from_slice(b"\\\\"),
            b'\n' => lines.extend_from_slice(b"\\n"),
            b'\r' => lines.extend_from_slice(b"\\r"),
            b'\t' => lines.extend_from_slice(b"\\t"),
            _ => lines.push(byte),
        }
    }
}
