//! Messages as Ollama wants them: one text, images beside it, arguments as objects, results by the name of the tool.

use std::borrow::Cow;

use manifold_contract::ai::v1::{self as ai, Role, part};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::classify::{Class, Failure};
use crate::provider::media::{Base64, bytes};
use crate::provider::outgoing::degrade;

/// What a message or a call costs beside its text.
const FRAME_BYTES: usize = 64;
const FRAME_TOKENS: usize = 8;

#[derive(Serialize)]
pub(super) struct Message<'a> {
    role: &'static str,
    content: Cow<'a, str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    thinking: Cow<'a, str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<Base64<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    tool_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tool_call_id: &'a str,
}

#[derive(Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: Arguments<'a>,
}

/// An object as the model wrote it; what is none is wrapped.
#[derive(Serialize)]
#[serde(untagged)]
enum Arguments<'a> {
    Object(&'a RawValue),
    Broken { _raw: &'a str },
    None {},
}

/// The messages, and how much they hold.
pub(super) struct Converted<'a> {
    pub messages: Vec<Message<'a>>,
    pub text_bytes: usize,
    /// Rather too many than too few.
    pub tokens: usize,
    pub image_bytes: usize,
    pub images: usize,
}

/// All messages, in order. A message with several tool results becomes as many messages.
pub(super) fn all<'a>(
    model: &str,
    request: &'a ai::ChatRequest,
    degraded: &mut Vec<&'static str>,
) -> Result<Converted<'a>, Failure> {
    let mut converted = Converted {
        messages: Vec::with_capacity(request.messages.len()),
        text_bytes: 0,
        tokens: 0,
        image_bytes: 0,
        images: 0,
    };
    for message in &request.messages {
        let role = match message.role() {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
            Role::Unspecified => return Err(Failure::new(Class::Invalid, "a message has no role").at("messages")),
        };
        if !message.name.is_empty() {
            degrade(degraded, "name");
        }
        if role == "tool" {
            converted.results(request, message);
        } else {
            converted.one(model, role, message, degraded)?;
        }
    }
    Ok(converted)
}

impl<'a> Converted<'a> {
    fn count(&mut self, text: &str) {
        self.text_bytes += text.len() + FRAME_BYTES;
        self.tokens += tokens(text) + FRAME_TOKENS;
    }

    fn results(&mut self, request: &'a ai::ChatRequest, message: &'a ai::Message) {
        for part in &message.parts {
            if let Some(part::Kind::ToolResult(result)) = &part.kind {
                let name = if result.name.is_empty() { name_of_call(request, &result.id) } else { &result.name };
                self.count(&result.text);
                self.messages.push(Message {
                    tool_name: name,
                    tool_call_id: &result.id,
                    content: Cow::Borrowed(&result.text),
                    ..empty("tool")
                });
            }
        }
    }

    fn one(
        &mut self,
        model: &str,
        role: &'static str,
        message: &'a ai::Message,
        degraded: &mut Vec<&'static str>,
    ) -> Result<(), Failure> {
        let mut converted = empty(role);
        self.count("");
        for part in &message.parts {
            match &part.kind {
                Some(part::Kind::Text(text) | part::Kind::Refusal(text)) => {
                    self.count(text);
                    append(&mut converted.content, text);
                }
                Some(part::Kind::Thinking(text)) if is_own(part, model) => {
                    self.count(text);
                    append(&mut converted.thinking, text);
                }
                Some(part::Kind::Thinking(_)) | None => {}
                Some(part::Kind::Image(media)) => {
                    let data = bytes(media)?;
                    (self.images, self.image_bytes) = (self.images + 1, self.image_bytes + data.len());
                    converted.images.push(Base64(data));
                }
                Some(part::Kind::ToolCall(call)) => {
                    self.count(&call.arguments_json);
                    let arguments = arguments(call, degraded);
                    converted
                        .tool_calls
                        .push(Call { id: &call.id, function: Function { name: &call.name, arguments } });
                }
                Some(part::Kind::Audio(_) | part::Kind::File(_)) => {
                    return Err(
                        Failure::new(Class::Unsupported, "this provider takes text and images only").at("messages")
                    );
                }
                Some(part::Kind::ToolResult(_)) => {
                    return Err(
                        Failure::new(Class::Invalid, "a message holds a part that its role cannot have").at("messages")
                    );
                }
            }
        }
        self.messages.push(converted);
        Ok(())
    }
}

/// Digits and punctuation are often tokens of their own; of letters, of whatever script, three bytes make one.
pub(super) fn tokens(text: &str) -> usize {
    let dense = text.bytes().filter(|byte| byte.is_ascii_digit() || byte.is_ascii_punctuation()).count();
    dense + (text.len() - dense).div_ceil(3)
}

fn empty(role: &'static str) -> Message<'static> {
    let nothing = Cow::Borrowed("");
    Message {
        role,
        content: nothing.clone(),
        thinking: nothing,
        images: Vec::new(),
        tool_calls: Vec::new(),
        tool_name: "",
        tool_call_id: "",
    }
}

fn append<'a>(text: &mut Cow<'a, str>, more: &'a str) {
    if text.is_empty() {
        *text = Cow::Borrowed(more);
    } else if !more.is_empty() {
        let whole = text.to_mut();
        whole.push('\n');
        whole.push_str(more);
    }
}

fn arguments<'a>(call: &'a ai::ToolCall, degraded: &mut Vec<&'static str>) -> Arguments<'a> {
    match call.arguments_json.trim_start() {
        "" => return Arguments::None {},
        text if text.starts_with('{') => {
            if let Ok(object) = serde_json::from_str(&call.arguments_json) {
                return Arguments::Object(object);
            }
        }
        _ => {}
    }
    degrade(degraded, "tool_arguments");
    Arguments::Broken { _raw: &call.arguments_json }
}

/// Thinking goes back only to the model that made it.
fn is_own(part: &ai::Part, model: &str) -> bool {
    part.origin.is_empty() || part.origin.split_once('/').is_some_and(|(_, maker)| maker == model)
}

fn name_of_call<'a>(request: &'a ai::ChatRequest, id: &str) -> &'a str {
    let calls = request.messages.iter().flat_map(|message| &message.parts).filter_map(|part| match &part.kind {
        Some(part::Kind::ToolCall(call)) => Some(call),
        _ => None,
    });
    calls.into_iter().find(|call| call.id == id).map_or("", |call| call.name.as_str())
}
