//! What every provider is: pure functions from a request to bytes and from bytes to an answer. No IO, no clock, no retry, no log.

mod effort;
mod extras;
mod gemini;
mod generic;
mod groq;
mod media;
mod mistral;
mod ollama;
mod openai;
mod openrouter;
mod outgoing;
mod registry;
mod tool_id;
mod wire;

use bytes::Bytes;
use manifold_contract::ai::v1::{self as ai, chat_stream_response::Kind};
use manifold_core::{Nanos, Secret};

use crate::classify::Failure;

pub use registry::{builtin, generic};

/// Where a request goes: one model of one provider with one credential.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Such as `https://api.groq.com/openai/v1`, without trailing slash.
    pub base_url: &'a str,
    /// The provider's own name of the model.
    pub model: &'a str,
    /// None for providers that need none, such as a local Ollama.
    pub credential: Option<&'a Secret<String>>,
    /// Tokens the model can hold; 0 = unknown.
    pub context_length: u32,
}

/// Whether the answer comes whole or in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One body.
    Whole,
    /// A stream of events.
    Stream,
}

/// A request ready to be sent.
#[derive(Debug)]
pub struct Encoded {
    /// Complete with method, address, headers and body.
    pub request: http::Request<Bytes>,
    /// Feature words of wishes that this provider cannot fulfil and that were left out, such as `seed`.
    pub degraded: Vec<&'static str>,
}

/// A whole answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The provider's id of the answer; empty = it gave none.
    pub id: String,
    /// Seconds since 1970; 0 = not told.
    pub created: i64,
    /// The model that answered, as the provider says; empty = not told.
    pub model: String,
    /// At least one.
    pub choices: Vec<ai::Choice>,
    /// None = not told; it is then counted by us.
    pub usage: Option<ai::Usage>,
    /// What the provider says the answer cost.
    pub reported_cost: Option<Nanos>,
}

/// One step of a streamed answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Id, seconds since 1970 and model, as far as the provider tells; at most once, before content.
    Head {
        /// Empty = not told.
        id: String,
        /// 0 = not told.
        created: i64,
        /// Empty = not told.
        model: String,
    },
    /// `TextDelta`, `ThinkingDelta`, `RefusalDelta`, `ToolStart`, `ToolDelta` or `ChoiceEnd`; never another kind.
    Content(Kind),
    /// Tokens so far; the last one counts.
    Usage(ai::Usage),
    /// What the provider says the answer cost.
    Cost(Nanos),
}

/// Vectors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vectors {
    /// In the order of the inputs.
    pub vectors: Vec<ai::Vector>,
    /// None = not told.
    pub usage: Option<ai::Usage>,
    /// What the provider says it cost.
    pub reported_cost: Option<Nanos>,
}

/// Turns the bytes of a stream into pieces, however they are cut.
pub trait Decoder: Send {
    /// Takes the next bytes and appends what they complete. After an error nothing more is fed.
    fn feed(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) -> Result<(), Failure>;
    /// The upstream closed: appends what its last bytes complete, and tells whether the answer was whole.
    /// `Class::Interrupted` if the provider's end mark is missing.
    fn finish(&mut self, pieces: &mut Vec<Piece>) -> Result<(), Failure>;
}

/// One provider.
pub trait Provider: Send + Sync {
    /// Such as `groq`.
    fn id(&self) -> &'static str;
    /// A chat as this provider wants it. Fails with `Class::Invalid` if the request cannot be carried at all.
    fn encode(&self, target: &Target<'_>, request: &ai::ChatRequest, mode: Mode) -> Result<Encoded, Failure>;
    /// Whether images have to be inside the request: addresses of images are then fetched before `encode`.
    fn inlines_media(&self) -> bool {
        false
    }
    /// The body of a 2xx answer to `Mode::Whole`.
    fn decode(&self, body: &[u8]) -> Result<Answer, Failure>;
    /// Decoder of the body of a 2xx answer to `Mode::Stream`.
    fn decoder(&self) -> Box<dyn Decoder>;
    /// A request for vectors.
    fn encode_embed(&self, target: &Target<'_>, request: &ai::EmbedRequest) -> Result<Encoded, Failure>;
    /// The body of a 2xx answer to `encode_embed`.
    fn decode_embed(&self, body: &[u8]) -> Result<Vectors, Failure>;
    /// What a non-2xx answer means. `now_s` = seconds since 1970, for absolute dates.
    fn classify(&self, head: &http::response::Parts, body: &[u8], now_s: i64) -> Failure;
    /// Request for the provider's list of models: free, used by `doctor` and discovery.
    fn encode_models(&self, target: &Target<'_>) -> Result<Encoded, Failure>;
    /// Names in the answer to `encode_models`.
    fn decode_models(&self, body: &[u8]) -> Result<Vec<String>, Failure>;
}
