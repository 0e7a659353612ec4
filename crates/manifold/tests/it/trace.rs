//! Two processes, one trace: spans of both go to a collector and hang together from the caller to the provider.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use manifold_runtime::Tasks;
use manifold_testkit::Upstream;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::database::Database;
use crate::program::{MODEL, Program, SECRET};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Keeps every span with the name of the service that made it.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for group in request.into_inner().resource_spans {
            let service = group.resource.map(|resource| text(&resource.attributes, "service.name")).unwrap_or_default();
            let made = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(made.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens until the tasks are dropped; its address.
    async fn listen(&self, tasks: &Tasks) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let server = Server::builder().add_service(TraceServiceServer::new(self.clone()));
        let serving = server.serve_with_incoming(TcpIncoming::from(listener));
        tasks.spawn_until_stop("collector", async move {
            let _ = serving.await;
        });
        Ok(address)
    }

    /// The only span of `service` whose name begins so.
    fn span(&self, service: &str, name: &str) -> Result<Span> {
        let spans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = spans.iter().filter(|(known, span)| known == service && span.name.starts_with(name));
        let names = || spans.iter().map(|(service, span)| format!("{service}: {}", span.name)).collect::<Vec<_>>();
        let (_, span) = found.next().with_context(|| format!("{name} of {service} among {:?}", names()))?;
        anyhow::ensure!(found.next().is_none(), "two {name} of {service}: {:?}", names());
        Ok(span.clone())
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.clone()?.value);
    match found {
        Some(Value::StringValue(text)) => text,
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_of_both_processes_join_in_the_callers_trace() -> Result<()> {
    let (collector, tasks, database) = (Collector::default(), Tasks::new(), Database::create().await?);
    let groq = Upstream::start().await?;
    let both = Program::new()?.groq(&groq).set("store.url", database.url.clone()).set("mesh.secret", SECRET);
    let both = both.set("telemetry.otlp_endpoint", collector.listen(&tasks).await?).set("telemetry.sample_ratio", "1");
    let mut router = both.start("ai-router").await?;
    let mut door = both.set("mesh.ai_router", format!("http://{}", router.grpc()?)).start("edge").await?;
    door.ready().await?;

    let body = json!({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}).to_string();
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("content-type", "application/json"), ("traceparent", parent.as_str())];
    let reply = door.admin()?.send(http::Method::POST, "/v1/chat/completions", &headers, body.into_bytes()).await?;
    door.stop().await?;
    router.stop().await?;

    assert_eq!(reply.status, 200, "{}", reply.text);
    let request = collector.span("edge", "POST /v1/chat/completions")?;
    let rpc = collector.span("ai-router", "manifold.ai.v1.Inference/Chat")?;
    let outbound = collector.span("ai-router", "POST")?;
    for span in [&request, &rpc, &outbound] {
        assert_eq!(hex(&span.trace_id), TRACE, "{}", span.name);
    }
    assert_eq!(hex(&request.parent_span_id), CALLER, "the caller is the parent of the request");
    assert_eq!(rpc.parent_span_id, request.span_id, "the request is the parent of the rpc");
    assert_eq!(outbound.parent_span_id, rpc.span_id, "the rpc is the parent of the call to the provider");
    assert_eq!(text(&outbound.attributes, "server.address"), "127.0.0.1");
    database.drop().await
}
