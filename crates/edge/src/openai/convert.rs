//! OpenAI's chat request as a request of the contract. Pure: bytes and headers in, message or refusal out.

use http::HeaderMap;
use manifold_contract::ai::v1::{ChatRequest, Message, Routing, Sampling};
use serde_json::value::RawValue;

use super::answer::Thinking;
use super::options::{self, Wishes};
use super::request::{Body, OneOrMany};
use super::{tools, turns};
use crate::json;
use crate::refusal::{Answer, Refusal};

const MAX_MODEL: usize = 256;
const MAX_FALLBACKS: usize = 16;
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "max"];

/// A request, and how its answer is to be shown.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) request: ChatRequest,
    pub(crate) stream: bool,
    pub(crate) include_usage: bool,
    pub(crate) thinking: Thinking,
    /// Feature words of what had to be mended.
    pub(crate) declared: Vec<&'static str>,
}

/// Reads a body.
pub(crate) fn decode(body: &[u8], headers: &HeaderMap) -> Answer<Decoded> {
    let mut body: Body<'_> = json::read(body)?;
    let wishes = options::wishes(headers, body.manifold.take())?;
    let model = model(body.model.take())?;
    let (messages, declared) = turns::convert(body.messages.take().ok_or_else(|| missing("messages"))?)?;
    if wishes.strict
        && let Some(word) = declared.first()
    {
        return Err(
            Refusal::bad("UNSUPPORTED", format!("the conversation would have to be mended: {word}")).at("messages")
        );
    }
    let stream = body.stream.unwrap_or(false);
    let include_usage = body.stream_options.take().and_then(|options| options.include_usage).unwrap_or(false);
    let asks = wishes.thinking || body.reasoning_effort.is_some();
    let thinking = if asks { Thinking::Shown } else { Thinking::Hidden };
    let request = request(body, model, messages, wishes)?;
    Ok(Decoded { request, stream, include_usage, thinking, declared })
}

fn request(mut body: Body<'_>, model: String, messages: Vec<Message>, wishes: Wishes) -> Answer<ChatRequest> {
    let sampling = sampling(&mut body)?;
    let mut tools = tools::tools(body.tools.unwrap_or_default())?;
    let tool_choice = tools::choice(body.tool_choice, body.parallel_tool_calls, &mut tools)?;
    let extras = body.extras.into_iter().map(|(name, raw)| (name.0.into_owned(), raw.get().to_owned())).collect();
    Ok(ChatRequest {
        model,
        messages,
        tools,
        tool_choice,
        sampling: Some(sampling),
        format: body.response_format.map(tools::format).transpose()?,
        reasoning_effort: effort(body.reasoning_effort)?,
        routing: Some(Routing {
            fallback_models: fallbacks(body.models)?,
            strict: wishes.strict,
            labels: wishes.labels,
        }),
        user: body.user.unwrap_or_default(),
        extras,
        dialect: "openai".to_owned(),
    })
}

/// The name of a model: 1 to 256 characters without control characters.
pub(crate) fn model(name: Option<String>) -> Answer<String> {
    let name = name.ok_or_else(|| missing("model"))?;
    if is_model(&name) { Ok(name) } else { Err(invalid("model", "model is 1 to 256 characters")) }
}

fn is_model(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= MAX_MODEL && !name.chars().any(char::is_control)
}

fn fallbacks(models: Option<Vec<String>>) -> Answer<Vec<String>> {
    let models = models.unwrap_or_default();
    if models.len() > MAX_FALLBACKS {
        return Err(invalid("models", "at most 16 further models"));
    }
    match models.iter().position(|name| !is_model(name)) {
        Some(index) => Err(invalid(format!("models[{index}]"), "model is 1 to 256 characters")),
        None => Ok(models),
    }
}

fn effort(effort: Option<String>) -> Answer<String> {
    match effort {
        None => Ok(String::new()),
        Some(effort) if effort == "xhigh" => Ok("max".to_owned()),
        Some(effort) if EFFORTS.contains(&effort.as_str()) => Ok(effort),
        Some(_) => Err(invalid("reasoning_effort", "the effort is none, minimal, low, medium, high, xhigh or max")),
    }
}

fn sampling(body: &mut Body<'_>) -> Answer<Sampling> {
    let stop = body.stop.take().map(OneOrMany::into_vec).unwrap_or_default();
    if stop.len() > 4 {
        return Err(invalid("stop", "at most 4 stop sequences"));
    }
    let logit_bias = body.logit_bias.map(RawValue::get).filter(|raw| *raw != "null");
    if logit_bias.is_some_and(|raw| !raw.starts_with('{')) {
        return Err(invalid("logit_bias", "logit_bias is an object"));
    }
    Ok(Sampling {
        max_output_tokens: match body.max_completion_tokens {
            Some(max) => at_least_one(Some(max), "max_completion_tokens")?,
            None => at_least_one(body.max_tokens, "max_tokens")?,
        },
        temperature: within(body.temperature, 0.0, 2.0, "temperature")?,
        top_p: within(body.top_p, 0.0, 1.0, "top_p")?,
        top_k: body.top_k,
        seed: body.seed,
        stop,
        presence_penalty: within(body.presence_penalty, -2.0, 2.0, "presence_penalty")?,
        frequency_penalty: within(body.frequency_penalty, -2.0, 2.0, "frequency_penalty")?,
        n: up_to(at_least_one(body.n, "n")?, 16, "n")?,
        logprobs: body.logprobs,
        top_logprobs: up_to(body.top_logprobs, 20, "top_logprobs")?,
        logit_bias_json: logit_bias.unwrap_or_default().to_owned(),
    })
}

fn within(value: Option<f64>, low: f64, high: f64, path: &str) -> Answer<Option<f64>> {
    match value {
        Some(number) if !(low..=high).contains(&number) => {
            Err(invalid(path, format!("{path} is between {low} and {high}")))
        }
        _ => Ok(value),
    }
}

fn at_least_one(value: Option<u32>, path: &str) -> Answer<Option<u32>> {
    if value == Some(0) { Err(invalid(path, format!("{path} is at least 1"))) } else { Ok(value) }
}

fn up_to(value: Option<u32>, high: u32, path: &str) -> Answer<Option<u32>> {
    match value {
        Some(number) if number > high => Err(invalid(path, format!("{path} is at most {high}"))),
        _ => Ok(value),
    }
}

fn missing(field: &'static str) -> Refusal {
    invalid(field, format!("{field} is missing"))
}

fn invalid(path: impl Into<String>, message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::bad("BODY_INVALID", message).at(path)
}

#[cfg(test)]
mod tests;
