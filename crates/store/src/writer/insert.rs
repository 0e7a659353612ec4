//! Rows of many requests in one statement per table.

use std::any::TypeId;
use std::collections::HashMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe};

use crate::row::AnyRow;
use crate::{Engine, Group, Tx, Values};

/// Rows per statement, at most. Sizes are powers of two, so that prepared statements stay few.
const MAX_ROWS: usize = 128;
/// Values per statement, at most: SQLite's limit, which is below that of Postgres.
const MAX_VALUES: usize = 32_766;

/// The texts of the statements.
pub(super) struct Statements {
    numbered: bool,
    texts: HashMap<(TypeId, usize), Arc<str>>,
}

impl Statements {
    /// `numbered` placeholders ($1) for Postgres. SQLite gets `?`: it looks names up one by one, which is quadratic.
    pub(super) fn new(numbered: bool) -> Self {
        Self { numbered, texts: HashMap::new() }
    }

    fn text(&mut self, row: &dyn AnyRow, n_rows: usize) -> Arc<str> {
        let text = self.texts.entry((row.kind(), n_rows));
        text.or_insert_with(|| write_text(row.table(), row.columns(), n_rows, self.numbered).into()).clone()
    }
}

fn write_text(table: &str, columns: &[&str], n_rows: usize, numbered: bool) -> String {
    // A statement that fails is followed by ROLLBACK: with OR FAIL, SQLite keeps no journal to undo its first rows.
    let insert = if numbered { "INSERT" } else { "INSERT OR FAIL" };
    let mut text = format!("{insert} INTO \"{table}\" (\"{}\") VALUES ", columns.join("\", \""));
    let mut number = 0;
    for row in 0..n_rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..columns.len() {
            number += 1;
            text.push_str(if column == 0 { "" } else { ", " });
            if numbered {
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

/// Inserts the rows of all groups. Tables follow each other in the order in which the groups name them.
pub(super) async fn insert(tx: &mut Tx<'_>, statements: &mut Statements, groups: &[Group]) -> Result<(), sqlx::Error> {
    for rows in by_table(groups) {
        let mut rest = &rows[..];
        while let Some(first) = rest.first() {
            let (chunk, others) = rest.split_at(chunk_size(rest.len(), first.columns().len()));
            let text = AssertSqlSafe(statements.text(*first, chunk.len()));
            match tx.engine() {
                Engine::Sqlite(connection) => {
                    let mut arguments = SqliteArguments::default();
                    bind(chunk, |row| bind_row(row, Engine::Sqlite(&mut arguments)))?;
                    complete(chunk, arguments.len())?;
                    sqlx::query_with(text, arguments).execute(connection).await?;
                }
                Engine::Postgres(connection) => {
                    let mut arguments = PgArguments::default();
                    bind(chunk, |row| bind_row(row, Engine::Postgres(&mut arguments)))?;
                    complete(chunk, arguments.len())?;
                    sqlx::query_with(text, arguments).execute(connection).await?;
                }
            }
            rest = others;
        }
    }
    Ok(())
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

/// The largest power of two that is at most `n_rows` and stays within the limits.
fn chunk_size(n_rows: usize, n_columns: usize) -> usize {
    let most = n_rows.min(MAX_ROWS).min(MAX_VALUES / n_columns.max(1)).max(1);
    1 << most.ilog2()
}

fn bind(
    rows: &[&dyn AnyRow],
    mut bind_row: impl FnMut(&dyn AnyRow) -> Result<(), sqlx::Error>,
) -> Result<(), sqlx::Error> {
    // A panic must fail this row only, and not the writer of everybody.
    let bound = catch_unwind(AssertUnwindSafe(|| rows.iter().try_for_each(|row| bind_row(*row))));
    bound.unwrap_or_else(|_| Err(sqlx::Error::Encode("a row panicked".into())))
}

fn bind_row(row: &dyn AnyRow, arguments: Engine<&mut SqliteArguments, &mut PgArguments>) -> Result<(), sqlx::Error> {
    let mut values = Values::new(arguments);
    row.bind(&mut values);
    values.error().map_or(Ok(()), |error| Err(sqlx::Error::Encode(error)))
}

/// A row that gives too few values would shift those of the next.
fn complete(rows: &[&dyn AnyRow], n_values: usize) -> Result<(), sqlx::Error> {
    if rows.iter().map(|row| row.columns().len()).sum::<usize>() == n_values {
        return Ok(());
    }
    Err(sqlx::Error::Encode("a row did not give one value per column".into()))
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
    fn chunks_are_powers_of_two_within_the_limits() {
        for (n_rows, n_columns, size) in [(1, 28, 1), (127, 28, 64), (1_000, 28, 128), (128, 1_000, 32), (3, 40_000, 1)]
        {
            assert_eq!(chunk_size(n_rows, n_columns), size, "{n_rows} rows of {n_columns} columns");
        }
    }
}
