//! A chat in OpenAI's dialect: one pass over the request into one buffer.

use manifold_contract::ai::v1::{self as ai, format, part, tool_choice};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::message::{self, Message};
use super::{Compat, Privacy, Quirks, StreamUsage};
use crate::classify::{Class, Failure};
use crate::provider::effort;
use crate::provider::outgoing::{degrade, json, parameters, raw};
use crate::provider::{Mode, extras, openrouter};

/// The body, and the wishes that were left out.
pub(super) fn chat(
    compat: &Compat,
    model: &str,
    request: &ai::ChatRequest,
    mode: Mode,
) -> Result<(Vec<u8>, Vec<&'static str>), Failure> {
    let quirks = &compat.quirks;
    let mut degraded = Vec::new();
    let body = Body {
        model,
        messages: message::all(compat, model, request, &mut degraded)?,
        tools: tools(request)?,
        choice: request.tool_choice.as_ref().filter(|_| !request.tools.is_empty()),
        format: response_format(request)?,
        effort: reasoning(quirks, request, &mut degraded),
        logit_bias: logit_bias(quirks, request, &mut degraded)?,
        preferences: if quirks.privacy == Privacy::DataCollection { openrouter::preferences(request) } else { None },
        extras: extras::forwarded(request, quirks.extras, &mut degraded)?,
        sampling: request.sampling.as_ref(),
        user: &request.user,
        quirks,
        mode,
    };
    check(&body, &mut degraded)?;
    Ok((json(&body, size(request))?, degraded))
}

struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    tools: Vec<Tool<'a>>,
    choice: Option<&'a ai::ToolChoice>,
    format: Option<ResponseFormat<'a>>,
    effort: Option<&'a str>,
    logit_bias: Option<&'a RawValue>,
    preferences: Option<Box<RawValue>>,
    extras: Vec<(&'a str, &'a RawValue)>,
    sampling: Option<&'a ai::Sampling>,
    user: &'a str,
    quirks: &'a Quirks,
    mode: Mode,
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("model", self.model)?;
        map.serialize_entry("messages", &self.messages)?;
        self.write_tools(&mut map)?;
        self.write_sampling(&mut map)?;
        entry(&mut map, "response_format", self.format.as_ref())?;
        entry(&mut map, "reasoning_effort", self.effort)?;
        entry(&mut map, "logit_bias", self.logit_bias)?;
        entry(&mut map, "user", Some(self.user).filter(|user| !user.is_empty() && self.quirks.has("user")))?;
        entry(&mut map, "provider", self.preferences.as_ref())?;
        for (name, value) in &self.extras {
            if !(*name == "provider" && self.preferences.is_some()) {
                map.serialize_entry(name, value)?;
            }
        }
        if self.mode == Mode::Stream {
            map.serialize_entry("stream", &true)?;
            if self.quirks.stream_usage == StreamUsage::Asked {
                map.serialize_entry("stream_options", &IncludeUsage { include_usage: true })?;
            }
        }
        map.end()
    }
}

#[derive(Serialize)]
struct IncludeUsage {
    include_usage: bool,
}

impl Body<'_> {
    fn write_tools<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if self.tools.is_empty() {
            return Ok(());
        }
        map.serialize_entry("tools", &self.tools)?;
        let Some(choice) = self.choice else {
            return Ok(());
        };
        match choice.mode() {
            tool_choice::Mode::Unspecified => {}
            tool_choice::Mode::Auto => map.serialize_entry("tool_choice", "auto")?,
            tool_choice::Mode::None => map.serialize_entry("tool_choice", "none")?,
            tool_choice::Mode::Required => map.serialize_entry("tool_choice", self.quirks.required)?,
            tool_choice::Mode::Named => {
                let function = Name { name: &choice.name };
                map.serialize_entry("tool_choice", &Named { r#type: "function", function })?;
            }
        }
        entry(map, "parallel_tool_calls", choice.parallel.filter(|_| self.quirks.has("parallel_tool_calls")))
    }

    fn write_sampling<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let (Some(sampling), quirks) = (self.sampling, self.quirks) else {
            return Ok(());
        };
        entry(map, quirks.max_tokens, sampling.max_output_tokens)?;
        entry(map, "temperature", sampling.temperature)?;
        entry(map, "top_p", sampling.top_p)?;
        entry(map, "top_k", sampling.top_k.filter(|_| quirks.has("top_k")))?;
        entry(map, quirks.seed, sampling.seed.filter(|_| quirks.has("seed")))?;
        entry(map, "stop", Some(&sampling.stop).filter(|stop| !stop.is_empty()))?;
        entry(map, "presence_penalty", sampling.presence_penalty.filter(|_| quirks.has("penalties")))?;
        entry(map, "frequency_penalty", sampling.frequency_penalty.filter(|_| quirks.has("penalties")))?;
        entry(map, "n", sampling.n.filter(|n| *n > 1))?;
        entry(map, "logprobs", sampling.logprobs.filter(|_| quirks.has("logprobs")))?;
        entry(map, "top_logprobs", sampling.top_logprobs.filter(|_| quirks.has("logprobs")))
    }
}

fn entry<M: SerializeMap, T: Serialize>(map: &mut M, name: &str, value: Option<T>) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(name, &value),
        None => Ok(()),
    }
}

#[derive(Serialize)]
struct Named<'a> {
    r#type: &'static str,
    function: Name<'a>,
}

#[derive(Serialize)]
struct Name<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    parameters: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct ResponseFormat<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    json_schema: Option<JsonSchema<'a>>,
}

#[derive(Serialize)]
struct JsonSchema<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

fn tools(request: &ai::ChatRequest) -> Result<Vec<Tool<'_>>, Failure> {
    let mut tools = Vec::with_capacity(request.tools.len());
    for tool in &request.tools {
        let function = Function {
            name: &tool.name,
            description: &tool.description,
            parameters: parameters(tool)?,
            strict: tool.strict,
        };
        tools.push(Tool { r#type: "function", function });
    }
    Ok(tools)
}

fn response_format(request: &ai::ChatRequest) -> Result<Option<ResponseFormat<'_>>, Failure> {
    let Some(format) = &request.format else {
        return Ok(None);
    };
    Ok(match format.kind() {
        format::Kind::Unspecified | format::Kind::Text => None,
        format::Kind::JsonObject => Some(ResponseFormat { r#type: "json_object", json_schema: None }),
        format::Kind::JsonSchema => {
            let name = if format.name.is_empty() { "response" } else { &format.name };
            let schema = raw(&format.schema_json, "response_format")?;
            let json_schema = JsonSchema { name, description: &format.description, schema, strict: format.strict };
            Some(ResponseFormat { r#type: "json_schema", json_schema: Some(json_schema) })
        }
    })
}

fn reasoning<'a>(quirks: &Quirks, request: &'a ai::ChatRequest, degraded: &mut Vec<&'static str>) -> Option<&'a str> {
    let step = effort::nearest(&request.reasoning_effort, quirks.efforts);
    if step.is_none() && !request.reasoning_effort.is_empty() {
        degrade(degraded, "reasoning");
    }
    step
}

fn logit_bias<'a>(
    quirks: &Quirks,
    request: &'a ai::ChatRequest,
    degraded: &mut Vec<&'static str>,
) -> Result<Option<&'a RawValue>, Failure> {
    match &request.sampling {
        Some(sampling) if sampling.logit_bias_json.is_empty() => Ok(None),
        Some(sampling) if quirks.has("logit_bias") => raw(&sampling.logit_bias_json, "logit_bias").map(Some),
        Some(_) => {
            degrade(degraded, "logit_bias");
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Refuses needs that the vendor cannot fulfil, and names wishes that were left out.
fn check(body: &Body<'_>, degraded: &mut Vec<&'static str>) -> Result<(), Failure> {
    let none = ai::Sampling::default();
    let sampling = body.sampling.unwrap_or(&none);
    let needs = [("n", sampling.n.is_some_and(|n| n > 1)), ("logprobs", sampling.logprobs == Some(true))];
    if let Some((need, _)) = needs.into_iter().find(|(need, asked)| *asked && !body.quirks.has(need)) {
        return Err(Failure::new(Class::Unsupported, format!("this provider does not support {need}")).at(need));
    }
    let penalties = sampling.presence_penalty.or(sampling.frequency_penalty).is_some_and(|penalty| penalty != 0.0);
    let one_call = body.choice.is_some_and(|choice| choice.parallel == Some(false));
    let wishes = [
        ("seed", sampling.seed.is_some()),
        ("top_k", sampling.top_k.is_some()),
        ("penalties", penalties),
        ("user", !body.user.is_empty()),
        ("parallel_tool_calls", one_call),
    ];
    for (wish, _) in wishes.into_iter().filter(|(wish, asked)| *asked && !body.quirks.has(wish)) {
        degrade(degraded, wish);
    }
    Ok(())
}

/// About how long the body becomes.
fn size(request: &ai::ChatRequest) -> usize {
    let part = |part: &ai::Part| match &part.kind {
        Some(part::Kind::Text(text) | part::Kind::Thinking(text) | part::Kind::Refusal(text)) => text.len(),
        Some(part::Kind::Image(media) | part::Kind::Audio(media) | part::Kind::File(media)) => {
            media.data.len() / 3 * 4 + media.url.len()
        }
        Some(part::Kind::ToolCall(call)) => call.arguments_json.len() + 128,
        Some(part::Kind::ToolResult(result)) => result.text.len() + 64,
        None => 0,
    };
    let messages: usize =
        request.messages.iter().flat_map(|message| &message.parts).map(|piece| part(piece) + 64).sum();
    let tools: usize = request.tools.iter().map(|tool| tool.parameters_json.len() + tool.description.len() + 128).sum();
    // A tenth for what has to be escaped.
    (messages + tools) / 10 * 11
}
