//! An answer: its head, and its body part by part within the limits of time and size.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::Instant;
use tower_http::decompression::DecompressionBody;
use tracing::Span;

use super::pool::Reply;
use super::wait::Timer;
use super::{Phase, SendError};

/// An answer whose body is still coming. Dropping it ends the connection or resets the stream.
pub struct Inbound {
    /// Status and headers.
    pub head: http::response::Parts,
    body: Option<DecompressionBody<Reply>>,
    limits: Limits,
    timer: Timer,
    n_read: u64,
    span: Span,
}

#[derive(Debug)]
pub(super) struct Limits {
    pub(super) deadline: Instant,
    pub(super) idle: Duration,
    pub(super) max_body: u64,
}

impl fmt::Debug for Inbound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Inbound").field("head", &self.head).field("n_read", &self.n_read).finish()
    }
}

impl Inbound {
    pub(super) fn new(
        head: http::response::Parts,
        body: DecompressionBody<Reply>,
        limits: Limits,
        timer: Timer,
        span: Span,
    ) -> Self {
        Self { head, body: Some(body), limits, timer, n_read: 0, span }
    }

    /// The next part of the body; None at its end. After an error there is nothing more.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SendError> {
        let outcome = self.read().await;
        if !matches!(outcome, Ok(Some(_))) {
            self.body = None;
        }
        if outcome.is_err() {
            self.span.record("otel.status_code", "ERROR");
        }
        outcome
    }

    /// The whole rest of the body.
    pub async fn bytes(mut self) -> Result<Bytes, SendError> {
        let Some(first) = self.chunk().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.chunk().await? else { return Ok(first) };
        let mut all = BytesMut::with_capacity(first.len() + second.len());
        all.extend_from_slice(&first);
        all.extend_from_slice(&second);
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    async fn read(&mut self) -> Result<Option<Bytes>, SendError> {
        let Some(body) = &mut self.body else { return Ok(None) };
        let Limits { deadline, idle, max_body } = self.limits;
        if body.size_hint().lower() > max_body.saturating_sub(self.n_read) {
            return Err(SendError::TooLarge(max_body));
        }
        let until = deadline.min(Instant::now() + idle);
        loop {
            let frame = match self.timer.wait(until, body.frame()).await {
                Some(Some(frame)) => frame.map_err(SendError::Broken)?,
                Some(None) => return Ok(None),
                None if until == deadline => return Err(SendError::Timeout(Phase::Deadline)),
                None => return Err(SendError::Timeout(Phase::Idle)),
            };
            // Trailers, and empty frames that only keep the connection awake, are nothing to return.
            let Some(data) = frame.into_data().ok().filter(|data| !data.is_empty()) else { continue };
            self.n_read += data.len() as u64;
            return if self.n_read > max_body { Err(SendError::TooLarge(max_body)) } else { Ok(Some(data)) };
        }
    }
}
