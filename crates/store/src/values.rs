//! The values of a row, bound for either engine without a copy in between.

use std::borrow::Cow;
use std::sync::Arc;

use manifold_core::Timestamp;
use serde::Serialize;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo};
use sqlx::sqlite::SqliteArguments;
use sqlx::types::Json;
use sqlx::{Arguments, Postgres, Type};
use uuid::Uuid;

use crate::Engine;

/// Takes the values of a row in the order of its columns. A NUL character, which Postgres cannot store in text, becomes
/// U+FFFD on both engines.
pub struct Values<'a> {
    arguments: Engine<&'a mut SqliteArguments, &'a mut PgArguments>,
    texts: Texts,
    error: Option<BoxDynError>,
}

/// Adds the same value for either engine.
macro_rules! add {
    ($values:expr, $value:expr) => {
        add!($values, $value, $value)
    };
    ($values:expr, $sqlite:expr, $postgres:expr) => {{
        let outcome = match &mut $values.arguments {
            Engine::Sqlite(arguments) => arguments.add($sqlite),
            Engine::Postgres(arguments) => arguments.add($postgres),
        };
        if let Err(error) = outcome {
            $values.error = Some(error);
        }
    }};
}

impl<'a> Values<'a> {
    pub(crate) fn new(arguments: Engine<&'a mut SqliteArguments, &'a mut PgArguments>) -> Self {
        Self { arguments, texts: Texts::default(), error: None }
    }

    /// The next row begins.
    pub(crate) fn begin_row(&mut self) {
        self.texts.next = 0;
    }

    /// Whether every value could be encoded.
    pub(crate) fn finish(self) -> Result<(), BoxDynError> {
        self.error.map_or(Ok(()), Err)
    }

    /// An id.
    pub fn uuid(&mut self, value: Uuid) {
        add!(self, value);
    }

    /// An id or NULL.
    pub fn opt_uuid(&mut self, value: Option<Uuid>) {
        add!(self, value);
    }

    /// Text.
    pub fn text(&mut self, value: &str) {
        add!(self, self.texts.share(value), &*storable(value));
    }

    /// Text or NULL.
    pub fn opt_text(&mut self, value: Option<&str>) {
        match value {
            Some(value) => self.text(value),
            None => add!(self, None::<&str>),
        }
    }

    /// An integer.
    pub fn int(&mut self, value: i64) {
        add!(self, value);
    }

    /// An integer or NULL.
    pub fn opt_int(&mut self, value: Option<i64>) {
        add!(self, value);
    }

    /// A double.
    pub fn real(&mut self, value: f64) {
        add!(self, value);
    }

    /// A double or NULL.
    pub fn opt_real(&mut self, value: Option<f64>) {
        add!(self, value);
    }

    /// A truth value.
    pub fn bool(&mut self, value: bool) {
        add!(self, value);
    }

    /// A truth value or NULL.
    pub fn opt_bool(&mut self, value: Option<bool>) {
        add!(self, value);
    }

    /// Bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        add!(self, value);
    }

    /// Bytes or NULL.
    pub fn opt_bytes(&mut self, value: Option<&[u8]>) {
        add!(self, value);
    }

    /// A time.
    pub fn time(&mut self, value: Timestamp) {
        add!(self, value.micros());
    }

    /// A time or NULL.
    pub fn opt_time(&mut self, value: Option<Timestamp>) {
        add!(self, value.map(Timestamp::micros));
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
            None => add!(self, None::<&str>, None::<JsonText<'_>>),
        }
    }

    /// JSON that is already written.
    pub fn json_text(&mut self, text: &str) {
        let text = storable_json(text);
        add!(self, Arc::<str>::from(&*text), JsonText(&text));
    }
}

/// The texts of the row before, in the order in which it gave them. Columns of hot tables hold few different texts: the
/// rows of a batch share them instead of copying each.
#[derive(Default)]
struct Texts {
    before: Vec<Arc<str>>,
    next: usize,
}

impl Texts {
    fn share(&mut self, text: &str) -> Arc<str> {
        let place = self.next;
        self.next += 1;
        match self.before.get_mut(place) {
            Some(before) if **before == *text => before.clone(),
            Some(before) => {
                *before = storable(text).into();
                before.clone()
            }
            None => {
                let new: Arc<str> = storable(text).into();
                self.before.push(new.clone());
                new
            }
        }
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
    fn rows_share_the_texts_that_they_have_in_common() {
        let mut texts = Texts::default();

        let [first, second] = [["groq", "a\0"], ["groq", "b"]].map(|row| {
            texts.next = 0;
            row.map(|text| texts.share(text))
        });

        assert!(Arc::ptr_eq(&first[0], &second[0]));
        assert_eq!([&*first[1], &*second[1]], ["a\u{fffd}", "b"]);
    }

    #[test]
    fn replaces_nul_which_postgres_cannot_store() {
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
        assert_eq!(storable_json(r#"{"a":"\u0000x\\u0000\\\u0000"}"#), r#"{"a":"\ufffdx\\u0000\\\ufffd"}"#);
        assert!(matches!(storable("plain"), Cow::Borrowed(_)));
    }
}
