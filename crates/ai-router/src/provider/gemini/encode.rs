//! A chat as Gemini wants it.

use manifold_contract::ai::v1::{self as ai, format, tool_choice};
use serde::Serialize;
use serde_json::Value;

use super::schema::{self, Form};
use super::turns::{self, Turn};
use crate::classify::Failure;
use crate::provider::outgoing::{degrade, json};
use crate::provider::{effort, extras};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    contents: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tools<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig<'a>>,
    generation_config: GenerationConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Declaration<'a>>,
}

#[derive(Serialize)]
struct Declaration<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Value>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig<'a> {
    function_calling_config: CallingConfig<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallingConfig<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    allowed_function_names: Option<[&'a str; 1]>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i32>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop_sequences: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<ThinkingConfig>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    include_thoughts: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<u32>,
}

/// The body, and the wishes that were left out.
pub(super) fn chat(model: &str, request: &ai::ChatRequest) -> Result<(Vec<u8>, Vec<&'static str>), Failure> {
    let mut degraded = Vec::new();
    let turns = turns::all(model, request, &mut degraded)?;
    let body = Body {
        contents: turns.contents,
        system_instruction: turns.system,
        tools: tools(request, &mut degraded)?,
        tool_config: tool_config(request, &mut degraded),
        generation_config: generation_config(model, request, &mut degraded)?,
    };
    extras::declare(request, &mut degraded);
    if !request.user.is_empty() {
        degrade(&mut degraded, "user");
    }
    Ok((json(&body, turns.size)?, degraded))
}

fn tools<'a>(
    request: &'a ai::ChatRequest,
    degraded: &mut Vec<&'static str>,
) -> Result<Option<[Tools<'a>; 1]>, Failure> {
    let mut function_declarations = Vec::with_capacity(request.tools.len());
    for tool in &request.tools {
        let parameters = match tool.parameters_json.as_str() {
            "" => None,
            text => schema::clean(text, Form::OpenApi, "tools", degraded)?,
        };
        function_declarations.push(Declaration { name: &tool.name, description: &tool.description, parameters });
    }
    Ok((!function_declarations.is_empty()).then_some([Tools { function_declarations }]))
}

fn tool_config<'a>(request: &'a ai::ChatRequest, degraded: &mut Vec<&'static str>) -> Option<ToolConfig<'a>> {
    let choice = request.tool_choice.as_ref().filter(|_| !request.tools.is_empty())?;
    if choice.parallel == Some(false) {
        degrade(degraded, "parallel_tool_calls");
    }
    let (mode, allowed_function_names) = match choice.mode() {
        tool_choice::Mode::Unspecified => return None,
        tool_choice::Mode::Auto => ("AUTO", None),
        tool_choice::Mode::None => ("NONE", None),
        tool_choice::Mode::Required => ("ANY", None),
        tool_choice::Mode::Named => ("ANY", Some([choice.name.as_str()])),
    };
    Some(ToolConfig { function_calling_config: CallingConfig { mode, allowed_function_names } })
}

fn generation_config<'a>(
    model: &str,
    request: &'a ai::ChatRequest,
    degraded: &mut Vec<&'static str>,
) -> Result<GenerationConfig<'a>, Failure> {
    let mut config = match &request.sampling {
        Some(sampling) => sampled(sampling, degraded),
        None => GenerationConfig::default(),
    };
    config.thinking_config = thinking(model, &request.reasoning_effort);
    if let Some(format) = &request.format {
        match format.kind() {
            format::Kind::Unspecified | format::Kind::Text => {}
            format::Kind::JsonObject => config.response_mime_type = Some("application/json"),
            format::Kind::JsonSchema => {
                config.response_mime_type = Some("application/json");
                config.response_json_schema =
                    schema::clean(&format.schema_json, Form::JsonSchema, "response_format", degraded)?;
            }
        }
    }
    Ok(config)
}

fn sampled<'a>(sampling: &'a ai::Sampling, degraded: &mut Vec<&'static str>) -> GenerationConfig<'a> {
    if !sampling.logit_bias_json.is_empty() {
        degrade(degraded, "logit_bias");
    }
    let wants_logprobs = sampling.logprobs.filter(|wanted| *wanted);
    GenerationConfig {
        max_output_tokens: sampling.max_output_tokens,
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        // Its seed has 31 bits: the same seed stays the same.
        seed: sampling.seed.and_then(|seed| i32::try_from(seed & 0x7fff_ffff).ok()),
        stop_sequences: &sampling.stop,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        candidate_count: sampling.n.filter(|n| *n > 1),
        response_logprobs: wants_logprobs,
        logprobs: sampling.top_logprobs.filter(|_| wants_logprobs.is_some()),
        ..GenerationConfig::default()
    }
}

/// From Gemini 3 on a level, before a number of tokens.
fn thinking(model: &str, asked: &str) -> Option<ThinkingConfig> {
    if asked.is_empty() {
        return None;
    }
    if !turns::wants_signatures(model) {
        let budget = effort::budget(asked);
        return Some(ThinkingConfig {
            include_thoughts: budget.is_some(),
            thinking_level: None,
            thinking_budget: Some(budget.unwrap_or(0)),
        });
    }
    let level = match asked {
        // It cannot be switched off.
        "none" | "minimal" => "MINIMAL",
        "low" => "LOW",
        "medium" => "MEDIUM",
        _ => "HIGH",
    };
    Some(ThinkingConfig { include_thoughts: asked != "none", thinking_level: Some(level), thinking_budget: None })
}
