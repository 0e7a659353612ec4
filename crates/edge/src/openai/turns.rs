//! The conversation: messages of a request as turns of the contract. Tool results without a call and calls without a
//! result are mended here, and said so.

use manifold_contract::ai::v1::part::Kind;
use manifold_contract::ai::v1::{self as ai, Role};

use super::media;
use super::request::{Content, Message, Part};
use crate::refusal::{Answer, Refusal};

/// Turns so far.
#[derive(Default)]
pub(crate) struct Turns {
    messages: Vec<ai::Message>,
    /// Calls of the last assistant turn that have no result yet: id and name.
    open: Vec<(String, String)>,
    /// Calls of the last assistant turn that have one.
    answered: Vec<String>,
    declared: Vec<&'static str>,
}

/// All messages, and the words of what had to be mended.
pub(crate) fn convert(messages: Vec<Message<'_>>) -> Answer<(Vec<ai::Message>, Vec<&'static str>)> {
    let mut turns = Turns { messages: Vec::with_capacity(messages.len()), ..Turns::default() };
    for (position, message) in messages.into_iter().enumerate() {
        turns.push(message, &Place { position })?;
    }
    turns.close_calls();
    if turns.messages.is_empty() {
        return Err(Refusal::bad("BODY_INVALID", "there must be at least one message with content").at("messages"));
    }
    Ok((turns.messages, turns.declared))
}

/// Where we are; printed only when something is wrong.
struct Place {
    position: usize,
}

impl Place {
    fn field(&self, field: &str) -> String {
        format!("messages[{}].{field}", self.position)
    }

    fn part(&self, index: usize) -> String {
        format!("messages[{}].content[{index}]", self.position)
    }

    fn invalid(&self, field: &str, message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
        Refusal::bad("BODY_INVALID", message).at(self.field(field))
    }
}

impl Turns {
    fn push(&mut self, message: Message<'_>, place: &Place) -> Answer<()> {
        let role = match &*message.role.0 {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => return self.push_result(message, place),
            _ => return Err(place.invalid("role", "role must be system, developer, user, assistant or tool")),
        };
        self.close_calls();
        if role != Role::Assistant && message.tool_calls.is_some() {
            return Err(place.invalid("tool_calls", "only assistant messages make tool calls"));
        }
        let mut parts = Vec::new();
        if let Some(thinking) = message.reasoning_content {
            add(&mut parts, Kind::Thinking(thinking));
        }
        content(message.content, role, place, &mut parts)?;
        if let Some(refusal) = message.refusal {
            add(&mut parts, Kind::Refusal(refusal));
        }
        for (index, call) in message.tool_calls.into_iter().flatten().enumerate() {
            let path = || place.field(&format!("tool_calls[{index}]"));
            let known = call.type_.is_none_or(|type_| type_.0 == "function");
            let Some(function) = call.function.filter(|_| known) else {
                return Err(
                    Refusal::bad("UNSUPPORTED", "only calls of functions are known").at(format!("{}.type", path()))
                );
            };
            if call.id.is_empty() {
                return Err(Refusal::bad("BODY_INVALID", "a call needs an id").at(format!("{}.id", path())));
            }
            self.open.push((call.id.clone(), function.name.clone()));
            let arguments_json = function.arguments;
            parts.push(part(Kind::ToolCall(ai::ToolCall { id: call.id, name: function.name, arguments_json })));
        }
        if !parts.is_empty() {
            self.messages.push(ai::Message { role: role.into(), parts, name: message.name.unwrap_or_default() });
        }
        Ok(())
    }

    fn push_result(&mut self, message: Message<'_>, place: &Place) -> Answer<()> {
        let Some(id) = message.tool_call_id else {
            return Err(place.invalid("tool_call_id", "a tool message names its call"));
        };
        let text = text_only(message.content, place)?;
        if let Some(position) = self.open.iter().position(|(open, _)| *open == id) {
            let (id, name) = self.open.remove(position);
            self.answered.push(id.clone());
            self.messages.push(result(id, name, text));
            return Ok(());
        }
        if self.answered.contains(&id) {
            return Err(place.invalid("tool_call_id", "this call has a result already"));
        }
        self.declare("tool_result_orphan");
        self.messages.push(ai::Message {
            role: Role::User.into(),
            parts: vec![part(Kind::Text(text))],
            name: String::new(),
        });
        Ok(())
    }

    /// Calls that nobody answered get a result that says so: providers refuse a conversation with a hole.
    fn close_calls(&mut self) {
        self.answered.clear();
        for (id, name) in std::mem::take(&mut self.open) {
            self.declare("tool_result_missing");
            self.messages.push(result(id, name, "no result recorded".to_owned()));
        }
    }

    fn declare(&mut self, word: &'static str) {
        if !self.declared.contains(&word) {
            self.declared.push(word);
        }
    }
}

fn result(id: String, name: String, text: String) -> ai::Message {
    let parts = vec![part(Kind::ToolResult(ai::ToolResult { id, name, text }))];
    ai::Message { role: Role::Tool.into(), parts, name: String::new() }
}

fn part(kind: Kind) -> ai::Part {
    ai::Part { kind: Some(kind), ..ai::Part::default() }
}

/// Empty text is dropped: some providers refuse it.
fn add(parts: &mut Vec<ai::Part>, kind: Kind) {
    let empty = matches!(&kind, Kind::Text(text) | Kind::Thinking(text) | Kind::Refusal(text) if text.is_empty());
    if !empty {
        parts.push(part(kind));
    }
}

fn content(content: Option<Content<'_>>, role: Role, place: &Place, parts: &mut Vec<ai::Part>) -> Answer<()> {
    match content {
        None => Ok(()),
        Some(Content::Text(text)) => {
            add(parts, Kind::Text(text));
            Ok(())
        }
        Some(Content::Parts(list)) => {
            for (index, item) in list.into_iter().enumerate() {
                add(parts, kind(item, role, place, index)?);
            }
            Ok(())
        }
    }
}

fn kind(item: Part<'_>, role: Role, place: &Place, index: usize) -> Answer<Kind> {
    let path = || place.part(index);
    let missing =
        |field: &str| Refusal::bad("BODY_INVALID", format!("{field} is missing")).at(format!("{}.{field}", path()));
    let type_ = &*item.type_.0;
    let is_media = matches!(type_, "image_url" | "input_audio" | "file");
    if is_media && role != Role::User {
        return Err(Refusal::bad("BODY_INVALID", "only user messages carry media").at(format!("{}.type", path())));
    }
    match type_ {
        "text" => item.text.map(Kind::Text).ok_or_else(|| missing("text")),
        "refusal" if role == Role::Assistant => item.refusal.map(Kind::Refusal).ok_or_else(|| missing("refusal")),
        "image_url" => media::image(item.image_url.ok_or_else(|| missing("image_url"))?, &path()).map(Kind::Image),
        "input_audio" => {
            media::audio(&item.input_audio.ok_or_else(|| missing("input_audio"))?, &path()).map(Kind::Audio)
        }
        "file" => media::file(item.file.ok_or_else(|| missing("file"))?, &path()).map(Kind::File),
        _ => Err(Refusal::bad("BODY_INVALID", "this type of part is not known here").at(format!("{}.type", path()))),
    }
}

/// Results of tools are text.
fn text_only(content: Option<Content<'_>>, place: &Place) -> Answer<String> {
    match content {
        None => Err(place.invalid("content", "a tool message has content")),
        Some(Content::Text(text)) => Ok(text),
        Some(Content::Parts(list)) => {
            let mut whole = String::new();
            for (index, item) in list.into_iter().enumerate() {
                match kind(item, Role::Tool, place, index)? {
                    Kind::Text(text) => whole.push_str(&text),
                    _ => {
                        return Err(
                            Refusal::bad("BODY_INVALID", "results are text").at(format!("{}.type", place.part(index)))
                        );
                    }
                }
            }
            Ok(whole)
        }
    }
}
