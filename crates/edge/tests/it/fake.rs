//! An ai-router that does what the name of the model says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt};
use manifold_contract::ai::v1::chat_stream_response::Kind;
use manifold_contract::ai::v1::inference_server::Inference;
use manifold_contract::ai::v1::part::Kind as PartKind;
use manifold_contract::ai::v1::*;
use manifold_core::{Code, Error};
use manifold_runtime::to_status;
use tonic::{Request, Response, Status};

/// Counts what hangs before its answer and what was left in the middle.
#[derive(Clone, Default)]
pub struct Fake {
    pub hanging: Arc<AtomicUsize>,
    pub abandoned: Arc<AtomicUsize>,
}

/// Counts when it is dropped before it was told that all is well.
struct Watch(Arc<AtomicUsize>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// `fail/<CODE>/<REASON>` fails so.
fn failure(model: &str) -> Option<Status> {
    let mut words = model.strip_prefix("fail/")?.split('/');
    let code = match words.next()? {
        "invalid" => Code::Invalid,
        "not_found" => Code::NotFound,
        "exhausted" => Code::Exhausted,
        "unavailable" => Code::Unavailable,
        "timeout" => Code::Timeout,
        _ => Code::Internal,
    };
    let error = Error::new(code, words.next()?.to_owned(), "why it failed").fact("attempts", "2");
    Some(to_status(if code == Code::Exhausted { error.retry_after(Duration::from_millis(1_500)) } else { error }))
}

fn served(model: &str) -> Served {
    Served {
        provider: "fake".to_owned(),
        model: model.to_owned(),
        n_attempts: 1,
        cost_nanos: Some(412_000),
        price_state: "priced".to_owned(),
        overhead_us: 20,
        degraded: vec!["seed".to_owned()],
        data_use: "trains".to_owned(),
    }
}

fn last_text(request: &ChatRequest) -> String {
    let parts = request.messages.last().into_iter().flat_map(|message| &message.parts);
    let texts = parts.filter_map(|part| match &part.kind {
        Some(PartKind::Text(text)) => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

fn usage() -> Usage {
    Usage { input_tokens: 3, cached_tokens: 0, output_tokens: 2, reasoning_tokens: 0 }
}

#[tonic::async_trait]
impl Inference for Fake {
    async fn chat(&self, request: Request<ChatRequest>) -> Result<Response<ChatResponse>, Status> {
        manifold_runtime::context(&request)?;
        let request = request.into_inner();
        if let Some(status) = failure(&request.model) {
            return Err(status);
        }
        match request.model.as_str() {
            "panic" => panic!("as told"),
            "hang" => {
                let _watch = Watch(Arc::clone(&self.abandoned));
                self.hanging.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            "slow" => tokio::time::sleep(Duration::from_millis(300)).await,
            _ => {}
        }
        let parts = vec![Part { kind: Some(PartKind::Text(last_text(&request))), ..Part::default() }];
        let choice = Choice { index: 0, parts, finish_reason: FinishReason::Stop.into(), logprobs_json: String::new() };
        let served = Some(served(&request.model));
        Ok(Response::new(ChatResponse {
            id: "chat-1".to_owned(),
            created: 7,
            choices: vec![choice],
            usage: Some(usage()),
            served,
        }))
    }

    type ChatStreamStream = BoxStream<'static, Result<ChatStreamResponse, Status>>;

    async fn chat_stream(&self, request: Request<ChatRequest>) -> Result<Response<Self::ChatStreamStream>, Status> {
        let request = request.into_inner();
        if let Some(status) = failure(&request.model) {
            return Err(status);
        }
        let text = TextDelta { choice: 0, text: last_text(&request), logprobs_json: String::new() };
        let started = Started { id: "chat-1".to_owned(), created: 7, served: Some(served(&request.model)) };
        let begin = vec![Kind::Started(started), Kind::TextDelta(text)];
        let end = ChoiceEnd { choice: 0, finish_reason: FinishReason::Stop.into() };
        let finish = vec![Kind::ChoiceEnd(end), Kind::Usage(usage()), Kind::Finished(served(&request.model))];
        let messages = |kinds: Vec<Kind>| stream::iter(kinds).map(|kind| Ok(ChatStreamResponse { kind: Some(kind) }));
        let watch = Watch(Arc::clone(&self.abandoned));
        let stream = match request.model.as_str() {
            "cut" => messages(begin).boxed(),
            "hang" => {
                messages(begin).chain(std::future::pending().map(move |()| unreachable(&watch)).into_stream()).boxed()
            }
            "slow" => {
                let pause =
                    tokio::time::sleep(Duration::from_millis(300)).into_stream().filter_map(|()| async { None });
                messages(begin).chain(pause).chain(messages(finish)).boxed()
            }
            _ => messages(begin).chain(messages(finish)).boxed(),
        };
        Ok(Response::new(stream))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let request = request.into_inner();
        let vectors = request.inputs.iter().map(|_| Vector { values: vec![0.5, -1.0] }).collect();
        let served = Some(served(&request.model));
        Ok(Response::new(EmbedResponse { vectors, usage: Some(usage()), served }))
    }

    async fn list_models(&self, _request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        let models = vec![Model { id: "fake/a:b".to_owned(), owned_by: "fake".to_owned(), ..Model::default() }];
        Ok(Response::new(ListModelsResponse { models }))
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        let id = request.into_inner().model;
        if id == "unknown" {
            return Err(to_status(Error::not_found("MODEL_NOT_FOUND", "no such model").at("model")));
        }
        Ok(Response::new(GetModelResponse { model: Some(Model { id, ..Model::default() }) }))
    }
}

fn unreachable(_watch: &Watch) -> Result<ChatStreamResponse, Status> {
    Err(Status::internal("never polled to its end"))
}
