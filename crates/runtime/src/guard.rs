//! The layers around every call, the same on the local path, on the calling end of a remote one and on its serving end:
//! deadline, catch panic, span and log scope, duration. They watch the answer's head and then its body.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use manifold_core::{Code, Error};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tracing::error;

use crate::rpc::{Measure, Side};
use crate::status::to_status;
use crate::tasks::panic_text;
use crate::telemetry::Scope;

/// What the layers need to know about one call.
pub(crate) struct Guard {
    pub(crate) measure: Measure,
    pub(crate) scope: Scope,
    pub(crate) deadline: Option<Instant>,
}

impl Guard {
    /// Runs a call within its deadline. Every failure, panic included, becomes a status in the answer.
    pub(crate) async fn run<F>(mut self, call: F) -> Response<Body>
    where
        F: Future<Output = Result<Response<Body>, Status>>,
    {
        let answer = match self.deadline {
            Some(deadline) => timeout_at(deadline, self.attempt(call)).await.unwrap_or_else(|_| Err(too_late())),
            None => self.attempt(call).await,
        };
        let response = match answer {
            Ok(response) => response,
            Err(status) => status.into_http(),
        };
        if let Some(code) = code_in(response.headers()) {
            self.end(code);
            return response;
        }
        response.map(|body| Body::new(Guarded { body, guard: self, sleep: None }))
    }

    async fn attempt<F>(&self, call: F) -> Result<Response<Body>, Status>
    where
        F: Future<Output = Result<Response<Body>, Status>>,
    {
        let mut call = pin!(call);
        std::future::poll_fn(|ctx| {
            self.catch(|| call.as_mut().poll(ctx)).unwrap_or_else(|status| Poll::Ready(Err(status)))
        })
        .await
    }

    /// Runs `step` inside the span and log scope of the call.
    fn catch<T>(&self, step: impl FnOnce() -> T) -> Result<T, Status> {
        let caught = self.scope.enter(|| catch_unwind(AssertUnwindSafe(step)));
        caught.map_err(|panic| {
            let rpc = self.measure.rpc().name();
            self.scope.enter(|| error!(rpc, error = panic_text(&*panic), "call panicked"));
            to_status(Error::internal("the call panicked"))
        })
    }

    /// A remote service ends its bodies with trailers, whatever happens: without them the connection broke.
    fn explain(&self, status: Status) -> Status {
        match self.measure.side() {
            Side::Server => status,
            Side::Client => {
                let message = "the connection to the service broke";
                to_status(Error::new(Code::Unavailable, "UNAVAILABLE", message).because(status))
            }
        }
    }

    fn end(&mut self, code: tonic::Code) {
        self.measure.end(code);
        self.scope.end(code);
    }
}

/// A body inside the layers. Its own failures end it with trailers, so that the caller reads a status on both paths.
struct Guarded {
    body: Body,
    guard: Guard,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    fn poll_inner(&mut self, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, guard, .. } = self;
        guard
            .catch(|| http_body::Body::poll_frame(Pin::new(body), ctx))
            .unwrap_or_else(|panicked| Poll::Ready(Some(Err(panicked))))
    }

    /// Asked only when the body has nothing yet, so that a stream that is always ready never touches the timer.
    fn poll_deadline(&mut self, ctx: &mut Context<'_>) -> Poll<Status> {
        let Some(deadline) = self.guard.deadline else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(sleep.as_mut().poll(ctx));
        Poll::Ready(too_late())
    }

    fn fail(&mut self, status: &Status) -> Frame<Bytes> {
        self.guard.end(status.code());
        self.body = Body::empty();
        let mut trailers = HeaderMap::new();
        if status.add_header(&mut trailers).is_err() {
            trailers.insert("grpc-status", (tonic::Code::Internal as u16).into());
        }
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = match self.poll_inner(ctx) {
            Poll::Ready(Some(Ok(frame))) => frame,
            Poll::Ready(Some(Err(status))) => {
                let status = self.guard.explain(status);
                return Poll::Ready(Some(Ok(self.fail(&status))));
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {
                let late = ready!(self.poll_deadline(ctx));
                return Poll::Ready(Some(Ok(self.fail(&late))));
            }
        };
        if let Some(code) = frame.trailers_ref().and_then(code_in) {
            self.guard.end(code);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn too_late() -> Status {
    to_status(Error::new(Code::Timeout, "DEADLINE_EXCEEDED", "the deadline passed"))
}

fn code_in(headers: &HeaderMap) -> Option<tonic::Code> {
    headers.get("grpc-status").map(|code| tonic::Code::from_bytes(code.as_bytes()))
}
