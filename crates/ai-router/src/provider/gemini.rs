//! Gemini's own API: turns of user and model, arguments as objects, thought signatures that have to come back.
//! <https://ai.google.dev/api/generate-content>

mod decode;
mod embed;
mod encode;
mod schema;
mod stream;
mod turns;
mod wire;

use http::response::Parts;
use manifold_contract::ai::v1 as ai;

use super::outgoing::{self, Auth, path_safe};
use super::{Answer, Decoder, Encoded, Mode, Provider, Target, Vectors};
use crate::classify::{self, Failure, Limits};

/// Its key never stands in the address.
const AUTH: Auth = Auth::Header("x-goog-api-key");

pub(super) struct Gemini;

impl Provider for Gemini {
    fn id(&self) -> &'static str {
        "gemini"
    }

    fn encode(&self, target: &Target<'_>, request: &ai::ChatRequest, mode: Mode) -> Result<Encoded, Failure> {
        let method = match mode {
            Mode::Whole => ":generateContent",
            Mode::Stream => ":streamGenerateContent?alt=sse",
        };
        let (body, degraded) = encode::chat(target.model, request)?;
        let encoded = outgoing::post(target, &path(target.model, method)?, AUTH, &[], body)?;
        Ok(Encoded { degraded, ..encoded })
    }

    fn inlines_media(&self) -> bool {
        true
    }

    fn decode(&self, body: &[u8]) -> Result<Answer, Failure> {
        decode::chat(body)
    }

    fn decoder(&self) -> Box<dyn Decoder> {
        Box::new(stream::Stream::default())
    }

    fn encode_embed(&self, target: &Target<'_>, request: &ai::EmbedRequest) -> Result<Encoded, Failure> {
        let method = if request.inputs.len() == 1 { ":embedContent" } else { ":batchEmbedContents" };
        let (body, degraded) = embed::encode(target.model, request)?;
        let encoded = outgoing::post(target, &path(target.model, method)?, AUTH, &[], body)?;
        Ok(Encoded { degraded, ..encoded })
    }

    fn decode_embed(&self, body: &[u8]) -> Result<Vectors, Failure> {
        embed::decode(body)
    }

    fn classify(&self, head: &Parts, body: &[u8], now_s: i64) -> Failure {
        classify::response(head, body, now_s, Limits::Minute)
    }

    fn encode_models(&self, target: &Target<'_>) -> Result<Encoded, Failure> {
        outgoing::get(target, "/models?pageSize=1000", AUTH, &[])
    }

    fn decode_models(&self, body: &[u8]) -> Result<Vec<String>, Failure> {
        decode::models(body)
    }
}

/// `/models/gemini-3-flash:generateContent`; tuned models bring their own collection.
fn path(model: &str, method: &str) -> Result<String, Failure> {
    let model = path_safe(model)?;
    let collection = if model.contains('/') { "/" } else { "/models/" };
    Ok([collection, model, method].concat())
}
