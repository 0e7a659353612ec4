//! Finds a name that stands twice in one object: one reader takes the first value and another one the last, so neither is
//! what the client meant.

use std::collections::HashSet;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

/// Where the first name stands that its object has had before, such as `list[0].name`. None, too, for what is no JSON.
pub(super) fn find(body: &[u8]) -> Option<String> {
    let mut path = Path::default();
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    // Whatever else is wrong is told by whoever reads the body for good.
    let _ = Value(&mut path).deserialize(&mut deserializer);
    path.found.then_some(path.text)
}

#[derive(Default)]
struct Path {
    text: String,
    found: bool,
}

struct Value<'p>(&'p mut Path);

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        let begin = self.0.text.len();
        while let Some(name) = map.next_key::<String>()? {
            if begin > 0 {
                self.0.text.push('.');
            }
            self.0.text.push_str(&name);
            if !names.insert(name) {
                self.0.found = true;
                return Err(A::Error::custom("twice"));
            }
            map.next_value_seed(Value(self.0))?;
            self.0.text.truncate(begin);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let begin = self.0.text.len();
        for index in 0.. {
            self.0.text.push_str(&format!("[{index}]"));
            if list.next_element_seed(Value(self.0))?.is_none() {
                break;
            }
            self.0.text.truncate(begin);
        }
        self.0.text.truncate(begin);
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_by_their_place() {
        for (body, place) in [
            (r#"{"a":1,"b":{"a":1},"c":[{"a":1},{"a":2}]}"#, None),
            (r#"{"a":1,"a":1}"#, Some("a")),
            (r#"{"a":[1,{"b":{"c":1,"d":2,"c":3}}]}"#, Some("a[1].b.c")),
            (r#"[[{"a":null,"\u0061":true}]]"#, Some("[0][0].a")),
            (r#"{"__proto__":1,"__proto__":2}"#, Some("__proto__")),
            (r#"{"a":1,"a""#, Some("a")),
            (r#"{"a":1e400,"a":1}"#, None),
            ("", None),
            ("{", None),
        ] {
            assert_eq!(find(body.as_bytes()).as_deref(), place, "{body}");
        }
    }
}
