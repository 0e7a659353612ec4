//! The layers around every call, the same on the local path, on the calling end of a remote one and on its serving end:
//! deadline, catch panic, span and log scope, duration. They watch the answer, and what streams after it until its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, Response};
use http_body::{Frame, SizeHint};
use manifold_contract::direct::{BoxFuture, BoxStream, Layers};
use manifold_core::{Code, Error};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tonic::Status;
use tonic::body::Body;
use tracing::error;

use crate::rpc::{Measure, Side};
use crate::status::to_status;
use crate::tasks::panic_text;
use crate::telemetry::Scope;

type Answer<T> = Result<tonic::Response<T>, Status>;

/// What the layers need to know about one call.
pub struct Guard {
    measure: Measure,
    scope: Scope,
    deadline: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Guard {
    pub(crate) fn new(measure: Measure, scope: Scope, deadline: Option<Instant>) -> Self {
        Self { measure, scope, deadline, sleep: None }
    }

    /// Runs a call over gRPC. Every failure becomes a status in the answer.
    pub(crate) async fn run<F>(mut self, call: F) -> Response<Body>
    where
        F: Future<Output = Result<Response<Body>, Status>>,
    {
        let response = self.answer(call).await.unwrap_or_else(Status::into_http);
        if let Some(code) = code_in(response.headers()) {
            self.end(code);
            return response;
        }
        response.map(|body| Body::new(Guarded { body, guard: self }))
    }

    /// The answer within the deadline; panics are failures too.
    async fn answer<T, F>(&self, call: F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
    {
        match self.deadline {
            Some(deadline) => timeout_at(deadline, self.attempt(call)).await.unwrap_or_else(|_| Err(too_late())),
            None => self.attempt(call).await,
        }
    }

    async fn attempt<T, F>(&self, call: F) -> Result<T, Status>
    where
        F: Future<Output = Result<T, Status>>,
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

    /// Asked only when a stream has nothing yet, so that one that is always ready never touches the timer.
    fn poll_deadline(&mut self, ctx: &mut Context<'_>) -> Poll<Status> {
        let Some(deadline) = self.deadline else { return Poll::Pending };
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(sleep.as_mut().poll(ctx));
        Poll::Ready(too_late())
    }
}

impl Layers for Guard {
    async fn unary<T: Send>(mut self, call: BoxFuture<'_, Answer<T>>) -> Answer<T> {
        let answer = self.answer(call).await;
        self.end(answer.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok));
        answer
    }

    async fn stream<T: Send + 'static>(mut self, call: BoxFuture<'_, Answer<BoxStream<T>>>) -> Answer<BoxStream<T>> {
        let answer = self.answer(call).await;
        if let Err(status) = &answer {
            self.end(status.code());
        }
        Ok(answer?.map(|answers| Box::pin(Watched { answers: Some(answers), guard: self }) as BoxStream<T>))
    }
}

/// Answers inside the layers: they end with the first failure.
struct Watched<T> {
    answers: Option<BoxStream<T>>,
    guard: Guard,
}

impl<T> Stream for Watched<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { answers, guard } = &mut *self;
        let Some(running) = answers else { return Poll::Ready(None) };
        let next =
            guard.catch(|| running.as_mut().poll_next(ctx)).unwrap_or_else(|panicked| Poll::Ready(Some(Err(panicked))));
        let next = match next {
            Poll::Ready(next) => next,
            Poll::Pending => Some(Err(ready!(guard.poll_deadline(ctx)))),
        };
        match &next {
            Some(Ok(_)) => return Poll::Ready(next),
            Some(Err(status)) => guard.end(status.code()),
            None => guard.end(tonic::Code::Ok),
        }
        *answers = None;
        Poll::Ready(next)
    }
}

/// A body inside the layers. Its own failures end it with trailers, so that the caller reads a status on both paths.
struct Guarded {
    body: Body,
    guard: Guard,
}

impl Guarded {
    fn poll_inner(&mut self, ctx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, guard } = self;
        guard
            .catch(|| http_body::Body::poll_frame(Pin::new(body), ctx))
            .unwrap_or_else(|panicked| Poll::Ready(Some(Err(panicked))))
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
                let late = ready!(self.guard.poll_deadline(ctx));
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
