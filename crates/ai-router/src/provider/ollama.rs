//! Ollama's own API: lines of JSON, arguments as objects, images as bare base64, and a window that has to be asked for.
//! <https://github.com/ollama/ollama/blob/main/docs/api.md>

mod decode;
mod embed;
mod encode;
mod message;
mod stream;
mod wire;

use http::response::Parts;
use manifold_contract::ai::v1 as ai;

use super::outgoing::{self, Auth};
use super::{Answer, Decoder, Encoded, Mode, Provider, Target, Vectors};
use crate::classify::{self, Failure, Limits};

pub(super) struct Ollama;

impl Provider for Ollama {
    fn id(&self) -> &'static str {
        "ollama"
    }

    fn encode(&self, target: &Target<'_>, request: &ai::ChatRequest, mode: Mode) -> Result<Encoded, Failure> {
        let (body, degraded) = encode::chat(target, request, mode)?;
        let encoded = outgoing::post(target, "/api/chat", Auth::Bearer, &[], body)?;
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
        let (body, degraded) = embed::encode(target.model, request)?;
        let encoded = outgoing::post(target, "/api/embed", Auth::Bearer, &[], body)?;
        Ok(Encoded { degraded, ..encoded })
    }

    fn decode_embed(&self, body: &[u8]) -> Result<Vectors, Failure> {
        embed::decode(body)
    }

    fn classify(&self, head: &Parts, body: &[u8], now_s: i64) -> Failure {
        classify::response(head, body, now_s, Limits::Concurrent)
    }

    fn encode_models(&self, target: &Target<'_>) -> Result<Encoded, Failure> {
        outgoing::get(target, "/api/tags", Auth::Bearer, &[])
    }

    fn decode_models(&self, body: &[u8]) -> Result<Vec<String>, Failure> {
        decode::models(body)
    }
}
