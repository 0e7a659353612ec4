//! `POST /v1/embeddings`: vectors of texts, as numbers or as base64 of little-endian floats.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use manifold_contract::ai::v1::{EmbedResponse, Vector};
use manifold_core::Error;
use manifold_runtime::request;
use serde::{Serialize, Serializer};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::embed_input::{self, Form};
use super::error::ErrorBody;
use super::schema::EmbeddingRequest;
use super::served;
use crate::call::Call;
use crate::edge::House;
use crate::refusal::Answer;

/// The answer of `POST /v1/embeddings`.
#[derive(Serialize, ToSchema)]
pub(crate) struct EmbeddingList<'a> {
    /// `list`.
    object: &'static str,
    /// In the order of the inputs.
    data: Vec<Embedding<'a>>,
    /// Who answered: `provider/model`.
    model: String,
    usage: EmbeddingUsage,
}

/// The vector of one input.
#[derive(Serialize, ToSchema)]
pub(crate) struct Embedding<'a> {
    /// `embedding`.
    object: &'static str,
    index: usize,
    #[schema(value_type = Vec<f32>)]
    embedding: Printed<'a>,
}

/// Tokens.
#[derive(Serialize, ToSchema)]
pub(crate) struct EmbeddingUsage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// A vector in its form.
struct Printed<'a>(&'a Vector, Form);

impl Serialize for Printed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.1 == Form::Numbers {
            return self.0.values.serialize(serializer);
        }
        let bytes: Vec<u8> = self.0.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }
}

fn encode(response: &EmbedResponse, form: Form) -> Result<Vec<u8>, Error> {
    let served = response.served.as_ref().ok_or_else(|| Error::internal("vectors do not say who made them"))?;
    let tokens = response.usage.map_or(0, |usage| usage.input_tokens);
    let vectors = response.vectors.iter().enumerate();
    let list = EmbeddingList {
        object: "list",
        data: vectors
            .map(|(index, vector)| Embedding { object: "embedding", index, embedding: Printed(vector, form) })
            .collect(),
        model: served::model(served),
        usage: EmbeddingUsage { prompt_tokens: tokens, total_tokens: tokens },
    };
    serde_json::to_vec(&list).map_err(|error| Error::internal("print vectors").because(error))
}

/// Make vectors of texts
///
/// OpenAI's embeddings over every configured provider. One request stays with one model, because vectors of two models
/// cannot be compared. Also served as `/openai/v1/embeddings`.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    operation_id = "createEmbedding",
    tag = "Embeddings",
    request_body(content = EmbeddingRequest, example = json!({"model": "mistral/mistral-embed", "input": ["one", "two"]})),
    responses(
        (status = 200, description = "A vector for each input", body = EmbeddingList, example = json!({
            "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
            "model": "mistral/mistral-embed", "usage": {"prompt_tokens": 2, "total_tokens": 2}
        })),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "No provider could answer", body = ErrorBody)
    ),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("ai.inference.run")))
)]
pub(crate) async fn create_embedding(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let (message, form) = embed_input::decode(&call.body)?;
    let requested = message.model.clone();
    let before = call.stopwatch.busy();
    let outcome = house.inference.embed(request(message, call.context)).await;
    let answered = Instant::now();
    let response = outcome?.into_inner();
    let body = encode(&response, form)?;
    let mut headers = HeaderMap::with_capacity(24);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(served) = &response.served {
        let busy = before + Duration::from_micros(served.overhead_us) + answered.elapsed();
        served::describe(&mut headers, served, &requested, &[]);
        served::account(&mut headers, served, busy);
    }
    let mut response = Response::new(Body::from(body));
    *response.headers_mut() = headers;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use manifold_contract::ai::v1::{Served, Usage};

    use super::*;

    fn printed(form: Form) -> serde_json::Value {
        let response = EmbedResponse {
            vectors: vec![Vector { values: vec![0.1, -2.0] }],
            usage: Some(Usage { input_tokens: 3, ..Usage::default() }),
            served: Some(Served { provider: "mistral".to_owned(), model: "embed".to_owned(), ..Served::default() }),
        };
        serde_json::from_slice(&encode(&response, form).unwrap()).unwrap()
    }

    #[test]
    fn vectors_are_printed_as_short_numbers() {
        let list = printed(Form::Numbers);

        assert_eq!(list["data"][0]["embedding"].to_string(), "[0.1,-2.0]");
        assert_eq!((&list["model"], &list["usage"]["total_tokens"]), (&"mistral/embed".into(), &3.into()));
    }

    #[test]
    fn base64_is_little_endian_floats() {
        let text = printed(Form::Base64)["data"][0]["embedding"].as_str().unwrap().to_owned();

        let bytes = BASE64_STANDARD.decode(text).unwrap();

        assert_eq!(bytes, [0.1f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat());
    }
}
