//! Rows of hot tables, and groups of them that become durable together.

use std::any::TypeId;

use crate::Values;

/// A row of a table that grows at request rate. Written as `INSERT … ON CONFLICT DO NOTHING`, possibly twice when the
/// outcome of a commit is unknown: the table needs a unique key over values that the row brings along.
pub trait Row: Send + Sync + 'static {
    /// The table.
    const TABLE: &'static str;
    /// Its columns, in the order in which [`Row::bind`] gives the values.
    const COLUMNS: &'static [&'static str];

    /// Gives one value per column.
    fn bind(&self, values: &mut Values<'_>);
}

/// Rows, of several tables if need be, that land in one transaction or not at all.
#[derive(Default)]
pub struct Group(Vec<Box<dyn AnyRow>>);

impl Group {
    /// No rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One row more. A row that others refer to comes before them.
    #[must_use]
    pub fn with<R: Row>(mut self, row: R) -> Self {
        self.add(row);
        self
    }

    /// One row more.
    pub fn add<R: Row>(&mut self, row: R) {
        self.0.push(Box::new(row));
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &dyn AnyRow> {
        self.0.iter().map(|row| &**row)
    }

    pub(crate) fn tables(&self) -> impl Iterator<Item = &'static str> {
        self.rows().map(AnyRow::table)
    }
}

/// A [`Row`] whose type is not known.
pub(crate) trait AnyRow: Send + Sync {
    fn kind(&self) -> TypeId;
    fn table(&self) -> &'static str;
    fn columns(&self) -> &'static [&'static str];
    fn bind(&self, values: &mut Values<'_>);
}

impl<R: Row> AnyRow for R {
    fn kind(&self) -> TypeId {
        TypeId::of::<R>()
    }

    fn table(&self) -> &'static str {
        R::TABLE
    }

    fn columns(&self) -> &'static [&'static str] {
        R::COLUMNS
    }

    fn bind(&self, values: &mut Values<'_>) {
        Row::bind(self, values);
    }
}
