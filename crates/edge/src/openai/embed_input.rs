//! What vectors are wanted of: a text, texts, tokens or lists of tokens, and in which form.

use std::fmt;

use manifold_contract::ai::v1::embed_input::Kind;
use manifold_contract::ai::v1::{EmbedInput, EmbedRequest, Tokens};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use super::convert;
use crate::json;
use crate::refusal::{Answer, Refusal};

const MAX_INPUTS: usize = 2_048;

/// The body of a request; unknown fields are ignored.
#[derive(Debug, serde::Deserialize)]
struct Body {
    model: Option<String>,
    input: Option<Inputs>,
    encoding_format: Option<String>,
    dimensions: Option<u32>,
    user: Option<String>,
}

/// What vectors are wanted of.
#[derive(Debug)]
struct Inputs(Vec<EmbedInput>);

/// One element of an array of inputs: a text, a token, or a list of tokens.
#[derive(Debug)]
enum Item {
    Text(String),
    Token(u32),
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrTokens;
        impl<'de> Visitor<'de> for TextOrTokens {
            type Value = Item;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string, a token or an array of tokens")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Item, E> {
                Ok(Item::Text(text.to_owned()))
            }
            fn visit_u64<E: de::Error>(self, token: u64) -> Result<Item, E> {
                u32::try_from(token).map(Item::Token).map_err(|_| E::custom("a token is less than 2^32"))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Item, S::Error> {
                let mut tokens = Vec::new();
                while let Some(token) = items.next_element()? {
                    tokens.push(token);
                }
                Ok(Item::Tokens(tokens))
            }
        }
        deserializer.deserialize_any(TextOrTokens)
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMany;
        impl<'de> Visitor<'de> for OneOrMany {
            type Value = Inputs;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string, strings, or arrays of tokens")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs(vec![input(Kind::Text(text.to_owned()))]))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Inputs, S::Error> {
                let (mut inputs, mut ids) = (Vec::new(), Vec::new());
                while let Some(item) = items.next_element()? {
                    match item {
                        Item::Text(text) => inputs.push(input(Kind::Text(text))),
                        Item::Tokens(ids) => inputs.push(input(Kind::Tokens(Tokens { ids }))),
                        Item::Token(id) => ids.push(id),
                    }
                }
                match (inputs.is_empty(), ids.is_empty()) {
                    (_, true) => Ok(Inputs(inputs)),
                    (true, false) => Ok(Inputs(vec![input(Kind::Tokens(Tokens { ids }))])),
                    (false, false) => Err(de::Error::custom("tokens and texts are mixed")),
                }
            }
        }
        deserializer.deserialize_any(OneOrMany)
    }
}

fn input(kind: Kind) -> EmbedInput {
    EmbedInput { kind: Some(kind) }
}

/// How vectors are printed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    Numbers,
    Base64,
}

/// Reads a body.
pub(crate) fn decode(body: &[u8]) -> Answer<(EmbedRequest, Form)> {
    let body: Body = json::read(body)?;
    let model = convert::model(body.model)?;
    let Inputs(inputs) = body.input.ok_or_else(|| invalid("input", "input is missing"))?;
    if !(1..=MAX_INPUTS).contains(&inputs.len()) {
        return Err(invalid("input", "input has 1 to 2048 elements"));
    }
    if let Some(index) = inputs.iter().position(is_empty) {
        return Err(invalid(&format!("input[{index}]"), "an input must not be empty"));
    }
    if body.dimensions == Some(0) {
        return Err(invalid("dimensions", "dimensions is at least 1"));
    }
    let form = match body.encoding_format.as_deref() {
        None | Some("float") => Form::Numbers,
        Some("base64") => Form::Base64,
        Some(_) => return Err(invalid("encoding_format", "encoding_format is float or base64")),
    };
    let (dimensions, user) = (body.dimensions, body.user.unwrap_or_default());
    Ok((EmbedRequest { model, inputs, dimensions, user, dialect: "openai".to_owned() }, form))
}

fn is_empty(input: &EmbedInput) -> bool {
    match &input.kind {
        Some(Kind::Text(text)) => text.is_empty(),
        Some(Kind::Tokens(tokens)) => tokens.ids.is_empty(),
        None => true,
    }
}

fn invalid(path: &str, message: &'static str) -> Refusal {
    Refusal::bad("BODY_INVALID", message).at(path)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(fields: &Value) -> Answer<(EmbedRequest, Form)> {
        let mut body = json!({"model": "m"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        decode(body.to_string().as_bytes())
    }

    #[test]
    fn inputs_come_in_four_forms() {
        let text = |text: &str| input(Kind::Text(text.to_owned()));
        let tokens = |ids: &[u32]| input(Kind::Tokens(Tokens { ids: ids.to_vec() }));
        for (given, expected) in [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![tokens(&[1, 2])]),
            (json!([[1], [2, 3]]), vec![tokens(&[1]), tokens(&[2, 3])]),
        ] {
            let (request, form) = read(&json!({"input": given})).unwrap();

            assert_eq!((request.inputs, form), (expected, Form::Numbers));
        }
    }

    #[test]
    fn the_form_of_the_vectors_is_chosen() {
        let (request, form) =
            read(&json!({"input": "a", "encoding_format": "base64", "dimensions": 256, "unknown": 1})).unwrap();

        assert_eq!((request.dimensions, form), (Some(256), Form::Base64));
    }

    #[test]
    fn every_fault_is_400_and_names_its_place() {
        for (fields, param) in [
            (json!({}), "input"),
            (json!({"input": []}), "input"),
            (json!({"input": ""}), "input[0]"),
            (json!({"input": ["a", ""]}), "input[1]"),
            (json!({"input": [[]]}), "input[0]"),
            (json!({"input": ["a", 1]}), "input"),
            (json!({"input": ["a", true]}), "input[1]"),
            (json!({"input": {}}), "input"),
            (json!({"input": [-1]}), "input[0]"),
            (json!({"input": vec!["a"; 2_049]}), "input"),
            (json!({"input": "a", "dimensions": 0}), "dimensions"),
            (json!({"input": "a", "encoding_format": "hex"}), "encoding_format"),
        ] {
            let refusal = read(&fields).unwrap_err();

            assert_eq!((refusal.status.as_u16(), refusal.error.param()), (400, Some(param)), "{}", refusal.error);
        }
    }
}
