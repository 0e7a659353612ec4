//! Pages of lists, by id and never by offset.

use uuid::Uuid;

use crate::{Error, Result};

/// What a caller asks for.
#[derive(Clone, Copy, Debug)]
pub struct PageRequest {
    /// Rows per page, 1 to 200.
    pub limit: u32,
    /// Last id of the previous page; None = from the start.
    pub after: Option<Uuid>,
}

impl PageRequest {
    /// Checks the limit; None = 50.
    pub fn new(limit: Option<u32>, after: Option<Uuid>) -> Result<Self> {
        let limit = limit.unwrap_or(50);
        if !(1..=200).contains(&limit) {
            return Err(Error::invalid("LIMIT_INVALID", "limit must be between 1 and 200").at("limit"));
        }
        Ok(Self { limit, after })
    }

    /// Rows to read: one more than the page, which tells whether another page follows.
    pub fn fetch(&self) -> i64 {
        i64::from(self.limit) + 1
    }
}

/// One page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Pass it as `after` to get the next page; None = this is the last.
    pub next: Option<Uuid>,
}

impl<T> Page<T> {
    /// Cuts `rows`, read with [`PageRequest::fetch`], to the page.
    pub fn cut(request: &PageRequest, mut rows: Vec<T>, id: impl Fn(&T) -> Uuid) -> Self {
        let limit = request.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(id) } else { None };
        Self { data: rows, next }
    }
}
