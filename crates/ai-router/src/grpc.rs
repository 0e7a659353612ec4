//! The rpc of `manifold.ai.v1.Inference`: decode, call, encode.

use std::pin::Pin;

use futures::Stream;
use manifold_contract::ai::v1::inference_server::Inference;
use manifold_contract::ai::v1::{
    ChatRequest, ChatResponse, EmbedRequest, EmbedResponse, GetModelRequest, GetModelResponse, ListModelsRequest,
    ListModelsResponse,
};
use manifold_runtime::{context, to_status};
use tonic::{Request, Response, Status};

use crate::stream::{self, Item};
use crate::{Router, chat, embed, models};

const RUN: &str = "ai.inference.run";

#[tonic::async_trait]
impl Inference for Router {
    type ChatStreamStream = Pin<Box<dyn Stream<Item = Item> + Send + 'static>>;

    async fn chat(&self, request: Request<ChatRequest>) -> Result<Response<ChatResponse>, Status> {
        let context = context(&request)?;
        context.principal.require(RUN).map_err(to_status)?;
        chat::chat(self, &context, &mut request.into_inner()).await.map(Response::new).map_err(to_status)
    }

    async fn chat_stream(&self, request: Request<ChatRequest>) -> Result<Response<Self::ChatStreamStream>, Status> {
        let context = context(&request)?;
        context.principal.require(RUN).map_err(to_status)?;
        Ok(Response::new(Box::pin(stream::chat_stream(self.clone(), context, request.into_inner()))))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let context = context(&request)?;
        context.principal.require(RUN).map_err(to_status)?;
        embed::embed(self, &context, request.into_inner()).await.map(Response::new).map_err(to_status)
    }

    async fn list_models(&self, request: Request<ListModelsRequest>) -> Result<Response<ListModelsResponse>, Status> {
        context(&request)?.principal.require(RUN).map_err(to_status)?;
        Ok(Response::new(ListModelsResponse { models: models::list(self) }))
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        context(&request)?.principal.require(RUN).map_err(to_status)?;
        let model = models::get(self, &request.get_ref().model).map_err(to_status)?;
        Ok(Response::new(GetModelResponse { model: Some(model) }))
    }
}
