//! OpenAI's dialect, and OpenAI itself. A compatible vendor is one `Compat` constant: what is different about it, as data.
//! <https://platform.openai.com/docs/api-reference/chat>

mod decode;
mod embed;
mod encode;
mod message;
mod stream;
mod wire;

use http::response::Parts;
use manifold_contract::ai::v1 as ai;

use super::extras::Extras;
use super::outgoing::{self, Auth};
use super::tool_id::ToolIds;
use super::{Answer, Decoder, Encoded, Mode, Provider, Target, Vectors};
use crate::classify::{self, Failure, Limits};

/// OpenAI.
pub(super) const OPENAI: Compat = Compat { id: "openai", headers: &[], limits: Limits::Minute, quirks: Quirks::NONE };

/// A vendor that speaks OpenAI's dialect.
#[derive(Debug)]
pub struct Compat {
    /// Such as `groq`.
    pub id: &'static str,
    /// Headers of every request, lowercase names.
    pub headers: &'static [(&'static str, &'static str)],
    /// What its rate-limit headers mean.
    pub limits: Limits,
    /// What it does differently.
    pub quirks: Quirks,
}

/// What a vendor does differently.
#[derive(Debug)]
pub struct Quirks {
    /// Name of the limit of output tokens.
    pub max_tokens: &'static str,
    /// Name of the seed.
    pub seed: &'static str,
    /// Name of the length of vectors.
    pub dimensions: &'static str,
    /// The tool choice that forces some call.
    pub required: &'static str,
    /// How usage comes in streams.
    pub stream_usage: StreamUsage,
    /// Which ids of tool calls it takes.
    pub tool_ids: ToolIds,
    /// Feature words of what it can do beyond the core that all have.
    pub features: &'static [&'static str],
    /// Its steps of reasoning effort, rising.
    pub efforts: &'static [&'static str],
    /// Unknown fields that it is sent.
    pub extras: Extras,
    /// The field of an assistant message in which it wants its thinking back.
    pub thinking: Option<&'static str>,
    /// How it wants sounds and documents.
    pub media: MediaForm,
    /// Whether it says what an answer costs.
    pub cost: Cost,
    /// Whether it can be told to keep prompts away from those who train on them.
    pub privacy: Privacy,
}

/// How usage comes in streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamUsage {
    /// When asked for by `stream_options`.
    Asked,
    /// Unasked; `stream_options` is refused.
    Unasked,
}

/// How sounds and documents are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaForm {
    /// `input_audio {data, format}`, `file {file_data}`.
    OpenAi,
    /// `input_audio` as text, `document_url`.
    Mistral,
}

/// Who knows the price of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// `usage.cost` does, in US dollars.
    Told,
    /// Only the price list.
    NotTold,
}

/// What becomes of a label that forbids training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privacy {
    /// Nothing: the vendor itself is the one who may train.
    Fixed,
    /// `provider.data_collection = "deny"`.
    DataCollection,
}

impl Quirks {
    /// OpenAI's own ways.
    pub const NONE: Self = Self {
        max_tokens: "max_completion_tokens",
        seed: "seed",
        dimensions: "dimensions",
        required: "required",
        stream_usage: StreamUsage::Asked,
        tool_ids: ToolIds::AtMost40,
        features: &[
            "seed",
            "logit_bias",
            "penalties",
            "n",
            "logprobs",
            "user",
            "parallel_tool_calls",
            "reasoning",
            "name",
            "tokens",
        ],
        efforts: &["none", "minimal", "low", "medium", "high", "xhigh", "max"],
        extras: Extras::All,
        thinking: None,
        media: MediaForm::OpenAi,
        cost: Cost::NotTold,
        privacy: Privacy::Fixed,
    };

    fn has(&self, feature: &str) -> bool {
        self.features.contains(&feature)
    }
}

impl Provider for Compat {
    fn id(&self) -> &'static str {
        self.id
    }

    fn encode(&self, target: &Target<'_>, request: &ai::ChatRequest, mode: Mode) -> Result<Encoded, Failure> {
        let (body, degraded) = encode::chat(self, target.model, request, mode)?;
        let encoded = outgoing::post(target, "/chat/completions", Auth::Bearer, self.headers, body)?;
        Ok(Encoded { degraded, ..encoded })
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Failure> {
        decode::chat(self, body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(stream::Stream::new(self.quirks.cost))
    }

    fn encode_embed(&self, target: &Target<'_>, request: &ai::EmbedRequest) -> Result<Encoded, Failure> {
        let (body, degraded) = embed::encode(self, target.model, request)?;
        let encoded = outgoing::post(target, "/embeddings", Auth::Bearer, self.headers, body)?;
        Ok(Encoded { degraded, ..encoded })
    }

    fn decode_embed(&self, body: &[u8]) -> Result<Vectors, Failure> {
        embed::decode(self, body)
    }

    fn classify(&self, head: &Parts, body: &[u8], now_s: i64) -> Failure {
        classify::response(head, body, now_s, self.limits)
    }

    fn encode_models(&self, target: &Target<'_>) -> Result<Encoded, Failure> {
        outgoing::get(target, "/models", Auth::Bearer, self.headers)
    }

    fn decode_models(&self, body: &[u8]) -> Result<Vec<String>, Failure> {
        decode::models(body)
    }
}
