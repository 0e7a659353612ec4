//! What is to be copied: the tables and columns of both sides compared, and the statements about one table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use manifold_core::{Code, Error, Result};
use sqlx::{AssertSqlSafe, PgConnection, SqliteConnection};

use super::line::{Column, Kind};
use super::refused;
use crate::fault::SqlResultExt;
use crate::location;

/// A table of a service that is moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Whose it is.
    pub service: &'static str,
    /// Its name.
    pub name: String,
    /// Rows in the file.
    pub n_rows: i64,
    columns: Vec<Column>,
    /// The column whose numbers Postgres gives out.
    identity: Option<String>,
    /// Rows that the migrations put there.
    n_fresh: i64,
}

/// A column of the target, as `pg_attribute` tells.
#[derive(Debug, sqlx::FromRow)]
struct Attribute {
    table: String,
    column: String,
    type_: String,
    /// It has a value even if none is given.
    filled: bool,
    identity: bool,
}

/// The tables that both sides have, those that others refer to first.
pub(super) async fn compare(
    source: &mut SqliteConnection,
    target: &mut PgConnection,
    service: &'static str,
) -> Result<Vec<Table>> {
    let here = "SELECT tables.name, columns.name FROM sqlite_master AS tables JOIN pragma_table_info(tables.name) AS columns \
                WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite#_%' ESCAPE '#' \
                AND tables.name <> '_sqlx_migrations'";
    let here: Vec<(String, String)> = sqlx::query_as(here).fetch_all(source).await.during("read the tables")?;
    // In the order in which they were made: a table is younger than those that it refers to.
    let there = "SELECT relname::text AS \"table\", attname::text AS \"column\", atttypid::regtype::text AS type_, \
                 atthasdef OR attidentity <> '' AS filled, attidentity <> '' AS identity \
                 FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid \
                 WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped \
                 AND relname <> '_sqlx_migrations' ORDER BY pg_class.oid, attnum";
    let there: Vec<Attribute> =
        sqlx::query_as(there).bind(location::schema(service)).fetch_all(target).await.during("read the tables")?;
    matched(service, here, there)
}

fn matched(service: &'static str, here: Vec<(String, String)>, there: Vec<Attribute>) -> Result<Vec<Table>> {
    let mut sources = BTreeMap::<_, BTreeSet<_>>::new();
    for (table, column) in here {
        sources.entry(table).or_default().insert(column);
    }
    let differs = |what: String, side: &str| {
        Err(refused(format!("{service}: {what} is only in {side}: both must have the tables of this version")))
    };
    let mut tables: Vec<Table> = Vec::new();
    for Attribute { table, column, type_, filled, identity } in there {
        let Some(columns) = sources.get_mut(&table) else { return differs(table, "Postgres") };
        if tables.last().is_none_or(|last| last.name != table) {
            let name = table.clone();
            tables.push(Table { service, name, n_rows: 0, columns: Vec::new(), identity: None, n_fresh: 0 });
        }
        let Some(last) = tables.last_mut() else { continue };
        if !columns.remove(&column) {
            if filled {
                continue;
            }
            return differs(format!("{table}.{column}"), "Postgres");
        }
        let Some(kind) = Kind::of(&type_) else {
            return Err(refused(format!("{service}: {table}.{column} is a {type_}, which is not copied")));
        };
        if identity {
            last.identity = Some(column.clone());
        }
        last.columns.push(Column { name: column, kind });
    }
    for (table, columns) in sources {
        if tables.iter().all(|known| known.name != table) {
            return differs(table, "SQLite");
        }
        if let Some(column) = columns.first() {
            return differs(format!("{table}.{column}"), "SQLite");
        }
    }
    Ok(tables)
}

/// Until the end nobody else writes into these tables.
pub(super) async fn lock(target: &mut PgConnection, tables: &[Table]) -> Result<()> {
    let names: Vec<_> = tables.iter().map(Table::target).collect();
    let lock = AssertSqlSafe(format!("LOCK TABLE {} IN EXCLUSIVE MODE", names.join(", ")));
    sqlx::query(lock).execute(target).await.during("lock the tables").map(|_| ())
}

/// Notes in a schema which move filled it.
pub(super) async fn stamp(target: &mut PgConnection, service: &str, stamp: &str) -> Result<()> {
    let (schema, stamp) = (location::schema(service), stamp.replace('\'', "''"));
    let comment = AssertSqlSafe(format!("COMMENT ON TABLE {schema}._sqlx_migrations IS '{stamp}'"));
    sqlx::raw_sql(comment).execute(target).await.during("note the move").map(|_| ())
}

/// Whether the move of this stamp filled this database.
pub(super) async fn is_stamped(target: &mut PgConnection, stamp: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pg_description JOIN pg_class ON objoid = pg_class.oid \
               WHERE classoid = 'pg_class'::regclass AND relname = '_sqlx_migrations' AND description = $1)";
    sqlx::query_scalar(sql).bind(stamp).fetch_one(target).await.during("look for an earlier move")
}

impl Table {
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    pub(super) fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.list(), quoted(&self.name))
    }

    pub(super) fn copy(&self) -> String {
        format!("COPY {} ({}) FROM STDIN", self.target(), self.list())
    }

    /// Counts the rows of the file, and those that a database without any data has.
    pub(super) async fn count(&mut self, source: &mut SqliteConnection, fresh: &mut SqliteConnection) -> Result<()> {
        let sql = format!("SELECT COUNT(*) FROM {}", quoted(&self.name));
        let counted = sqlx::query_scalar(AssertSqlSafe(sql.clone())).fetch_one(source).await;
        self.n_rows = counted.during("count rows")?;
        self.n_fresh = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(fresh).await.during("count rows")?;
        Ok(())
    }

    pub(super) async fn refuse_rows(&self, target: &mut PgConnection) -> Result<()> {
        let sql = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {} LIMIT $1) AS rows", self.target());
        let count = sqlx::query_scalar(AssertSqlSafe(sql)).bind(self.n_fresh + 1).fetch_one(target).await;
        let n_rows: i64 = count.during("count rows")?;
        if n_rows <= self.n_fresh {
            return Ok(());
        }
        let message = format!("{} holds rows already: name an empty database; nothing was changed", self.target());
        Err(Error::new(Code::Precondition, "DATABASE_NOT_EMPTY", message))
    }

    /// Takes out what the migrations put there: the file has it, too.
    pub(super) async fn clear(&self, target: &mut PgConnection) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(format!("DELETE FROM {}", self.target()));
        sqlx::query(sql).execute(target).await.map(|_| ())
    }

    pub(super) async fn count_target(&self, target: &mut PgConnection) -> Result<i64, sqlx::Error> {
        let sql = AssertSqlSafe(format!("SELECT COUNT(*) FROM {}", self.target()));
        sqlx::query_scalar(sql).fetch_one(target).await
    }

    /// The next number is one that SQLite never gave out, not even to rows that are gone: readers have passed those.
    pub(super) async fn set_sequence(
        &self,
        source: &mut SqliteConnection,
        target: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let Some(column) = &self.identity else { return Ok(()) };
        let last = "SELECT seq FROM sqlite_sequence WHERE name = $1";
        let last: Option<i64> = sqlx::query_scalar(last).bind(&self.name).fetch_optional(source).await?;
        let set = "SELECT setval(pg_get_serial_sequence($1, $2), $3)";
        if let Some(last) = last.filter(|last| *last > 0) {
            sqlx::query(set).bind(self.target()).bind(column).bind(last).execute(target).await?;
        }
        Ok(())
    }

    fn list(&self) -> String {
        self.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }

    fn target(&self) -> String {
        format!("{}.{}", quoted(&location::schema(self.service)), quoted(&self.name))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", location::schema(self.service), self.name)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
