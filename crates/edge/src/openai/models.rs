//! `GET /v1/models` and `GET /v1/models/{id}`: what can be called, with context and prices.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use manifold_contract::ai::v1::{GetModelRequest, ListModelsRequest, Model as Known};
use manifold_core::{Code, Error};
use manifold_runtime::request;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::ErrorBody;
use crate::call::{Call, Id};
use crate::edge::House;
use crate::refusal::Answer;

const MAX_NAME: usize = 256;

/// The answer of `GET /v1/models`.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// `list`.
    object: &'static str,
    data: Vec<Model>,
}

/// A model that can be called.
#[derive(Serialize, ToSchema)]
pub(crate) struct Model {
    /// The name to call it by.
    #[schema(example = "groq/llama-3.3-70b-versatile")]
    id: String,
    /// `model`.
    object: &'static str,
    /// Seconds since 1970; 0 = unknown.
    created: i64,
    /// A provider, or `manifold` for aliases.
    owned_by: String,
    /// Tokens of prompt and answer together.
    context_length: Option<u32>,
    max_output_tokens: Option<u32>,
    /// What it reads: `text`, `image`, `audio`.
    modalities: Vec<String>,
    /// Feature words such as `tools`.
    supported_parameters: Vec<String>,
    /// US dollars per token.
    pricing: Option<Pricing>,
    manifold: ModelState,
}

/// US dollars per token, as decimal text because they are tiny.
#[derive(Serialize, ToSchema)]
pub(crate) struct Pricing {
    #[schema(example = "0.00000059")]
    prompt: Option<String>,
    #[schema(example = "0.00000079")]
    completion: Option<String>,
}

/// What the house knows beside.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelState {
    /// `chat` or `embedding`.
    kind: String,
    /// Why it cannot be called now; null = it can.
    reason: Option<String>,
}

impl From<Known> for Model {
    fn from(known: Known) -> Self {
        let (prompt, completion) = (known.input_price_pico.map(dollars), known.output_price_pico.map(dollars));
        Self {
            id: known.id,
            object: "model",
            created: known.created,
            owned_by: known.owned_by,
            context_length: Some(known.context_length).filter(|length| *length > 0),
            max_output_tokens: Some(known.max_output_tokens).filter(|max| *max > 0),
            modalities: known.input_modalities,
            supported_parameters: known.features,
            pricing: (prompt.is_some() || completion.is_some()).then_some(Pricing { prompt, completion }),
            manifold: ModelState {
                kind: known.kind,
                reason: Some(known.unavailable_reason).filter(|reason| !reason.is_empty()),
            },
        }
    }
}

/// Pico-dollars as dollars, without needless zeros.
fn dollars(pico: i64) -> String {
    let (whole, part) = (pico / 1_000_000_000_000, pico % 1_000_000_000_000);
    let text = format!("{whole}.{part:012}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// List the models
///
/// Every model that this key may use, under the names it can be called by. Those that cannot be called now say why in
/// `manifold.reason`. Also served as `/openai/v1/models`.
#[utoipa::path(
    get,
    path = "/v1/models",
    operation_id = "listModels",
    tag = "Models",
    responses(
        (status = 200, description = "All models", body = ModelList, example = json!({"object": "list", "data": [{
            "id": "groq/llama-3.3-70b-versatile", "object": "model", "created": 1733447754, "owned_by": "groq",
            "context_length": 131072, "max_output_tokens": 32768, "modalities": ["text"], "supported_parameters": ["tools"],
            "pricing": {"prompt": "0.00000059", "completion": "0.00000079"}, "manifold": {"kind": "chat", "reason": null}
        }]})),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "The list cannot be read", body = ErrorBody)
    ),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("ai.inference.run")))
)]
pub(crate) async fn list_models(State(house): State<Arc<House>>, call: Call) -> Answer<Response> {
    let response = house.inference.list_models(request(ListModelsRequest {}, call.context)).await?;
    let data = response.into_inner().models.into_iter().map(Model::from).collect();
    Ok(print(&ModelList { object: "list", data })?)
}

/// Show a model
///
/// One model by any name it can be called by. Names contain `/` and `:`, which may be sent as they are or escaped. Also
/// served as `/openai/v1/models/{id}`.
#[utoipa::path(
    get,
    path = "/v1/models/{*id}",
    operation_id = "getModel",
    tag = "Models",
    params(("id" = String, Path, description = "Name of the model", example = "groq/llama-3.3-70b-versatile",
        pattern = "^[A-Za-z0-9][A-Za-z0-9._:/-]*$")),
    responses(
        (status = 200, description = "The model", body = Model, example = json!({
            "id": "groq/llama-3.3-70b-versatile", "object": "model", "created": 1733447754, "owned_by": "groq",
            "context_length": 131072, "max_output_tokens": 32768, "modalities": ["text"], "supported_parameters": ["tools"],
            "pricing": {"prompt": "0.00000059", "completion": "0.00000079"}, "manifold": {"kind": "chat", "reason": null}
        })),
        (status = "4XX", description = "The request is refused", body = ErrorBody),
        (status = "5XX", description = "The model cannot be read", body = ErrorBody)
    ),
    security(("api_key" = [])),
    extensions(("x-permission" = json!("ai.inference.run")))
)]
pub(crate) async fn get_model(State(house): State<Arc<House>>, Id(model): Id, call: Call) -> Answer<Response> {
    if model.chars().count() > MAX_NAME {
        return Err(unknown().into());
    }
    let message = GetModelRequest { model };
    let response = house.inference.get_model(request(message, call.context)).await?;
    let model = response.into_inner().model.ok_or_else(unknown)?;
    Ok(print(&Model::from(model))?)
}

fn unknown() -> Error {
    Error::new(Code::NotFound, "MODEL_NOT_FOUND", "there is no model of this name").at("model")
}

fn print(value: &impl Serialize) -> Result<Response, Error> {
    let body = serde_json::to_vec(value).map_err(|error| Error::internal("print models").because(error))?;
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_decimals() {
        for (pico, text) in [(590_000, "0.00000059"), (0, "0"), (1_500_000_000_000, "1.5"), (1, "0.000000000001")] {
            assert_eq!(dollars(pico), text);
        }
    }

    #[test]
    fn unknown_numbers_are_null() {
        let model = Model::from(Known { id: "a/b".to_owned(), ..Known::default() });

        let printed = serde_json::to_value(&model).unwrap();

        assert_eq!(printed["context_length"], serde_json::Value::Null);
        assert_eq!(printed["pricing"], serde_json::Value::Null);
    }
}
