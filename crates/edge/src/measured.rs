//! The conversions of the hot path, open to benchmarks and fuzzers.

use http::HeaderMap;
use manifold_contract::ai::v1::{ChatRequest, ChatResponse, ChatStreamResponse};
use manifold_core::{RequestId, Result};

use crate::openai::{answer, convert, stream};

/// OpenAI's chat request as a request of the contract.
pub fn decode_chat(body: &[u8]) -> Result<ChatRequest> {
    convert::decode(body, &HeaderMap::new()).map(|decoded| decoded.request).map_err(|refusal| refusal.error)
}

/// An answer of the contract as OpenAI's.
pub fn encode_chat(response: &ChatResponse) -> Result<Vec<u8>> {
    answer::encode(response, answer::Thinking::Hidden)
}

/// A streamed answer of the contract as OpenAI's events.
pub fn encode_stream(request: RequestId, messages: impl IntoIterator<Item = ChatStreamResponse>) -> Result<Vec<u8>> {
    let show = stream::Show {
        usage: true,
        thinking: answer::Thinking::Hidden,
        declared: Vec::new(),
        request,
        busy: std::time::Duration::ZERO,
    };
    let mut encoder = stream::StreamEncoder::new(show);
    let mut out = Vec::new();
    for message in messages {
        encoder.push(message, &mut out)?;
    }
    Ok(out)
}
