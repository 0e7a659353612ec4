//! An answer: its head, and its body part by part within the limits of time and size.

use std::fmt;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::{Instant, timeout_at};
use tower_http::decompression::DecompressionBody;
use tracing::Span;

use super::{Phase, SendError};

/// An answer whose body is still coming. Dropping it ends the connection or resets the stream.
pub struct Inbound {
    /// Status and headers.
    pub head: http::response::Parts,
    body: Option<DecompressionBody<Incoming>>,
    limits: Limits,
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
        body: DecompressionBody<Incoming>,
        limits: Limits,
        span: Span,
    ) -> Self {
        Self { head, body: Some(body), limits, n_read: 0, span }
    }

    /// The next part of the body; None at its end. After an error there is nothing more.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, SendError> {
        let Some(mut body) = self.body.take() else { return Ok(None) };
        let chunk = self.read(&mut body).await?;
        if let Some(chunk) = &chunk {
            self.n_read += chunk.len() as u64;
            if self.n_read > self.limits.max_body {
                return Err(self.fail(SendError::TooLarge(self.limits.max_body)));
            }
            self.body = Some(body);
        }
        Ok(chunk)
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

    async fn read(&self, body: &mut DecompressionBody<Incoming>) -> Result<Option<Bytes>, SendError> {
        if body.size_hint().lower() > self.limits.max_body.saturating_sub(self.n_read) {
            return Err(self.fail(SendError::TooLarge(self.limits.max_body)));
        }
        let until = self.limits.deadline.min(Instant::now() + self.limits.idle);
        loop {
            let frame = match timeout_at(until, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(self.fail(SendError::Broken(error))),
                Ok(None) => return Ok(None),
                Err(_) if until == self.limits.deadline => return Err(self.fail(SendError::Timeout(Phase::Deadline))),
                Err(_) => return Err(self.fail(SendError::Timeout(Phase::Idle))),
            };
            match frame.into_data() {
                Ok(data) if !data.is_empty() => return Ok(Some(data)),
                // Trailers, and empty frames that only keep the connection awake.
                Ok(_) | Err(_) => {}
            }
        }
    }

    fn fail(&self, error: SendError) -> SendError {
        self.span.record("otel.status_code", "ERROR");
        error
    }
}
