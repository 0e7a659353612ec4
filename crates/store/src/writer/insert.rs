//! Rows of many requests in few INSERTs: one per table, as long as there are not too many rows.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sqlx::error::BoxDynError;

use crate::row::AnyRow;
use crate::{Group, Values};

/// Rows per statement, at most. Sizes are powers of two and those and a half, so that prepared statements stay few.
const MAX_ROWS: usize = 128;
/// Values per statement, at most: SQLite's limit, which is below that of Postgres.
const MAX_VALUES: usize = 32_766;

/// Rows of one table that go into one INSERT.
pub(super) type Part<'r, 'g> = &'r [&'g dyn AnyRow];

/// The texts of the INSERTs.
pub(super) struct Texts {
    postgres: bool,
    texts: HashMap<(TypeId, usize), Arc<str>>,
}

impl Texts {
    pub(super) fn new(postgres: bool) -> Self {
        Self { postgres, texts: HashMap::new() }
    }

    /// The INSERT of so many rows.
    pub(super) fn of(&mut self, part: Part<'_, '_>) -> Arc<str> {
        let row = part[0];
        let text = self.texts.entry((row.kind(), part.len()));
        text.or_insert_with(|| write_text(row.table(), row.columns(), part.len(), self.postgres).into()).clone()
    }
}

/// Does something with the rows of all groups, as many at a time as go into one INSERT. Tables follow each other in the
/// order in which the groups name them.
pub(super) fn each_part<E>(groups: &[Group], mut write: impl FnMut(Part<'_, '_>) -> Result<(), E>) -> Result<(), E> {
    for rows in by_table(groups) {
        let mut left = rows.as_slice();
        while let Some(first) = left.first() {
            let (part, rest) = left.split_at(chunk_size(left.len(), first.columns().len()));
            write(part)?;
            left = rest;
        }
    }
    Ok(())
}

/// How many values a part has.
pub(super) fn n_values(part: Part<'_, '_>) -> usize {
    part.len() * part[0].columns().len()
}

/// Binds the values of a part.
pub(super) fn bind(part: Part<'_, '_>, mut values: Values<'_>) -> Result<(), BoxDynError> {
    // A panic must fail this row only, and not the writer of everybody.
    let bound = catch_unwind(AssertUnwindSafe(|| {
        for row in part {
            row.bind(&mut values);
        }
        values.finish()
    }));
    bound.unwrap_or_else(|_| Err("a row panicked".into()))
}

/// A row that gives too few values would shift those of the next.
pub(super) fn complete(part: Part<'_, '_>, n_bound: usize) -> Result<(), BoxDynError> {
    if n_bound == n_values(part) {
        return Ok(());
    }
    Err("a row did not give one value per column".into())
}

/// Postgres has numbered placeholders; SQLite gets `?`, because it looks names up one by one, which is quadratic.
fn write_text(table: &str, columns: &[&str], n_rows: usize, postgres: bool) -> String {
    // A statement that fails is followed by ROLLBACK: with OR FAIL, SQLite keeps no journal to undo its first rows.
    let insert = if postgres { "INSERT" } else { "INSERT OR FAIL" };
    let mut text = format!("{insert} INTO \"{table}\" (\"{}\") VALUES ", columns.join("\", \""));
    let mut number = 0;
    for row in 0..n_rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns.len() {
            number += 1;
            text.push_str(if column == 0 { "" } else { ", " });
            if postgres {
                write!(text, "${number}").expect("writing to a string cannot fail");
            } else {
                text.push('?');
            }
        }
        text.push(')');
    }
    text.push_str(" ON CONFLICT DO NOTHING");
    text
}

fn by_table(groups: &[Group]) -> Vec<Vec<&dyn AnyRow>> {
    let mut tables: Vec<Vec<&dyn AnyRow>> = Vec::new();
    for row in groups.iter().flat_map(Group::rows) {
        match tables.iter_mut().find(|rows| rows[0].kind() == row.kind()) {
            Some(rows) => rows.push(row),
            None => tables.push(vec![row]),
        }
    }
    tables
}

/// How many of so many rows go into one statement.
fn chunk_size(n_rows: usize, n_columns: usize) -> usize {
    let most = n_rows.min(MAX_ROWS).min(MAX_VALUES / n_columns.max(1)).max(1);
    whole(most)
}

/// The largest size of a statement that is at most `n`, which is at least 1.
pub(super) fn whole(n: usize) -> usize {
    let power = 1 << n.ilog2();
    if power + power / 2 <= n { power + power / 2 } else { power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_one_statement_for_many_rows() {
        assert_eq!(
            write_text("usage", &["id", "type"], 2, true),
            r#"INSERT INTO "usage" ("id", "type") VALUES ($1, $2), ($3, $4) ON CONFLICT DO NOTHING"#
        );
        assert_eq!(
            write_text("usage", &["id"], 3, false),
            r#"INSERT OR FAIL INTO "usage" ("id") VALUES (?), (?), (?) ON CONFLICT DO NOTHING"#
        );
    }

    #[test]
    fn chunks_have_few_sizes_within_the_limits() {
        let cases = [(1, 28, 1), (3, 28, 3), (5, 28, 4), (95, 28, 64), (127, 28, 96), (1_000, 28, 128)];
        for (n_rows, n_columns, size) in cases.into_iter().chain([(128, 1_000, 32), (3, 40_000, 1)]) {
            assert_eq!(chunk_size(n_rows, n_columns), size, "{n_rows} rows of {n_columns} columns");
        }
    }
}
