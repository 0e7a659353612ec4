//! The body of a streamed answer: reads the rpc, writes events, keeps the connection alive in silence, and ends with an
//! error event whatever goes wrong. Dropping it cancels the call.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::HttpBody;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use http_body::Frame;
use manifold_contract::ai::v1::ChatStreamResponse;
use manifold_contract::direct::BoxStream;
use manifold_core::{Code, Error};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::stream::StreamEncoder;
use crate::refusal::Refusal;

const PING: &[u8] = b": ping\n\n";
const PING_EVERY: Duration = Duration::from_secs(10);
/// Ready messages are joined up to this size: one write for many tokens of a fast model.
const JOIN: usize = 16 << 10;

/// Room for a usual event.
const ROOM: usize = 512;

/// The call and its first message, while both are awaited.
pub(crate) type Opening = BoxFuture<'static, Result<Opened, Status>>;

/// A call that has said its first word.
pub(crate) struct Opened {
    pub(crate) first: ChatStreamResponse,
    pub(crate) rest: BoxStream<ChatStreamResponse>,
}

enum Source {
    Opening(Opening),
    Open(BoxStream<ChatStreamResponse>),
    Over,
}

/// The events of one answer.
pub(crate) struct Events {
    source: Source,
    encoder: StreamEncoder,
    deadline: Instant,
    /// When something was last sent.
    spoke: Instant,
    out: Vec<u8>,
    /// The next ping or the deadline, whichever comes first.
    alarm: Pin<Box<Sleep>>,
}

impl Events {
    /// Events of a call that has not answered yet.
    pub(crate) fn opening(opening: Opening, encoder: StreamEncoder, deadline: Instant) -> Self {
        let spoke = Instant::now();
        let alarm = Box::pin(sleep_until(deadline.min(spoke + PING_EVERY)));
        Self { source: Source::Opening(opening), encoder, deadline, spoke, out: Vec::new(), alarm }
    }

    /// Events of a call that has.
    pub(crate) fn opened(opened: Opened, encoder: StreamEncoder, deadline: Instant) -> Self {
        let mut events = Self::opening(Box::pin(std::future::pending()), encoder, deadline);
        events.begin(opened);
        events
    }

    fn begin(&mut self, opened: Opened) {
        self.source = Source::Open(opened.rest);
        self.push(opened.first);
    }

    fn push(&mut self, message: ChatStreamResponse) {
        self.out.reserve(ROOM);
        if let Err(error) = self.encoder.push(message, &mut self.out) {
            self.break_off(&error.into());
        }
        if self.encoder.is_over() {
            self.source = Source::Over;
        }
    }

    fn break_off(&mut self, refusal: &Refusal) {
        if refusal.error.code() == Code::Internal && !refusal.logged {
            tracing::error!(error = refusal.error.chain(), "stream broke off");
        }
        self.encoder.fail(refusal, &mut self.out);
        self.source = Source::Over;
    }

    /// Takes what the rpc has ready.
    fn take(&mut self, context: &mut Context<'_>) {
        while self.out.len() < JOIN {
            match &mut self.source {
                Source::Over => return,
                Source::Opening(opening) => match opening.as_mut().poll(context) {
                    Poll::Ready(Ok(opened)) => self.begin(opened),
                    Poll::Ready(Err(status)) => self.break_off(&status.into()),
                    Poll::Pending => return,
                },
                Source::Open(rest) => match rest.poll_next_unpin(context) {
                    Poll::Ready(Some(Ok(message))) => self.push(message),
                    Poll::Ready(Some(Err(status))) => self.break_off(&status.into()),
                    Poll::Ready(None) => self.break_off(&interrupted().into()),
                    Poll::Pending => return,
                },
            }
        }
    }

    /// Silence: a ping when it has lasted long enough, an end when the deadline has come.
    fn listen(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            let now = Instant::now();
            let ping_at = self.spoke + PING_EVERY;
            if now >= self.deadline {
                self.break_off(&late().into());
                return Poll::Ready(());
            }
            if now >= ping_at {
                self.out.extend_from_slice(PING);
                self.alarm.as_mut().reset(self.deadline.min(now + PING_EVERY));
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(self.deadline.min(ping_at));
        }
    }
}

fn late() -> Error {
    Error::new(Code::Timeout, "UPSTREAM_TIMEOUT", "the answer took too long")
}

fn interrupted() -> Error {
    Error::new(Code::Unavailable, "STREAM_INTERRUPTED", "the answer broke off before its end")
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        this.take(context);
        if this.out.is_empty() {
            if matches!(this.source, Source::Over) {
                return Poll::Ready(None);
            }
            if this.listen(context).is_pending() {
                return Poll::Pending;
            }
        }
        this.spoke = Instant::now();
        let bytes = Bytes::from(std::mem::take(&mut this.out));
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use manifold_core::RequestId;
    use uuid::Uuid;

    use super::super::answer::Thinking;
    use super::super::stream::Show;
    use super::*;

    fn events(opening: Opening, deadline: Duration) -> Events {
        let request = RequestId(Uuid::nil());
        let show =
            Show { usage: false, thinking: Thinking::Hidden, declared: Vec::new(), request, busy: Duration::ZERO };
        Events::opening(opening, StreamEncoder::new(show), Instant::now() + deadline)
    }

    async fn next(events: &mut Events) -> Option<String> {
        let frame = events.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_filled_with_pings_until_the_deadline() {
        let before = Instant::now();
        let mut events = events(Box::pin(std::future::pending()), Duration::from_secs(25));

        let said = [next(&mut events).await, next(&mut events).await, next(&mut events).await, next(&mut events).await];

        assert_eq!(said[..2], [Some(": ping\n\n".to_owned()), Some(": ping\n\n".to_owned())]);
        assert!(said[2].as_ref().is_some_and(|event| event.contains("\"code\":\"upstream_timeout\"")), "{said:?}");
        assert_eq!((said[3].as_ref(), before.elapsed().as_secs()), (None, 25));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_after_the_status_is_an_event_that_shows_nothing_of_ours() {
        let late = async {
            tokio::time::sleep(Duration::from_secs(12)).await;
            Err(Status::internal("canary"))
        };
        let mut events = events(Box::pin(late), Duration::from_secs(60));

        let (ping, error, end) = (next(&mut events).await, next(&mut events).await.unwrap(), next(&mut events).await);

        assert_eq!((ping.as_deref(), end), (Some(": ping\n\n"), None));
        assert!(error.contains("internal_error") && !error.contains("canary"), "{error}");
    }
}
