//! A service with the four shapes of a call, and the two paths to it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, stream};
use manifold_core::{Code, Error, Principal, RequestId, Secret, SubjectKind, TenantId, TraceContext};
use manifold_runtime::{CallContext, Channel, Mesh, MeshConfig, Routes, Tasks, context, to_status};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

#[expect(clippy::allow_attributes, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("echo.v1");
}

use v1::echo;
use v1::echo_server::Echo;
use v1::{RepeatRequest, RepeatResponse, SayRequest, SayResponse, SumRequest, SumResponse, TalkRequest, TalkResponse};

pub const SECRET: &str = "a secret of the mesh";

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Service;

#[tonic::async_trait]
impl Echo for Service {
    async fn say(&self, request: Request<SayRequest>) -> Result<Response<SayResponse>, Status> {
        let caller = context(&request)?;
        let text = match request.into_inner().text.as_str() {
            "panic" => panic!("told to"),
            "hang" => std::future::pending().await,
            "fail" => {
                let error = Error::new(Code::Exhausted, "RATE_LIMIT_EXCEEDED", "wait a little");
                return Err(to_status(error.at("text").retry_after(Duration::from_secs(2)).fact("provider", "echo")));
            }
            "who" => format!("{} {}", caller.principal.subject, caller.request),
            "trace" => caller.trace.to_string(),
            text => text.to_owned(),
        };
        Ok(Response::new(SayResponse { text }))
    }

    type RepeatStream = Answers<RepeatResponse>;

    async fn repeat(&self, request: Request<RepeatRequest>) -> Result<Response<Self::RepeatStream>, Status> {
        context(&request)?;
        let RepeatRequest { count, then } = request.into_inner();
        let numbers = stream::iter((0..count).map(|number| Ok(RepeatResponse { number })));
        let rest: Answers<RepeatResponse> = match then.as_str() {
            "panic" => Box::pin(stream::poll_fn(|_| panic!("told to"))),
            "hang" => Box::pin(stream::pending()),
            _ => Box::pin(stream::empty()),
        };
        Ok(Response::new(Box::pin(numbers.chain(rest))))
    }

    async fn sum(&self, request: Request<Streaming<SumRequest>>) -> Result<Response<SumResponse>, Status> {
        context(&request)?;
        let mut numbers = request.into_inner();
        let mut sum = 0;
        while let Some(request) = numbers.message().await? {
            sum += request.number;
        }
        Ok(Response::new(SumResponse { sum }))
    }

    type TalkStream = Answers<TalkResponse>;

    async fn talk(&self, request: Request<Streaming<TalkRequest>>) -> Result<Response<Self::TalkStream>, Status> {
        context(&request)?;
        let answers =
            request.into_inner().map(|heard| heard.map(|heard| TalkResponse { text: heard.text.to_uppercase() }));
        Ok(Response::new(Box::pin(answers)))
    }
}

pub fn routes() -> Routes {
    Routes::new(echo::offer(Service))
}

/// A service in this process, or in what another process would be.
pub struct Path {
    pub name: &'static str,
    pub mesh: Mesh,
    _tasks: Tasks,
}

impl Path {
    pub fn local() -> Self {
        let mesh = Mesh::new(MeshConfig::default()).expect("nothing is configured");
        mesh.provide("echo", routes());
        Self { name: "local", mesh, _tasks: Tasks::new() }
    }

    pub async fn remote() -> Self {
        let (address, tasks) = serve(SECRET).await;
        Self { name: "remote", mesh: mesh_to(&address, SECRET), _tasks: tasks }
    }

    pub async fn both() -> [Self; 2] {
        [Self::local(), Self::remote().await]
    }

    pub fn client(&self) -> echo::Client<Channel> {
        echo::Client::new(self.mesh.channel("echo"))
    }
}

/// Serves the echo service to whoever knows the secret.
pub async fn serve(secret: &str) -> (String, Tasks) {
    let tasks = Tasks::new();
    let config = MeshConfig { secret: Some(secret.into()), ..MeshConfig::default() };
    let mesh = Mesh::new(config).expect("the secret is fine");
    mesh.provide("echo", routes());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let token = tasks.token();
    tasks.spawn("mesh", async move { mesh.serve(listener, token).await.expect("it serves") });
    (address, tasks)
}

pub fn mesh_to(address: &str, secret: &str) -> Mesh {
    let endpoints = [("echo".to_owned(), address.to_owned())].into();
    Mesh::new(MeshConfig { endpoints, secret: Some(Secret::from(secret)) }).expect("address and secret are fine")
}

pub fn caller() -> CallContext {
    let principal = Principal {
        tenant: TenantId(Uuid::from_u128(1)),
        subject: Arc::from("key_ana"),
        kind: SubjectKind::Key,
        key: None,
        permissions: Arc::from(["ai.inference.run".to_owned()]),
        environment: Arc::from("live"),
        ..Principal::anonymous()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    CallContext {
        principal,
        request: RequestId(Uuid::from_u128(2)),
        trace: TraceContext::root(),
        deadline,
        unchanged_since: None,
    }
}

pub fn say(text: &str) -> Request<SayRequest> {
    say_within(text, Duration::from_secs(30))
}

pub fn say_within(text: &str, time: Duration) -> Request<SayRequest> {
    let context = CallContext { deadline: Instant::now() + time, ..caller() };
    manifold_runtime::request(SayRequest { text: text.to_owned() }, context)
}
