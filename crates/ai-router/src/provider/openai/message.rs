//! Messages in OpenAI's dialect. Texts and arguments are borrowed; a message that holds one text has it as a plain string.

use std::borrow::Cow;

use manifold_contract::ai::v1::{self as ai, Role, part};
use serde::{Serialize, Serializer};

use super::{Compat, MediaForm};
use crate::classify::{Class, Failure};
use crate::provider::media::{Address, Base64, bytes, sound_format};
use crate::provider::outgoing::degrade;

#[derive(Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Content<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<Cow<'a, str>>,
}

enum Content<'a> {
    Null,
    Text(&'a str),
    Parts(Vec<Part<'a>>),
}

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Parts(parts) => parts.serialize(serializer),
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Part<'a> {
    Text {
        text: &'a str,
    },
    ImageUrl {
        image_url: Image<'a>,
    },
    InputAudio {
        input_audio: Audio<'a>,
    },
    File {
        file: File<'a>,
    },
    DocumentUrl {
        document_url: Address<'a>,
        #[serde(skip_serializing_if = "str::is_empty")]
        document_name: &'a str,
    },
}

#[derive(Serialize)]
struct Image<'a> {
    url: Address<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Audio<'a> {
    Described { data: Base64<'a>, format: &'a str },
    Plain(Base64<'a>),
}

#[derive(Serialize)]
struct File<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    filename: &'a str,
    file_data: Address<'a>,
}

#[derive(Serialize)]
struct Call<'a> {
    id: Cow<'a, str>,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: &'a str,
}

/// All messages, in order. A message with several tool results becomes as many messages.
pub(super) fn all<'a>(
    compat: &Compat,
    model: &str,
    request: &'a ai::ChatRequest,
    degraded: &mut Vec<&'static str>,
) -> Result<Vec<Message<'a>>, Failure> {
    let mut messages = Vec::with_capacity(request.messages.len());
    for message in &request.messages {
        let role = match message.role() {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Unspecified => return Err(Failure::new(Class::Invalid, "a message has no role").at("messages")),
        };
        let before = messages.len();
        results(compat, message, &mut messages);
        if messages.len() == before {
            let mut converted = one(compat, model, message)?;
            converted.role = role;
            if !message.name.is_empty() && !compat.quirks.has("name") {
                converted.name = "";
                degrade(degraded, "name");
            }
            messages.push(converted);
        }
    }
    Ok(messages)
}

fn results<'a>(compat: &Compat, message: &'a ai::Message, messages: &mut Vec<Message<'a>>) {
    for part in &message.parts {
        if let Some(part::Kind::ToolResult(result)) = &part.kind {
            let id = compat.quirks.tool_ids.fit(&result.id);
            messages.push(Message {
                role: "tool",
                content: Content::Text(&result.text),
                tool_call_id: Some(id),
                ..empty("")
            });
        }
    }
}

fn empty(name: &str) -> Message<'_> {
    Message {
        role: "user",
        content: Content::Null,
        name,
        reasoning: None,
        reasoning_content: None,
        tool_calls: Vec::new(),
        tool_call_id: None,
    }
}

fn one<'a>(compat: &Compat, model: &str, message: &'a ai::Message) -> Result<Message<'a>, Failure> {
    let (mut parts, mut converted) = (Vec::new(), empty(&message.name));
    for part in &message.parts {
        match &part.kind {
            Some(part::Kind::Text(text) | part::Kind::Refusal(text)) => parts.push(Part::Text { text }),
            Some(part::Kind::Thinking(text)) => think(compat, model, part, text, &mut converted),
            Some(part::Kind::ToolCall(call)) => converted.tool_calls.push(Call {
                id: compat.quirks.tool_ids.fit(&call.id),
                r#type: "function",
                function: Function { name: &call.name, arguments: arguments_of(call) },
            }),
            Some(kind) => parts.push(medium(compat.quirks.media, kind)?),
            None => {}
        }
    }
    converted.content = match parts.as_slice() {
        [] if converted.tool_calls.is_empty() => Content::Text(""),
        [] => Content::Null,
        [Part::Text { text }] => Content::Text(text),
        _ => Content::Parts(parts),
    };
    Ok(converted)
}

/// A call without arguments has an empty object of them.
fn arguments_of(call: &ai::ToolCall) -> &str {
    if call.arguments_json.is_empty() { "{}" } else { &call.arguments_json }
}

/// Thinking goes back only to the model that made it, and only where the vendor has a field for it.
fn think<'a>(compat: &Compat, model: &str, part: &'a ai::Part, text: &'a str, message: &mut Message<'a>) {
    let own = part.origin.is_empty() || part.origin.split_once('/').is_some_and(|(_, maker)| maker == model);
    let field = match compat.quirks.thinking {
        Some("reasoning") if own => &mut message.reasoning,
        Some(_) if own => &mut message.reasoning_content,
        _ => return,
    };
    match field {
        Some(known) => known.to_mut().push_str(text),
        None => *field = Some(Cow::Borrowed(text)),
    }
}

fn medium(form: MediaForm, kind: &part::Kind) -> Result<Part<'_>, Failure> {
    Ok(match kind {
        part::Kind::Image(media) => Part::ImageUrl { image_url: Image { url: Address(media), detail: &media.detail } },
        part::Kind::Audio(media) if form == MediaForm::Mistral => {
            Part::InputAudio { input_audio: Audio::Plain(Base64(bytes(media)?)) }
        }
        part::Kind::Audio(media) => {
            let data = Base64(bytes(media)?);
            Part::InputAudio { input_audio: Audio::Described { data, format: sound_format(&media.mime) } }
        }
        part::Kind::File(media) if form == MediaForm::Mistral => {
            Part::DocumentUrl { document_url: Address(media), document_name: &media.filename }
        }
        part::Kind::File(media) => {
            bytes(media)?;
            Part::File { file: File { filename: &media.filename, file_data: Address(media) } }
        }
        _ => {
            return Err(Failure::new(Class::Invalid, "a message holds a part that its role cannot have").at("messages"));
        }
    })
}
