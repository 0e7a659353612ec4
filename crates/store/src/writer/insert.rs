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

/// What a statement does besides inserting. On SQLite each statement costs two changes of threads; a block without
/// commands saves those of BEGIN and COMMIT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// The transaction is begun and ended by the caller.
    Open,
    /// The first statement begins it, the last one ends it.
    Whole,
}

/// A statement and its values.
pub(super) struct Statement {
    text: Arc<str>,
    values: Engine<SqliteArguments, PgArguments>,
}

/// The texts of the statements, by the kind of row, their number, and whether they begin and end the transaction.
pub(super) struct Statements {
    postgres: bool,
    texts: HashMap<(TypeId, usize, bool, bool), Arc<str>>,
}

impl Statements {
    pub(super) fn new(postgres: bool) -> Self {
        Self { postgres, texts: HashMap::new() }
    }

    /// The statements that insert the rows of all groups. Tables follow each other in the order in which the groups
    /// name them.
    pub(super) fn encode(&mut self, groups: &[Group], frame: Frame) -> Result<Vec<Statement>, sqlx::Error> {
        let tables = by_table(groups);
        let chunks: Vec<_> = tables.iter().flat_map(|rows| chunks(rows)).collect();
        let whole = frame == Frame::Whole;
        let encode = |(index, rows): (usize, &&[&dyn AnyRow])| {
            let text = self.text(rows, whole && index == 0, whole && index + 1 == chunks.len());
            Ok(Statement { text, values: self.values(rows)? })
        };
        chunks.iter().enumerate().map(encode).collect()
    }

    fn text(&mut self, rows: &[&dyn AnyRow], begins: bool, ends: bool) -> Arc<str> {
        let text = self.texts.entry((rows[0].kind(), rows.len(), begins, ends));
        let write = || {
            let insert = write_text(rows[0].table(), rows[0].columns(), rows.len(), self.postgres);
            let (before, after) = (if begins { "BEGIN IMMEDIATE; " } else { "" }, if ends { "; COMMIT" } else { "" });
            format!("{before}{insert}{after}").into()
        };
        text.or_insert_with(write).clone()
    }

    fn values(&self, rows: &[&dyn AnyRow]) -> Result<Engine<SqliteArguments, PgArguments>, sqlx::Error> {
        let n_values = rows.len() * rows[0].columns().len();
        if self.postgres {
            let mut values = PgArguments::default();
            values.reserve(n_values, 8 * n_values);
            bind(rows, |row| bind_row(row, Engine::Postgres(&mut values)))?;
            complete(rows, values.len())?;
            return Ok(Engine::Postgres(values));
        }
        let mut values = SqliteArguments::default();
        values.reserve(n_values, 0);
        bind(rows, |row| bind_row(row, Engine::Sqlite(&mut values)))?;
        complete(rows, values.len())?;
        Ok(Engine::Sqlite(values))
    }
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

/// Runs the statements.
pub(super) async fn insert(tx: &mut Tx<'_>, statements: Vec<Statement>) -> Result<(), sqlx::Error> {
    for Statement { text, values } in statements {
        let text = AssertSqlSafe(text);
        match (tx.engine(), values) {
            (Engine::Sqlite(connection), Engine::Sqlite(values)) => {
                sqlx::query_with(text, values).execute(connection).await?;
            }
            (Engine::Postgres(connection), Engine::Postgres(values)) => {
                sqlx::query_with(text, values).execute(connection).await?;
            }
            _ => return Err(sqlx::Error::Encode("the values are those of the other engine".into())),
        }
    }
    Ok(())
}

/// Cuts the rows of a table into as many as statements take.
fn chunks<'r, 'g>(mut rows: &'r [&'g dyn AnyRow]) -> Vec<&'r [&'g dyn AnyRow]> {
    let mut chunks = Vec::new();
    while let Some(first) = rows.first() {
        let (chunk, rest) = rows.split_at(chunk_size(rows.len(), first.columns().len()));
        chunks.push(chunk);
        rows = rest;
    }
    chunks
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
