//! Rows of many requests in one INSERT per table, and on SQLite the INSERTs of all tables in one call of the database.

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

/// Rows per statement, at most. Sizes are powers of two and those and a half, so that prepared statements stay few.
const MAX_ROWS: usize = 128;
/// Values per statement, at most: SQLite's limit, which is below that of Postgres.
const MAX_VALUES: usize = 32_766;

/// What a call does besides inserting. On SQLite each call costs two changes of threads; a block without commands saves
/// those of BEGIN and COMMIT.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// The transaction is begun and ended by the caller.
    Open,
    /// The first call begins it, the last one ends it.
    Whole,
}

/// One call of the database: an INSERT or, on SQLite, several, and their values.
pub(super) struct Statement {
    text: Arc<str>,
    values: Engine<SqliteArguments, PgArguments>,
}

/// Rows of one table that go into one INSERT.
type Part<'r, 'g> = &'r [&'g dyn AnyRow];

/// The texts of the calls. All INSERTs of a call have the same number of rows, so that texts stay few.
pub(super) struct Statements {
    postgres: bool,
    texts: HashMap<Shape, Arc<str>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Shape {
    tables: Vec<TypeId>,
    n_rows: usize,
    begins: bool,
    ends: bool,
}

impl Statements {
    pub(super) fn new(postgres: bool) -> Self {
        Self { postgres, texts: HashMap::new() }
    }

    /// The statements that insert the rows of all groups. Tables follow each other in the order in which the groups
    /// name them.
    pub(super) fn encode(&mut self, groups: &[Group], frame: Frame) -> Result<Vec<Statement>, sqlx::Error> {
        let tables = by_table(groups);
        let calls = calls(&tables, self.postgres);
        let whole = frame == Frame::Whole;
        let encode = |(index, parts): (usize, &Vec<Part<'_, '_>>)| {
            let text = self.text(parts, whole && index == 0, whole && index + 1 == calls.len());
            Ok(Statement { text, values: self.values(parts)? })
        };
        calls.iter().enumerate().map(encode).collect()
    }

    fn text(&mut self, parts: &[Part<'_, '_>], begins: bool, ends: bool) -> Arc<str> {
        let tables = parts.iter().map(|rows| rows[0].kind()).collect();
        let text = self.texts.entry(Shape { tables, n_rows: parts[0].len(), begins, ends });
        let insert = |rows: &Part<'_, '_>| write_text(rows[0].table(), rows[0].columns(), rows.len(), self.postgres);
        let write = || {
            let (begin, end) = (begins.then(|| "BEGIN IMMEDIATE".to_owned()), ends.then(|| "COMMIT".to_owned()));
            let statements: Vec<_> = begin.into_iter().chain(parts.iter().map(insert)).chain(end).collect();
            statements.join("; ").into()
        };
        text.or_insert_with(write).clone()
    }

    fn values(&self, parts: &[Part<'_, '_>]) -> Result<Engine<SqliteArguments, PgArguments>, sqlx::Error> {
        let n_values = parts.iter().map(|rows| rows.len() * rows[0].columns().len()).sum();
        if self.postgres {
            let mut arguments = PgArguments::default();
            arguments.reserve(n_values, 8 * n_values);
            bind(parts, Values::new(Engine::Postgres(&mut arguments)))?;
            complete(n_values, arguments.len())?;
            return Ok(Engine::Postgres(arguments));
        }
        let mut arguments = SqliteArguments::default();
        arguments.reserve(n_values, 0);
        bind(parts, Values::new(Engine::Sqlite(&mut arguments)))?;
        complete(n_values, arguments.len())?;
        Ok(Engine::Sqlite(arguments))
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

/// Cuts the rows of all tables into parts, and the parts into calls: a round of parts that are equally long is one call,
/// except on Postgres, which takes one statement at a time.
fn calls<'r, 'g>(tables: &'r [Vec<&'g dyn AnyRow>], postgres: bool) -> Vec<Vec<Part<'r, 'g>>> {
    let mut left: Vec<Part<'r, 'g>> = tables.iter().map(Vec::as_slice).collect();
    let mut calls = Vec::new();
    while !left.is_empty() {
        let parts: Vec<_> = left.iter_mut().map(next_part).collect();
        left.retain(|rows| !rows.is_empty());
        if !postgres && parts.iter().all(|part| part.len() == parts[0].len()) {
            calls.push(parts);
        } else {
            calls.extend(parts.into_iter().map(|part| vec![part]));
        }
    }
    calls
}

/// Takes as many rows as an INSERT takes.
fn next_part<'r, 'g>(rows: &mut Part<'r, 'g>) -> Part<'r, 'g> {
    let (part, rest) = rows.split_at(chunk_size(rows.len(), rows[0].columns().len()));
    *rows = rest;
    part
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

fn bind(parts: &[Part<'_, '_>], mut values: Values<'_>) -> Result<(), sqlx::Error> {
    // A panic must fail this row only, and not the writer of everybody.
    let bound = catch_unwind(AssertUnwindSafe(|| {
        for row in parts.iter().copied().flatten() {
            values.begin_row();
            row.bind(&mut values);
        }
        values.finish()
    }));
    bound.unwrap_or_else(|_| Err("a row panicked".into())).map_err(sqlx::Error::Encode)
}

/// A row that gives too few values would shift those of the next.
fn complete(n_wanted: usize, n_values: usize) -> Result<(), sqlx::Error> {
    if n_wanted == n_values {
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
    fn chunks_have_few_sizes_within_the_limits() {
        let cases = [(1, 28, 1), (3, 28, 3), (5, 28, 4), (95, 28, 64), (127, 28, 96), (1_000, 28, 128)];
        for (n_rows, n_columns, size) in cases.into_iter().chain([(128, 1_000, 32), (3, 40_000, 1)]) {
            assert_eq!(chunk_size(n_rows, n_columns), size, "{n_rows} rows of {n_columns} columns");
        }
    }

    struct Narrow;
    struct Wide;

    impl crate::Row for Narrow {
        const TABLE: &'static str = "narrow";
        const COLUMNS: &'static [&'static str] = &["id"];
        fn bind(&self, values: &mut Values<'_>) {
            values.int(1);
        }
    }

    impl crate::Row for Wide {
        const TABLE: &'static str = "wide";
        const COLUMNS: &'static [&'static str] = &["id", "n"];
        fn bind(&self, values: &mut Values<'_>) {
            values.int(1);
            values.int(2);
        }
    }

    fn texts(postgres: bool, groups: &[Group]) -> Vec<String> {
        let statements = Statements::new(postgres).encode(groups, Frame::Whole).unwrap();
        statements.iter().map(|statement| statement.text.replace('"', "")).collect()
    }

    #[test]
    fn tables_with_equally_many_rows_share_a_call_of_sqlite() {
        let groups = [Group::new().with(Narrow).with(Wide)];

        assert_eq!(
            texts(false, &groups),
            ["BEGIN IMMEDIATE; INSERT OR FAIL INTO narrow (id) VALUES (?) ON CONFLICT DO NOTHING; \
                 INSERT OR FAIL INTO wide (id, n) VALUES (?, ?) ON CONFLICT DO NOTHING; COMMIT"]
        );
        assert_eq!(texts(true, &groups).len(), 2);
    }

    #[test]
    fn tables_with_different_numbers_of_rows_are_written_one_by_one() {
        let groups = [Group::new().with(Narrow).with(Narrow).with(Wide)];

        let texts = texts(false, &groups);

        assert_eq!(texts.len(), 2);
        assert!(texts[0].starts_with("BEGIN IMMEDIATE; INSERT") && texts[1].ends_with("; COMMIT"), "{texts:?}");
    }
}
