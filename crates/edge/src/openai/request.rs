//! `POST /v1/chat/completions` as clients send it. Read once; text is borrowed where it can be.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Text that is borrowed unless it holds escapes.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// A JSON object of which some fields are known; the others are kept as they came.
macro_rules! open_object {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name<'a> {
            $(pub(crate) $field: Option<$type>,)*
            /// Fields that are not ours, as raw JSON.
            pub(crate) extras: Vec<(Text<'a>, &'a RawValue)>,
        }

        impl<'de: 'a, 'a> Deserialize<'de> for $name<'a> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields<'a>(PhantomData<&'a ()>);
                impl<'de: 'a, 'a> Visitor<'de> for Fields<'a> {
                    type Value = $name<'a>;
                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str("an object")
                    }
                    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                        let mut object = $name::default();
                        while let Some(key) = map.next_key::<Text<'de>>()? {
                            match &*key.0 {
                                $(stringify!($field) => {
                                    if object.$field.is_some() {
                                        return Err(de::Error::duplicate_field(stringify!($field)));
                                    }
                                    object.$field = map.next_value()?;
                                })*
                                _ => object.extras.push((key, map.next_value()?)),
                            }
                        }
                        Ok(object)
                    }
                }
                deserializer.deserialize_map(Fields(PhantomData))
            }
        }
    };
}

open_object!(
    /// The whole body.
    Body {
        model: String,
        messages: Vec<Message<'a>>,
        tools: Vec<Tool<'a>>,
        tool_choice: ToolChoice,
        parallel_tool_calls: bool,
        max_tokens: u32,
        max_completion_tokens: u32,
        temperature: f64,
        top_p: f64,
        top_k: u32,
        seed: i64,
        stop: OneOrMany<String>,
        presence_penalty: f64,
        frequency_penalty: f64,
        n: u32,
        logprobs: bool,
        top_logprobs: u32,
        logit_bias: &'a RawValue,
        response_format: ResponseFormat<'a>,
        reasoning_effort: String,
        stream: bool,
        stream_options: StreamOptions,
        user: String,
        models: Vec<String>,
        manifold: Options,
    }
);

/// One or several of a thing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// As a list.
    pub(crate) fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

impl<'de> Deserialize<'de> for OneOrMany<String> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strings;
        impl<'de> Visitor<'de> for Strings {
            type Value = OneOrMany<String>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or an array of strings")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(OneOrMany::One(text.to_owned()))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, items: S) -> Result<Self::Value, S::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items)).map(OneOrMany::Many)
            }
        }
        deserializer.deserialize_any(Strings)
    }
}

/// One message.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow)]
    pub(crate) role: Text<'a>,
    #[serde(borrow)]
    pub(crate) content: Option<Content<'a>>,
    pub(crate) name: Option<String>,
    #[serde(borrow)]
    pub(crate) tool_calls: Option<Vec<ToolCall<'a>>>,
    pub(crate) tool_call_id: Option<String>,
    pub(crate) refusal: Option<String>,
    pub(crate) reasoning_content: Option<String>,
}

/// A text, or parts of several kinds.
#[derive(Debug)]
pub(crate) enum Content<'a> {
    Text(String),
    Parts(Vec<Part<'a>>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Content<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrParts<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for TextOrParts<'a> {
            type Value = Content<'a>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or an array of parts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Content::Text(text.to_owned()))
            }
            fn visit_string<E: de::Error>(self, text: String) -> Result<Self::Value, E> {
                Ok(Content::Text(text))
            }
            fn visit_seq<S: SeqAccess<'de>>(self, parts: S) -> Result<Self::Value, S::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(parts)).map(Content::Parts)
            }
        }
        deserializer.deserialize_any(TextOrParts(PhantomData))
    }
}

/// One part of a message.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Part<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) type_: Text<'a>,
    pub(crate) text: Option<String>,
    pub(crate) refusal: Option<String>,
    #[serde(borrow)]
    pub(crate) image_url: Option<ImageUrl<'a>>,
    #[serde(borrow)]
    pub(crate) input_audio: Option<InputAudio<'a>>,
    #[serde(borrow)]
    pub(crate) file: Option<File<'a>>,
}

/// An image by address; some clients send the bare address.
#[derive(Debug)]
pub(crate) struct ImageUrl<'a> {
    pub(crate) url: Text<'a>,
    pub(crate) detail: Option<String>,
}

impl<'de: 'a, 'a> Deserialize<'de> for ImageUrl<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        struct Object<'a> {
            #[serde(borrow)]
            url: Text<'a>,
            detail: Option<String>,
        }
        struct UrlOrObject<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for UrlOrObject<'a> {
            type Value = ImageUrl<'a>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object with a url")
            }
            fn visit_borrowed_str<E: de::Error>(self, url: &'de str) -> Result<Self::Value, E> {
                Ok(ImageUrl { url: Text(Cow::Borrowed(url)), detail: None })
            }
            fn visit_str<E: de::Error>(self, url: &str) -> Result<Self::Value, E> {
                Ok(ImageUrl { url: Text(Cow::Owned(url.to_owned())), detail: None })
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                let Object { url, detail } = Object::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ImageUrl { url, detail })
            }
        }
        deserializer.deserialize_any(UrlOrObject(PhantomData))
    }
}

/// Sound.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct InputAudio<'a> {
    #[serde(borrow)]
    pub(crate) data: Text<'a>,
    #[serde(borrow)]
    pub(crate) format: Text<'a>,
}

/// A document.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct File<'a> {
    #[serde(borrow)]
    pub(crate) file_data: Option<Text<'a>>,
    pub(crate) file_id: Option<String>,
    pub(crate) filename: Option<String>,
}

/// A call that the model made earlier.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct ToolCall<'a> {
    pub(crate) id: String,
    #[serde(rename = "type", borrow)]
    pub(crate) type_: Option<Text<'a>>,
    pub(crate) function: Option<CalledFunction>,
}

/// Which function with which arguments, as the model wrote them.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct CalledFunction {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) arguments: String,
}

/// A tool that the model may call.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Tool<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) type_: Text<'a>,
    #[serde(borrow)]
    pub(crate) function: Option<Function<'a>>,
}

/// A function that the model may call.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Function<'a> {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    #[serde(borrow)]
    pub(crate) parameters: Option<&'a RawValue>,
    pub(crate) strict: Option<bool>,
}

/// Whether and which tool must be called.
#[derive(Debug)]
pub(crate) enum ToolChoice {
    Mode(String),
    Object(NamedChoice),
}

/// One function, or some of the tools.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct NamedChoice {
    #[serde(rename = "type")]
    pub(crate) type_: String,
    pub(crate) function: Option<Named>,
    pub(crate) allowed_tools: Option<AllowedTools>,
}

/// The name of a function.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Named {
    pub(crate) name: String,
}

/// Some of the tools.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct AllowedTools {
    pub(crate) mode: String,
    pub(crate) tools: Vec<AllowedTool>,
}

/// One of them.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct AllowedTool {
    pub(crate) function: Named,
}

impl<'de> Deserialize<'de> for ToolChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ModeOrObject;
        impl<'de> Visitor<'de> for ModeOrObject {
            type Value = ToolChoice;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string or an object")
            }
            fn visit_str<E: de::Error>(self, mode: &str) -> Result<Self::Value, E> {
                Ok(ToolChoice::Mode(mode.to_owned()))
            }
            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Self::Value, M::Error> {
                NamedChoice::deserialize(MapAccessDeserializer::new(map)).map(ToolChoice::Object)
            }
        }
        deserializer.deserialize_any(ModeOrObject)
    }
}

/// Which form the answer must have.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct ResponseFormat<'a> {
    #[serde(rename = "type", borrow)]
    pub(crate) type_: Text<'a>,
    #[serde(borrow)]
    pub(crate) json_schema: Option<JsonSchema<'a>>,
}

/// A schema that the answer must follow.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct JsonSchema<'a> {
    pub(crate) name: String,
    pub(crate) description: Option<String>,
    #[serde(borrow)]
    pub(crate) schema: Option<&'a RawValue>,
    pub(crate) strict: Option<bool>,
}

/// What a stream tells beyond content.
#[derive(Debug, Default, serde::Deserialize)]
pub(crate) struct StreamOptions {
    pub(crate) include_usage: Option<bool>,
}

/// Our own wishes: the same as the `manifold-*` headers. An unknown one is refused, because it may matter.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Options {
    pub(crate) labels: Option<OneOrMany<String>>,
    pub(crate) strict: Option<bool>,
    pub(crate) thinking: Option<bool>,
}
