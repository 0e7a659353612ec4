//! Spans of two processes join in one trace at the collector.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use manifold_core::TraceContext;
use manifold_runtime::telemetry::{self, Scope, TelemetryConfig};
use manifold_runtime::{CallContext, Tasks, request};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::echo::v1::SayRequest;
use crate::echo::{Path, caller};
use crate::http::{client, post};
use crate::server;

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().expect("nobody panicked").extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn start(&self, tasks: &Tasks) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let service = TraceServiceServer::new(self.clone());
        tasks.spawn("collector", async move {
            let served = Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
            served.await.expect("it serves");
        });
        format!("http://{address}")
    }

    fn span(&self, trace_id: u128, name: &str) -> Span {
        let spans = self.0.lock().expect("nobody panicked");
        let mut same = spans.iter().filter(|span| span.trace_id == trace_id.to_be_bytes() && span.name == name);
        same.next().unwrap_or_else(|| panic!("no span {name} of {trace_id:x} in {spans:#?}")).clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_one_trace_through_both_processes_and_out() {
    let (collector, tasks) = (Collector::default(), Tasks::new());
    let endpoint = collector.start(&tasks).await;
    let config = TelemetryConfig { otlp_endpoint: Some(endpoint), sample_ratio: 1.0, ..TelemetryConfig::default() };
    let telemetry = telemetry::init(&config, "edge").unwrap();
    let upstream = server::Server::says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let path = Path::remote().await;
    let client_trace = TraceContext::root();

    let mut trace = telemetry::start_trace(Some(client_trace));
    let span = telemetry::request_span(&Method::POST, &mut trace);
    let context = CallContext { trace, ..caller() };
    let scope = Scope::new(&trace, context.request, span.clone());
    let say = request(SayRequest { text: "trace".to_owned() }, context);
    let inside = scope.run(async {
        client(&[]).send(post(&upstream.url())).await.unwrap();
        path.client().say(say).await.unwrap().into_inner().text
    });
    let seen_by_handler = TraceContext::parse(&inside.await).unwrap();
    telemetry::end_request(&span, &Method::POST, "/v1/echo", 200);
    drop((scope, span));
    tokio::time::timeout(Duration::from_secs(10), telemetry.shutdown()).await.unwrap();

    let root = collector.span(client_trace.trace_id, "POST /v1/echo");
    let rpc = collector.span(client_trace.trace_id, "echo.v1.Echo/Say");
    assert_eq!(root.parent_span_id, client_trace.span_id.to_be_bytes());
    assert_eq!(rpc.parent_span_id, root.span_id);
    assert_eq!(rpc.span_id, seen_by_handler.span_id.to_be_bytes());
    let spans = collector.0.lock().unwrap();
    let outbound =
        spans.iter().find(|span| span.parent_span_id == root.span_id && span.span_id != rpc.span_id).unwrap();
    assert!(outbound.attributes.iter().any(|attribute| attribute.key == "server.address"));
    assert!(!format!("{outbound:?}").contains("canary"));
}
