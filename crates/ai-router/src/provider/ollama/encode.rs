//! A chat as Ollama wants it.

use manifold_contract::ai::v1::{self as ai, format, tool_choice};
use serde::Serialize;
use serde_json::value::RawValue;

use super::message::{self, Message};
use crate::classify::{Class, Failure};
use crate::provider::outgoing::{degrade, json, parameters, raw};
use crate::provider::{Mode, Target, extras};

/// Ollama's own default. Asking for less would only reload the model.
const SMALLEST_WINDOW: u64 = 4_096;
/// The most that is asked for when nobody knows what the model holds.
const LARGEST_GUESS: u64 = 131_072;
/// Room for an answer whose length nobody limits.
const ROOM_FOR_ANSWER: u64 = 2_048;
const IMAGE_TOKENS: usize = 1_000;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    messages: Vec<Message<'a>>,
    /// It streams unless told not to.
    stream: bool,
    /// A prompt that does not fit is refused, not cut without a word. Servers before 0.12.6 do not know the field.
    truncate: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<Format<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    think: Option<Think>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_logprobs: Option<u32>,
    options: Options<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Format<'a> {
    Word(&'static str),
    Schema(&'a RawValue),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Think {
    Switch(bool),
    Level(&'static str),
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    description: &'a str,
    parameters: &'a RawValue,
}

#[derive(Serialize)]
struct Options<'a> {
    num_ctx: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    num_predict: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stop: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
}

/// The body, and the wishes that were left out.
pub(super) fn chat(
    target: &Target<'_>,
    request: &ai::ChatRequest,
    mode: Mode,
) -> Result<(Vec<u8>, Vec<&'static str>), Failure> {
    let mut degraded = Vec::new();
    let converted = message::all(target.model, request, &mut degraded)?;
    let tools = tools(request, &mut degraded)?;
    let default = ai::Sampling::default();
    let sampling = request.sampling.as_ref().unwrap_or(&default);
    check(request, sampling, &mut degraded)?;
    let tool_bytes: usize =
        request.tools.iter().map(|tool| tool.parameters_json.len() + tool.description.len() + 64).sum();
    let tool_tokens: usize = request
        .tools
        .iter()
        .map(|tool| message::tokens(&tool.parameters_json) + message::tokens(&tool.description) + 16)
        .sum();
    let prompt = converted.tokens + tool_tokens + converted.images * IMAGE_TOKENS;
    let logprobs = sampling.logprobs.filter(|wanted| *wanted);
    let body = Body {
        model: target.model,
        messages: converted.messages,
        stream: mode == Mode::Stream,
        truncate: false,
        format: format(request)?,
        tools,
        think: think(target.model, &request.reasoning_effort),
        logprobs,
        top_logprobs: sampling.top_logprobs.filter(|_| logprobs.is_some()),
        options: Options {
            num_ctx: window(target, prompt as u64, sampling.max_output_tokens),
            num_predict: sampling.max_output_tokens,
            temperature: sampling.temperature,
            top_p: sampling.top_p,
            top_k: sampling.top_k,
            seed: sampling.seed,
            stop: &sampling.stop,
            presence_penalty: sampling.presence_penalty,
            frequency_penalty: sampling.frequency_penalty,
        },
    };
    let size = converted.text_bytes + converted.image_bytes / 3 * 4 + tool_bytes;
    Ok((json(&body, size / 10 * 11)?, degraded))
}

/// Refuses needs that Ollama cannot fulfil, and names wishes that are left out.
fn check(request: &ai::ChatRequest, sampling: &ai::Sampling, degraded: &mut Vec<&'static str>) -> Result<(), Failure> {
    if sampling.n.is_some_and(|n| n > 1) {
        return Err(Failure::new(Class::Unsupported, "this provider gives one answer at a time").at("n"));
    }
    if !sampling.logit_bias_json.is_empty() {
        degrade(degraded, "logit_bias");
    }
    if !request.user.is_empty() {
        degrade(degraded, "user");
    }
    extras::declare(request, degraded);
    Ok(())
}

fn tools<'a>(request: &'a ai::ChatRequest, degraded: &mut Vec<&'static str>) -> Result<Vec<Tool<'a>>, Failure> {
    if let Some(choice) = request.tool_choice.as_ref().filter(|_| !request.tools.is_empty()) {
        match choice.mode() {
            tool_choice::Mode::None => return Ok(Vec::new()),
            tool_choice::Mode::Required | tool_choice::Mode::Named => {
                return Err(
                    Failure::new(Class::Unsupported, "this provider cannot be made to call a tool").at("tool_choice")
                );
            }
            tool_choice::Mode::Unspecified | tool_choice::Mode::Auto => {}
        }
        if choice.parallel == Some(false) {
            degrade(degraded, "parallel_tool_calls");
        }
    }
    let mut tools = Vec::with_capacity(request.tools.len());
    for tool in &request.tools {
        let function = Function { name: &tool.name, description: &tool.description, parameters: parameters(tool)? };
        tools.push(Tool { r#type: "function", function });
    }
    Ok(tools)
}

fn format(request: &ai::ChatRequest) -> Result<Option<Format<'_>>, Failure> {
    let Some(format) = &request.format else {
        return Ok(None);
    };
    Ok(match format.kind() {
        format::Kind::Unspecified | format::Kind::Text => None,
        format::Kind::JsonObject => Some(Format::Word("json")),
        format::Kind::JsonSchema => Some(Format::Schema(raw(&format.schema_json, "response_format")?)),
    })
}

/// A switch, except for the family of models that has levels.
fn think(model: &str, asked: &str) -> Option<Think> {
    let has_levels = model.contains("gpt-oss");
    Some(match asked {
        "" => return None,
        "none" if !has_levels => Think::Switch(false),
        _ if !has_levels => Think::Switch(true),
        "none" | "minimal" | "low" => Think::Level("low"),
        "medium" => Think::Level("medium"),
        _ => Think::Level("high"),
    })
}

/// Ollama's own window is small, whatever the model holds. So one that holds prompt and answer is asked for, in powers of
/// two, because every other size reloads the model.
fn window(target: &Target<'_>, prompt: u64, max_output: Option<u32>) -> u64 {
    let limit = match target.context_length {
        0 => LARGEST_GUESS,
        known => u64::from(known),
    };
    let need = prompt + max_output.map_or(ROOM_FOR_ANSWER, u64::from);
    need.next_power_of_two().max(SMALLEST_WINDOW).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(context_length: u32, prompt: u64, max_output: Option<u32>) -> u64 {
        window(&Target { base_url: "", model: "m", credential: None, context_length }, prompt, max_output)
    }

    #[test]
    fn asks_for_a_window_that_holds_prompt_and_answer() {
        assert_eq!(of(0, 100, None), 4_096);
        assert_eq!(of(0, 1_000_000, None), LARGEST_GUESS);
        assert_eq!(of(40_960, 10_000, Some(100)), 16_384);
        assert_eq!(of(8_192, 10_000, Some(8_000)), 8_192);
        assert_eq!(of(2_048, 10, None), 2_048);
    }

    #[test]
    fn counts_digits_one_by_one() {
        assert_eq!(message::tokens("1234567890"), 10);
        assert_eq!(message::tokens("abcdef"), 2);
        assert_eq!(message::tokens("漢字"), 2);
    }
}
