//! The values of a row, bound for either engine without a copy in between.

use std::borrow::Cow;

use manifold_core::Timestamp;
use rusqlite::types::ValueRef;
use serde::Serialize;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo};
use sqlx::types::Json;
use sqlx::{Arguments, Postgres, Type};
use uuid::Uuid;

use crate::Engine;

/// Takes the values of a row in the order of its columns. A NUL character, which Postgres cannot store in text, becomes
/// U+FFFD on both engines.
pub struct Values<'a> {
    statement: Engine<&'a mut dyn Bind, &'a mut PgArguments>,
    error: Option<BoxDynError>,
}

/// A statement of SQLite that takes its values one after the other.
pub(crate) trait Bind {
    fn next(&mut self, value: ValueRef<'_>) -> rusqlite::Result<()>;
}

/// Adds the same value for either engine.
macro_rules! add {
    ($values:expr, $sqlite:expr, $postgres:expr) => {{
        let outcome = match &mut $values.statement {
            Engine::Sqlite(statement) => statement.next($sqlite).map_err(BoxDynError::from),
            Engine::Postgres(arguments) => arguments.add($postgres),
        };
        if let Err(error) = outcome {
            $values.error = Some(error);
        }
    }};
}

impl<'a> Values<'a> {
    pub(crate) fn new(statement: Engine<&'a mut dyn Bind, &'a mut PgArguments>) -> Self {
        Self { statement, error: None }
    }

    /// Whether every value could be encoded.
    pub(crate) fn finish(self) -> Result<(), BoxDynError> {
        self.error.map_or(Ok(()), Err)
    }

    /// An id.
    pub fn uuid(&mut self, value: Uuid) {
        add!(self, ValueRef::Blob(value.as_bytes()), value);
    }

    /// An id or NULL.
    pub fn opt_uuid(&mut self, value: Option<Uuid>) {
        match value {
            Some(value) => self.uuid(value),
            None => add!(self, ValueRef::Null, None::<Uuid>),
        }
    }

    /// Text.
    pub fn text(&mut self, value: &str) {
        let value = &*storable(value);
        add!(self, ValueRef::Text(value.as_bytes()), value);
    }

    /// Text or NULL.
    pub fn opt_text(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.text(value),
            None => add!(self, ValueRef::Null, None::<&str>),
        }
    }

    /// An integer.
    pub fn int(&mut self, value: i64) {
        add!(self, ValueRef::Integer(value), value);
    }

    /// An integer or NULL.
    pub fn opt_int(&mut self, value: Option<i64>) {
        match value {
            Some(value) => self.int(value),
            None => add!(self, ValueRef::Null, None::<i64>),
        }
    }

    /// A double.
    pub fn real(&mut self, value: f64) {
        add!(self, ValueRef::Real(value), value);
    }

    /// A double or NULL.
    pub fn opt_real(&mut self, value: Option<f64>) {
        match value {
            Some(value) => self.real(value),
            None => add!(self, ValueRef::Null, None::<f64>),
        }
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        add!(self, ValueRef::Integer(value.into()), value);
    }

    /// A truth value or NULL.
    pub fn opt_bool(&mut self, value: Option<bool>) {
        match value {
            Some(value) => self.bool(value),
            None => add!(self, ValueRef::Null, None::<bool>),
        }
    }

    /// Bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        add!(self, ValueRef::Blob(value), value);
    }

    /// Bytes or NULL.
    pub fn opt_bytes(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bytes(value),
            None => add!(self, ValueRef::Null, None::<&[u8]>),
        }
    }

    /// A time.
    pub fn time(&mut self, value: Timestamp) {
        self.int(value.micros());
    }

    /// A time or NULL.
    pub fn opt_time(&mut self, value: Option<Timestamp>) {
        self.opt_int(value.map(Timestamp::micros));
    }

    /// A value as JSON.
    pub fn json<T: Serialize + ?Sized>(&mut self, value: &T) {
        match serde_json::to_string(value) {
            Ok(text) => self.json_text(&text),
            Err(error) => self.error = Some(error.into()),
        }
    }

    /// A value as JSON, or NULL.
    pub fn opt_json<T: Serialize + ?Sized>(&mut self, value: Option<&T>) {
        match value {
            Some(value) => self.json(value),
            None => add!(self, ValueRef::Null, None::<JsonText<'_>>),
        }
    }

    /// JSON that is already written.
    pub fn json_text(&mut self, text: &str) {
        let text = storable_json(text);
        add!(self, ValueRef::Text(text.as_bytes()), JsonText(&text));
    }
}

/// Written JSON for a JSONB column.
struct JsonText<'a>(&'a str);

impl Type<Postgres> for JsonText<'_> {
    fn type_info() -> PgTypeInfo {
        <Json<()> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for JsonText<'_> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // The version of JSONB's binary form, then the text.
        buffer.push(1);
        buffer.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }
}

/// Text without NUL.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// JSON without the escape of NUL. An even number of backslashes before it means that it is not an escape.
pub(crate) fn storable_json(text: &str) -> Cow<'_, str> {
    if !text.as_bytes().contains(&b'\\') || !text.contains("\\u0000") {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\u0000") {
        let (before, found) = rest.split_at(at);
        let backslashes = before.bytes().rev().take_while(|byte| *byte == b'\\').count();
        clean.push_str(before);
        clean.push_str(if backslashes % 2 == 0 { "\\ufffd" } else { "\\u0000" });
        rest = &found[6..];
    }
    clean.push_str(rest);
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_nul_which_postgres_cannot_store() {
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
        assert_eq!(storable_json(r#"{"a":"\u0000x\\u0000\\\u0000"}"#), r#"{"a":"\ufffdx\\u0000\\\ufffd"}"#);
        assert!(matches!(storable("plain"), Cow::Borrowed(_)));
    }
}
