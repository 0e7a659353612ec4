//! Bodies as the documentation shows them. Requests are read by `request` and `embeddings`, which keep unknown fields;
//! answers are printed by `answer`. Nothing here is ever filled.
#![expect(dead_code, reason = "types for the documentation only")]

use utoipa::ToSchema;
use utoipa::openapi::schema::{AnyOfBuilder, ArrayBuilder, ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};

/// A conversation to answer. Fields that are not listed go to providers that speak OpenAI's format.
#[derive(ToSchema)]
pub(crate) struct ChatCompletionRequest {
    /// `provider/model`, an alias, a canonical name, or `auto`.
    #[schema(example = "auto", min_length = 1, max_length = 256)]
    model: String,
    /// The conversation.
    #[schema(min_items = 1)]
    messages: Vec<ChatMessage>,
    /// Models to try after `model`, in order.
    #[schema(max_items = 16)]
    models: Option<Vec<String>>,
    /// Functions that the model may call.
    #[schema(value_type = Option<Vec<Object>>)]
    tools: Option<()>,
    /// `none`, `auto`, `required`, or an object that names a function.
    #[schema(value_type = Option<Value>)]
    tool_choice: Option<()>,
    /// False = at most one call in an answer.
    parallel_tool_calls: Option<bool>,
    /// Tokens of the answer at most.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_i64)]
    max_completion_tokens: Option<u32>,
    /// The older name of `max_completion_tokens`.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_i64)]
    max_tokens: Option<u32>,
    /// 0 to 2.
    #[schema(minimum = 0, maximum = 2)]
    temperature: Option<f64>,
    /// 0 to 1.
    #[schema(minimum = 0, maximum = 1)]
    top_p: Option<f64>,
    /// The same seed asks for the same answer.
    seed: Option<i64>,
    /// Up to four texts that end the answer.
    #[schema(value_type = Option<Value>)]
    stop: Option<()>,
    /// -2 to 2.
    #[schema(minimum = -2, maximum = 2)]
    presence_penalty: Option<f64>,
    /// -2 to 2.
    #[schema(minimum = -2, maximum = 2)]
    frequency_penalty: Option<f64>,
    /// Number of answers.
    #[schema(minimum = 1, maximum = 16)]
    n: Option<u32>,
    /// Whether to tell probabilities.
    logprobs: Option<bool>,
    /// Of how many alternatives.
    #[schema(maximum = 20)]
    top_logprobs: Option<u32>,
    /// Token to bias.
    #[schema(value_type = Option<Object>)]
    logit_bias: Option<()>,
    /// `{"type":"json_object"}`, or `{"type":"json_schema","json_schema":{…}}`.
    #[schema(value_type = Option<Object>)]
    response_format: Option<()>,
    /// `none`, `minimal`, `low`, `medium`, `high` or `max`. Also shows the model's thinking.
    #[schema(example = "low")]
    reasoning_effort: Option<String>,
    /// Answer as server-sent events.
    stream: Option<bool>,
    /// `{"include_usage":true}` adds an event with tokens and cost.
    #[schema(value_type = Option<Object>)]
    stream_options: Option<()>,
    /// The end user, for providers.
    user: Option<String>,
    /// Our own wishes.
    manifold: Option<ManifoldOptions>,
}

/// One message of a conversation.
#[derive(ToSchema)]
pub(crate) struct ChatMessage {
    /// `system`, `developer`, `user`, `assistant` or `tool`.
    #[schema(example = "user")]
    role: String,
    /// A text, or parts of type `text`, `image_url`, `input_audio` or `file`.
    #[schema(value_type = Option<Value>, example = "Hello")]
    content: Option<()>,
    /// Name of the participant.
    name: Option<String>,
    /// Calls that the assistant made.
    #[schema(value_type = Option<Vec<Object>>)]
    tool_calls: Option<()>,
    /// The call that a tool message answers.
    tool_call_id: Option<String>,
}

/// Our own wishes; the headers `manifold-label`, `manifold-strict` and `manifold-thinking` mean the same.
#[derive(ToSchema)]
pub(crate) struct ManifoldOptions {
    #[schema(schema_with = labels, required = false)]
    labels: (),
    /// Refuse instead of leaving out what a model cannot do.
    strict: Option<bool>,
    /// Show the model's thinking.
    thinking: Option<bool>,
}

fn labels() -> impl Into<RefOr<Schema>> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let label = text().min_length(Some(1)).max_length(Some(64));
    AnyOfBuilder::new()
        .description(Some(
            "Labels such as `confidential`, each of at most 64 characters: a list, or with commas between.",
        ))
        .item(ArrayBuilder::new().items(label).max_items(Some(16)))
        .item(text())
        .item(ObjectBuilder::new().schema_type(Type::Null))
}

/// A server-sent event of an answer that is streamed.
#[derive(ToSchema)]
pub(crate) struct ChatCompletionEvent {
    /// A chunk of the answer as JSON, in OpenAI's format; `[DONE]` at the end.
    data: String,
}

/// The answer of `POST /v1/chat/completions`.
#[derive(ToSchema)]
pub(crate) struct ChatCompletion {
    /// Of the provider, or ours if it gave none.
    #[schema(example = "chatcmpl-9")]
    id: String,
    /// `chat.completion`.
    object: String,
    /// Seconds since 1970.
    created: i64,
    /// Who answered: `provider/model`.
    #[schema(example = "groq/llama-3.3-70b-versatile")]
    model: String,
    /// As many as asked for.
    choices: Vec<AnswerChoice>,
    /// Tokens.
    #[schema(required = false)]
    usage: Option<TokenUsage>,
}

/// One of the answers.
#[derive(ToSchema)]
pub(crate) struct AnswerChoice {
    index: u32,
    message: AnswerMessage,
    /// As the provider wrote them.
    #[schema(value_type = Option<Object>)]
    logprobs: Option<()>,
    /// `stop`, `length`, `tool_calls` or `content_filter`.
    #[schema(example = "stop")]
    finish_reason: String,
}

/// What the model said.
#[derive(ToSchema)]
pub(crate) struct AnswerMessage {
    /// `assistant`.
    role: String,
    /// The text; null when there are only tool calls.
    content: Option<String>,
    /// Why the model declined.
    refusal: Option<String>,
    /// Its thinking, if asked for.
    #[schema(required = false)]
    reasoning_content: Option<String>,
    /// Tools that it wants called.
    #[schema(required = false)]
    tool_calls: Vec<AnswerCall>,
}

/// A tool that the model wants called.
#[derive(ToSchema)]
pub(crate) struct AnswerCall {
    id: String,
    /// `function`.
    #[schema(rename = "type")]
    type_: String,
    function: AnswerFunction,
}

/// Which function with which arguments.
#[derive(ToSchema)]
pub(crate) struct AnswerFunction {
    name: String,
    /// JSON as the model wrote it.
    arguments: String,
}

/// Tokens. Cached ones are part of the prompt, those of thinking part of the completion.
#[derive(ToSchema)]
pub(crate) struct TokenUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

/// Parts of the prompt.
#[derive(ToSchema)]
pub(crate) struct PromptDetails {
    cached_tokens: u64,
}

/// Parts of the completion.
#[derive(ToSchema)]
pub(crate) struct CompletionDetails {
    reasoning_tokens: u64,
}

/// Texts to make vectors of.
#[derive(ToSchema)]
pub(crate) struct EmbeddingRequest {
    /// `provider/model` or an alias.
    #[schema(example = "mistral/mistral-embed", min_length = 1, max_length = 256)]
    model: String,
    #[schema(schema_with = input)]
    input: (),
    /// `float` or `base64`, which is little-endian 32-bit floats.
    #[schema(example = "float", pattern = "^(float|base64)$")]
    encoding_format: Option<String>,
    /// Length of the vectors.
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 4_294_967_295_i64)]
    dimensions: Option<u32>,
    /// The end user, for providers.
    user: Option<String>,
}

fn input() -> impl Into<RefOr<Schema>> {
    let text = || ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
    let tokens = || {
        let token = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(u32::MAX));
        ArrayBuilder::new().items(token).min_items(Some(1))
    };
    AnyOfBuilder::new()
        .description(Some("A text, up to 2048 texts, or arrays of tokens."))
        .item(text().examples(["one"]))
        .item(ArrayBuilder::new().items(text()).min_items(Some(1)).max_items(Some(2_048)))
        .item(tokens())
        .item(ArrayBuilder::new().items(tokens()).min_items(Some(1)).max_items(Some(2_048)))
}
