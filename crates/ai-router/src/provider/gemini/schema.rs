//! JSON Schema as far as Gemini understands it: references become what they refer to, unknown keywords are left out.

use serde_json::{Map, Value};

use crate::classify::{Class, Failure};
use crate::provider::outgoing::degrade;

/// Which words Gemini understands in this place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Its subset of OpenAPI 3.0: parameters of tools.
    OpenApi,
    /// Its subset of JSON Schema: the format of answers.
    JsonSchema,
}

/// References inside references are followed this far.
const MAX_REFERENCES: usize = 16;
/// A schema of more nodes than this comes from references that multiply.
const MAX_NODES: usize = 10_000;

const BOTH: &[&str] = &[
    "type",
    "format",
    "title",
    "description",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "required",
    "propertyOrdering",
];
const OPEN_API: &[&str] = &["nullable", "minLength", "maxLength", "pattern", "minProperties", "maxProperties"];
/// Words that only explain. Leaving them out loses nothing that binds the model.
const HARMLESS: &[&str] = &[
    "$schema",
    "$id",
    "$comment",
    "$defs",
    "definitions",
    "default",
    "example",
    "examples",
    "strict",
    "deprecated",
    "readOnly",
    "writeOnly",
];
const FORMATS: &[&str] = &["date-time", "enum", "float", "double", "int32", "int64"];

/// The schema as Gemini takes it; None if it says nothing.
pub(super) fn clean(
    text: &str,
    form: Form,
    param: &'static str,
    degraded: &mut Vec<&'static str>,
) -> Result<Option<Value>, Failure> {
    let root: Value =
        serde_json::from_str(text).map_err(|_| Failure::new(Class::Invalid, "a schema is no JSON").at(param))?;
    let mut cleaner = Cleaner { root: &root, form, is_lossy: false, nodes: 0 };
    let cleaned = cleaner.node(&root, 0).map_err(|message| Failure::new(Class::Invalid, message).at(param))?;
    if cleaner.is_lossy {
        degrade(degraded, "schema");
    }
    let says_nothing = form == Form::OpenApi
        && cleaned.get("properties").is_none_or(|properties| properties.as_object().is_some_and(Map::is_empty));
    Ok((!says_nothing).then_some(cleaned))
}

struct Cleaner<'a> {
    root: &'a Value,
    form: Form,
    is_lossy: bool,
    nodes: usize,
}

type Outcome<T> = Result<T, &'static str>;

impl<'a> Cleaner<'a> {
    fn node(&mut self, node: &'a Value, references: usize) -> Outcome<Value> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err("a schema has more than 10,000 nodes after its references are resolved");
        }
        let Value::Object(map) = node else {
            // `true` allows everything, and so does an empty schema.
            return Ok(Value::Object(Map::new()));
        };
        let mut cleaned = match map.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.reference(reference, references)?,
            None => Map::new(),
        };
        for (key, value) in map {
            self.keyword(key, value, references, &mut cleaned)?;
        }
        self.tidy(&mut cleaned);
        Ok(Value::Object(cleaned))
    }

    fn reference(&mut self, reference: &str, references: usize) -> Outcome<Map<String, Value>> {
        if references >= MAX_REFERENCES {
            return Err("a schema refers to itself, or its references are nested deeper than 16");
        }
        let pointer = reference.strip_prefix('#').ok_or("a schema refers to another document")?;
        let target = self.root.pointer(pointer).ok_or("a schema refers to a definition that it does not have")?;
        match self.node(target, references + 1)? {
            Value::Object(map) => Ok(map),
            _ => Ok(Map::new()),
        }
    }

    fn keyword(
        &mut self,
        key: &str,
        value: &'a Value,
        references: usize,
        cleaned: &mut Map<String, Value>,
    ) -> Outcome<()> {
        match key {
            "$ref" => {}
            "properties" => self.properties(value, references, cleaned)?,
            "items" => insert(cleaned, key, self.node(value, references)?),
            "anyOf" | "oneOf" => insert(cleaned, "anyOf", self.list(value, references)?),
            "prefixItems" if self.form == Form::JsonSchema => insert(cleaned, key, self.list(value, references)?),
            "allOf" => self.all_of(value, references, cleaned)?,
            "const" => self.values(std::slice::from_ref(value), cleaned),
            "enum" => self.values(value.as_array().map_or(&[], Vec::as_slice), cleaned),
            "additionalProperties" if self.form == Form::JsonSchema && value.is_object() => {
                insert(cleaned, key, self.node(value, references)?);
            }
            "additionalProperties" if self.form == Form::JsonSchema => insert(cleaned, key, value.clone()),
            // Gemini fills in only what is declared.
            "additionalProperties" if *value == Value::Bool(false) => {}
            _ if BOTH.contains(&key) || self.form == Form::OpenApi && OPEN_API.contains(&key) => {
                insert(cleaned, key, value.clone());
            }
            _ if HARMLESS.contains(&key) => {}
            _ => self.is_lossy = true,
        }
        Ok(())
    }

    fn properties(&mut self, value: &'a Value, references: usize, cleaned: &mut Map<String, Value>) -> Outcome<()> {
        let mut properties = match cleaned.remove("properties") {
            Some(Value::Object(known)) => known,
            _ => Map::new(),
        };
        for (name, schema) in value.as_object().into_iter().flatten() {
            properties.insert(name.clone(), self.node(schema, references)?);
        }
        insert(cleaned, "properties", Value::Object(properties));
        Ok(())
    }

    fn list(&mut self, value: &'a Value, references: usize) -> Outcome<Value> {
        let items = value.as_array().into_iter().flatten();
        Ok(Value::Array(items.map(|item| self.node(item, references)).collect::<Outcome<_>>()?))
    }

    /// Objects that all have to hold are one object.
    fn all_of(&mut self, value: &'a Value, references: usize, cleaned: &mut Map<String, Value>) -> Outcome<()> {
        for part in value.as_array().into_iter().flatten() {
            let Value::Object(part) = self.node(part, references)? else {
                continue;
            };
            for (key, value) in part {
                match (cleaned.get_mut(&key), value) {
                    (Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
                    (Some(Value::Array(known)), Value::Array(more)) if key == "required" => known.extend(more),
                    (Some(known), value) => self.is_lossy |= *known != value,
                    (None, value) => insert(cleaned, &key, value),
                }
            }
        }
        Ok(())
    }

    /// Only texts can be listed in OpenAPI form.
    fn values(&mut self, values: &[Value], cleaned: &mut Map<String, Value>) {
        let is_listable =
            |value: &&Value| self.form == Form::JsonSchema || value.as_str().is_some_and(|text| !text.is_empty());
        let kept: Vec<Value> = values.iter().filter(is_listable).cloned().collect();
        self.is_lossy |= kept.len() < values.iter().filter(|value| !value.is_null()).count();
        if kept.len() < values.len() && values.iter().any(Value::is_null) {
            insert(cleaned, "nullable", Value::Bool(true));
        }
        if !kept.is_empty() {
            insert(cleaned, "enum", Value::Array(kept));
        }
    }

    /// What can only be judged when the whole node is known.
    fn tidy(&mut self, cleaned: &mut Map<String, Value>) {
        if let (Some(Value::Array(required)), Some(Value::Object(properties))) =
            (cleaned.get("required"), cleaned.get("properties"))
        {
            let known: Vec<Value> = required
                .iter()
                .filter(|name| name.as_str().is_some_and(|name| properties.contains_key(name)))
                .cloned()
                .collect();
            insert(cleaned, "required", Value::Array(known));
        }
        if self.form == Form::JsonSchema {
            return;
        }
        if cleaned.get("format").and_then(Value::as_str).is_some_and(|format| !FORMATS.contains(&format)) {
            cleaned.remove("format");
            self.is_lossy = true;
        }
        if let Some(Value::Array(types)) =
            cleaned.remove("type").map(|kind| if kind.is_array() { kind } else { Value::Array(vec![kind]) })
        {
            split_types(types, cleaned);
        }
        join_null(cleaned);
    }
}

/// OpenAPI has one type in a place, and `nullable` beside it.
fn split_types(types: Vec<Value>, cleaned: &mut Map<String, Value>) {
    let (null, mut others): (Vec<Value>, Vec<Value>) = types.into_iter().partition(|kind| kind == "null");
    if !null.is_empty() && !others.is_empty() {
        insert(cleaned, "nullable", Value::Bool(true));
    }
    match others.len() {
        0 => insert(cleaned, "type", Value::from("null")),
        1 => insert(cleaned, "type", others.remove(0)),
        _ => {
            let choices = others.into_iter().map(|kind| Value::Object(Map::from_iter([("type".to_owned(), kind)])));
            insert(cleaned, "anyOf", Value::Array(choices.collect()));
        }
    }
}

/// `anyOf: [X, null]` is X, nullable.
fn join_null(cleaned: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = cleaned.get_mut("anyOf") else {
        return;
    };
    let before = choices.len();
    choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
    let had_null = choices.len() < before;
    let only = if choices.len() == 1 { choices.pop() } else { None };
    if let Some(Value::Object(only)) = only {
        cleaned.remove("anyOf");
        for (key, value) in only {
            cleaned.entry(key).or_insert(value);
        }
    }
    if had_null {
        insert(cleaned, "nullable", Value::Bool(true));
    }
}

fn insert(map: &mut Map<String, Value>, key: &str, value: Value) {
    map.insert(key.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_api(text: &str) -> (String, bool) {
        let mut degraded = Vec::new();
        let cleaned = clean(text, Form::OpenApi, "tools", &mut degraded).unwrap().unwrap();
        (cleaned.to_string(), !degraded.is_empty())
    }

    #[test]
    fn inlines_references_and_joins_null() {
        let schema = r##"{"$schema":"x","type":"object","additionalProperties":false,"required":["a","gone"],
            "properties":{"a":{"$ref":"#/$defs/unit","description":"the unit"},"b":{"anyOf":[{"type":"integer"},{"type":"null"}]},"c":{"type":["string","null"]}},
            "$defs":{"unit":{"enum":["C","F"],"type":"string"}}}"##;

        let (cleaned, lossy) = open_api(schema);

        assert_eq!(
            cleaned,
            r#"{"properties":{"a":{"description":"the unit","enum":["C","F"],"type":"string"},"b":{"nullable":true,"type":"integer"},"c":{"nullable":true,"type":"string"}},"required":["a"],"type":"object"}"#
        );
        assert!(!lossy);
    }

    #[test]
    fn says_when_a_rule_is_lost() {
        for lost in [r#""exclusiveMinimum":0"#, r#""format":"uuid""#, r#""enum":[1,2]"#, r#""not":{}"#] {
            let (cleaned, lossy) =
                open_api(&format!(r#"{{"type":"object","properties":{{"a":{{"type":"string",{lost}}}}}}}"#));

            assert_eq!(cleaned, r#"{"properties":{"a":{"type":"string"}},"type":"object"}"#);
            assert!(lossy, "{lost}");
        }
    }

    #[test]
    fn refuses_circles_and_multiplying_references() {
        let circle = r##"{"type":"object","properties":{"a":{"$ref":"#"}}}"##;
        let bomb: String = (0..15)
            .map(|level| {
                format!(r##""d{level}":{{"anyOf":[{{"$ref":"#/$defs/d{0}"}},{{"$ref":"#/$defs/d{0}"}}]}},"##, level + 1)
            })
            .collect();
        let bomb = format!(r##"{{"$ref":"#/$defs/d0","$defs":{{{bomb}"d15":{{"type":"string"}}}}}}"##);

        for schema in [circle, &bomb] {
            let failure = clean(schema, Form::OpenApi, "tools", &mut Vec::new()).unwrap_err();

            assert_eq!((failure.class, failure.param.as_deref()), (Class::Invalid, Some("tools")));
        }
    }

    #[test]
    fn keeps_json_schema_for_answers() {
        let schema = r#"{"type":"object","properties":{"a":{"type":["integer","null"],"enum":[1,null]}},"required":["a"],"additionalProperties":false}"#;

        let cleaned = clean(schema, Form::JsonSchema, "response_format", &mut Vec::new()).unwrap().unwrap();

        assert_eq!(cleaned, serde_json::from_str::<Value>(schema).unwrap());
    }
}
