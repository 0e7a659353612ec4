//! What a call inside one process costs on top of the work.

use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use manifold_core::{Principal, RequestId, SubjectKind, TenantId, TraceContext};
use manifold_runtime::{CallContext, Mesh, MeshConfig, Routes, telemetry};
use tonic::{Request, Response, Status, Streaming};

#[expect(clippy::allow_attributes, reason = "generated code")]
mod v1 {
    tonic::include_proto!("echo.v1");
}

use v1::echo;
use v1::echo_client::EchoClient;
use v1::echo_server::{Echo, EchoServer};

struct Service;

#[tonic::async_trait]
impl Echo for Service {
    async fn say(&self, request: Request<v1::SayRequest>) -> Result<Response<v1::SayResponse>, Status> {
        manifold_runtime::context(&request)?;
        Ok(Response::new(v1::SayResponse { text: request.into_inner().text }))
    }

    type RepeatStream = futures::stream::Empty<Result<v1::RepeatResponse, Status>>;

    async fn repeat(&self, _: Request<v1::RepeatRequest>) -> Result<Response<Self::RepeatStream>, Status> {
        Ok(Response::new(futures::stream::empty()))
    }

    async fn sum(&self, _: Request<Streaming<v1::SumRequest>>) -> Result<Response<v1::SumResponse>, Status> {
        Ok(Response::new(v1::SumResponse::default()))
    }

    type TalkStream = futures::stream::Empty<Result<v1::TalkResponse, Status>>;

    async fn talk(&self, _: Request<Streaming<v1::TalkRequest>>) -> Result<Response<Self::TalkStream>, Status> {
        Ok(Response::new(futures::stream::empty()))
    }
}

fn caller() -> CallContext {
    let principal = Principal {
        tenant: TenantId(uuid::Uuid::nil()),
        subject: Arc::from("key"),
        kind: SubjectKind::Key,
        key: None,
        permissions: Arc::from(["*".to_owned()]),
        environment: Arc::from("live"),
        ..Principal::anonymous()
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3_600);
    CallContext {
        principal,
        request: RequestId(uuid::Uuid::nil()),
        trace: TraceContext::root(),
        deadline,
        unchanged_since: None,
    }
}

fn calls(criterion: &mut Criterion) {
    telemetry::prometheus();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mesh = Mesh::new(MeshConfig::default()).expect("nothing is configured");
    mesh.provide("echo", Routes::new(echo::offer(Service)));
    let client = echo::Client::new(mesh.channel("echo"));
    let context = caller();
    criterion.bench_function("unary call in process", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let (client, context) = (client.clone(), context.clone());
            async move {
                let request = v1::SayRequest { text: "hello".to_owned() };
                client.say(manifold_runtime::request(request, context)).await
            }
        });
    });
    let bare = EchoClient::new(EchoServer::new(Service));
    criterion.bench_function("the same call encoded, without channel", |bencher| {
        bencher.to_async(&runtime).iter(|| {
            let (mut client, context) = (bare.clone(), context.clone());
            async move {
                let request = v1::SayRequest { text: "hello".to_owned() };
                client.say(manifold_runtime::request(request, context)).await
            }
        });
    });
    criterion.bench_function("span that nobody wants", |bencher| {
        let mut trace = TraceContext::root();
        bencher.iter(|| telemetry::rpc_span("echo.v1.Echo/Say", &mut trace));
    });
}

criterion_group!(benches, calls);
criterion_main!(benches);
