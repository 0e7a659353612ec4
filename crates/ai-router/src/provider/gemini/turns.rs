//! Messages as Gemini's turns: user and model in alternation, results in the order of their calls.

use std::borrow::Cow;

use manifold_contract::ai::v1::{self as ai, Role, part};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::classify::{Class, Failure};
use crate::provider::media::{Base64, bytes};
use crate::provider::outgoing::degrade;

/// What Gemini takes in place of a signature that another model cannot have made.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

#[derive(Serialize)]
pub(super) struct Turn<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    role: &'static str,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Part<'a> {
    Text {
        text: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<&'a str>,
    },
    Media {
        inline_data: Blob<'a>,
    },
    Call {
        function_call: Call<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        thought_signature: Option<&'a str>,
    },
    Result {
        function_response: CallResult<'a>,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Blob<'a> {
    mime_type: &'a str,
    data: Base64<'a>,
}

#[derive(Serialize)]
struct Call<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    args: Arguments<'a>,
}

/// An object as the model wrote it; what is none is wrapped.
#[derive(Serialize)]
#[serde(untagged)]
enum Arguments<'a> {
    Object(&'a RawValue),
    Broken { _raw: &'a str },
    None {},
}

#[derive(Serialize)]
struct CallResult<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    id: &'a str,
    name: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Response<'a> {
    #[serde(rename = "result")]
    Json(&'a RawValue),
    #[serde(rename = "result")]
    Text(&'a str),
    Error(&'static str),
}

/// What a request becomes.
pub(super) struct Turns<'a> {
    pub system: Option<Turn<'a>>,
    pub contents: Vec<Turn<'a>>,
    /// About how long it becomes as JSON.
    pub size: usize,
}

/// Whether the model refuses calls without signature.
pub(super) fn wants_signatures(model: &str) -> bool {
    model.contains("gemini-3")
}

/// All turns of a request.
pub(super) fn all<'a>(
    model: &str,
    request: &'a ai::ChatRequest,
    degraded: &mut Vec<&'static str>,
) -> Result<Turns<'a>, Failure> {
    let mut builder = Builder {
        model,
        degraded,
        system: Vec::new(),
        turns: Vec::new(),
        open: Vec::new(),
        orphans: Vec::new(),
        size: 0,
    };
    for message in &request.messages {
        builder.message(message)?;
    }
    builder.close_calls();
    if builder.turns.first().is_none_or(|turn| turn.role != "user") {
        degrade(builder.degraded, "first_turn");
        let text = Part::Text { text: Cow::Borrowed("."), thought_signature: None };
        builder.turns.insert(0, Turn { role: "user", parts: vec![text] });
    }
    let system = (!builder.system.is_empty()).then_some(Turn { role: "", parts: builder.system });
    Ok(Turns { system, contents: builder.turns, size: builder.size })
}

struct Builder<'a, 'd> {
    model: &'d str,
    degraded: &'d mut Vec<&'static str>,
    system: Vec<Part<'a>>,
    turns: Vec<Turn<'a>>,
    /// Calls of the last model turn with what is known of their results.
    open: Vec<(&'a ai::ToolCall, Option<&'a str>)>,
    /// Results of calls that nobody made.
    orphans: Vec<&'a str>,
    size: usize,
}

impl<'a> Builder<'a, '_> {
    fn message(&mut self, message: &'a ai::Message) -> Result<(), Failure> {
        let role = message.role();
        if role != Role::Tool {
            self.close_calls();
        }
        if !message.name.is_empty() {
            degrade(self.degraded, "name");
        }
        for part in &message.parts {
            self.part(role, part)?;
        }
        Ok(())
    }

    fn part(&mut self, role: Role, part: &'a ai::Part) -> Result<(), Failure> {
        let kind = part.kind.as_ref();
        match (role, kind) {
            (_, None | Some(part::Kind::Thinking(_))) => {}
            (Role::System, Some(part::Kind::Text(text))) => self.system_text(text),
            (Role::User, Some(part::Kind::Text(text))) => self.text("user", Cow::Borrowed(text), None),
            (Role::Assistant, Some(part::Kind::Text(text) | part::Kind::Refusal(text))) => {
                let signature = self.signature(part);
                self.text("model", Cow::Borrowed(text), signature);
            }
            (
                Role::User | Role::Assistant,
                Some(part::Kind::Image(media) | part::Kind::Audio(media) | part::Kind::File(media)),
            ) => {
                let data = bytes(media)?;
                self.size += data.len() / 3 * 4;
                let role = if role == Role::User { "user" } else { "model" };
                self.push(role, Part::Media { inline_data: Blob { mime_type: &media.mime, data: Base64(data) } });
            }
            (Role::Assistant, Some(part::Kind::ToolCall(call))) => self.call(call, part),
            (Role::Tool, Some(part::Kind::ToolResult(result))) => self.result(result),
            _ => {
                return Err(
                    Failure::new(Class::Invalid, "a message holds a part that its role cannot have").at("messages")
                );
            }
        }
        Ok(())
    }

    fn system_text(&mut self, text: &'a str) {
        if self.turns.is_empty() {
            if !text.is_empty() {
                self.size += text.len();
                self.system.push(Part::Text { text: Cow::Borrowed(text), thought_signature: None });
            }
        } else {
            degrade(self.degraded, "system_position");
            self.text("user", Cow::Owned(format!("<system>{text}</system>")), None);
        }
    }

    fn text(&mut self, role: &'static str, text: Cow<'a, str>, thought_signature: Option<&'a str>) {
        if !text.is_empty() {
            self.size += text.len() + 64;
            self.push(role, Part::Text { text, thought_signature });
        }
    }

    fn call(&mut self, call: &'a ai::ToolCall, part: &'a ai::Part) {
        let args = match call.arguments_json.trim_start() {
            "" => Arguments::None {},
            text if text.starts_with('{') => match serde_json::from_str(&call.arguments_json) {
                Ok(object) => Arguments::Object(object),
                Err(_) => self.broken(call),
            },
            _ => self.broken(call),
        };
        // Only the first call of a turn carries a signature.
        let is_first = self.open.is_empty();
        let substitute = (is_first && wants_signatures(self.model)).then_some(NO_SIGNATURE);
        let thought_signature = self.signature(part).or(substitute);
        self.size += call.arguments_json.len() + 128;
        self.push(
            "model",
            Part::Call { function_call: Call { id: &call.id, name: &call.name, args }, thought_signature },
        );
        self.open.push((call, None));
    }

    fn broken(&mut self, call: &'a ai::ToolCall) -> Arguments<'a> {
        degrade(self.degraded, "tool_arguments");
        Arguments::Broken { _raw: &call.arguments_json }
    }

    fn result(&mut self, result: &'a ai::ToolResult) {
        self.size += result.text.len() + 128;
        match self.open.iter_mut().find(|(call, known)| call.id == result.id && known.is_none()) {
            Some((_, known)) => *known = Some(&result.text),
            None => self.orphans.push(&result.text),
        }
    }

    /// Writes one result for every call, in the order of the calls.
    fn close_calls(&mut self) {
        for (call, known) in std::mem::take(&mut self.open) {
            let response = match known {
                None => {
                    degrade(self.degraded, "tool_result_missing");
                    Response::Error("no result recorded")
                }
                Some(text) => serde_json::from_str(text).map_or(Response::Text(text), Response::Json),
            };
            self.push(
                "user",
                Part::Result { function_response: CallResult { id: &call.id, name: &call.name, response } },
            );
        }
        for text in std::mem::take(&mut self.orphans) {
            degrade(self.degraded, "tool_result");
            self.text("user", Cow::Borrowed(text), None);
        }
    }

    fn push(&mut self, role: &'static str, part: Part<'a>) {
        match self.turns.last_mut() {
            Some(turn) if turn.role == role => turn.parts.push(part),
            _ => self.turns.push(Turn { role, parts: vec![part] }),
        }
    }

    /// A signature goes back only to the model that made it.
    fn signature(&self, part: &'a ai::Part) -> Option<&'a str> {
        let own = part.origin.is_empty() || part.origin.split_once('/').is_some_and(|(_, maker)| maker == self.model);
        let text = std::str::from_utf8(&part.opaque).ok()?;
        (own && !text.is_empty()).then_some(text)
    }
}
