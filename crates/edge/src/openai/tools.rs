//! Tools, the choice among them, and the form of the answer.

use manifold_contract::ai::v1::format::Kind;
use manifold_contract::ai::v1::tool_choice::Mode;
use manifold_contract::ai::v1::{Format, Tool, ToolChoice};
use serde_json::value::RawValue;

use super::request;
use crate::refusal::{Answer, Refusal};

const MAX_TOOLS: usize = 512;
const FUNCTION: &str = "function";

/// The tools of a request.
pub(crate) fn tools(list: Vec<request::Tool<'_>>) -> Answer<Vec<Tool>> {
    if list.len() > MAX_TOOLS {
        return Err(invalid("tools", format!("at most {MAX_TOOLS} tools")));
    }
    list.into_iter().enumerate().map(|(index, tool)| function(tool, index)).collect()
}

fn function(tool: request::Tool<'_>, index: usize) -> Answer<Tool> {
    let path = |field: &str| format!("tools[{index}].{field}");
    if tool.type_.0 != FUNCTION {
        return Err(Refusal::bad("UNSUPPORTED", "only tools of type function are known here").at(path("type")));
    }
    let Some(function) = tool.function else { return Err(invalid(path(FUNCTION), "function is missing")) };
    if !is_name(&function.name) {
        return Err(invalid(path("function.name"), "a name is 1 to 64 of letters, digits, _ and -"));
    }
    let parameters = function.parameters.map(RawValue::get).filter(|raw| *raw != "null");
    if parameters.is_some_and(|raw| !raw.starts_with('{')) {
        return Err(invalid(path("function.parameters"), "parameters are a JSON Schema object"));
    }
    Ok(Tool {
        name: function.name,
        description: function.description.unwrap_or_default(),
        parameters_json: parameters.unwrap_or_default().to_owned(),
        strict: function.strict,
    })
}

fn is_name(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(fine)
}

/// The choice among `tools`. `allowed_tools` leaves only those it names.
pub(crate) fn choice(
    choice: Option<request::ToolChoice>,
    parallel: Option<bool>,
    tools: &mut Vec<Tool>,
) -> Answer<Option<ToolChoice>> {
    let (mode, name) = match choice {
        None if parallel.is_none() => return Ok(None),
        None => (Mode::Unspecified, String::new()),
        Some(request::ToolChoice::Mode(mode)) => (self::mode(&mode, "tool_choice")?, String::new()),
        Some(request::ToolChoice::Object(object)) => named(object, tools)?,
    };
    if matches!(mode, Mode::Required | Mode::Named) && tools.is_empty() {
        return Err(invalid("tool_choice", "a tool must be called, but there are no tools"));
    }
    Ok(Some(ToolChoice { mode: mode.into(), name, parallel }))
}

fn mode(text: &str, path: &str) -> Answer<Mode> {
    match text {
        "auto" => Ok(Mode::Auto),
        "none" => Ok(Mode::None),
        "required" => Ok(Mode::Required),
        _ => Err(invalid(path, "the choice is none, auto, required or an object")),
    }
}

fn named(object: request::NamedChoice, tools: &mut Vec<Tool>) -> Answer<(Mode, String)> {
    match (object.type_.as_str(), object.function, object.allowed_tools) {
        (FUNCTION, Some(function), _) => {
            if !tools.iter().any(|tool| tool.name == function.name) {
                return Err(invalid("tool_choice.function.name", "there is no tool of this name"));
            }
            Ok((Mode::Named, function.name))
        }
        ("allowed_tools", _, Some(allowed)) => {
            let mode = mode(&allowed.mode, "tool_choice.allowed_tools.mode")?;
            tools.retain(|tool| allowed.tools.iter().any(|named| named.function.name == tool.name));
            Ok((mode, String::new()))
        }
        _ => Err(invalid("tool_choice.type", "the type is function or allowed_tools, with the object of that name")),
    }
}

/// The form of the answer.
pub(crate) fn format(format: request::ResponseFormat<'_>) -> Answer<Format> {
    let kind = match &*format.type_.0 {
        "text" => Kind::Text,
        "json_object" => Kind::JsonObject,
        "json_schema" => Kind::JsonSchema,
        _ => return Err(invalid("response_format.type", "the type is text, json_object or json_schema")),
    };
    if kind != Kind::JsonSchema {
        return Ok(Format { kind: kind.into(), ..Format::default() });
    }
    let Some(schema) = format.json_schema else {
        return Err(invalid("response_format.json_schema", "json_schema is missing"));
    };
    if !is_name(&schema.name) {
        return Err(invalid("response_format.json_schema.name", "a name is 1 to 64 of letters, digits, _ and -"));
    }
    let Some(raw) = schema.schema.map(RawValue::get).filter(|raw| raw.starts_with('{')) else {
        return Err(invalid("response_format.json_schema.schema", "schema is a JSON Schema object"));
    };
    Ok(Format {
        kind: kind.into(),
        name: schema.name,
        description: schema.description.unwrap_or_default(),
        schema_json: raw.to_owned(),
        strict: schema.strict,
    })
}

fn invalid(path: impl Into<String>, message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::bad("BODY_INVALID", message).at(path)
}
