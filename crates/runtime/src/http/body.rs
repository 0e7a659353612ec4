//! A request body that tells when it is asked for.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Sent;

/// The whole body in one frame.
pub(super) struct Tracked {
    bytes: Option<Bytes>,
    sent: Sent,
}

impl Tracked {
    pub(super) fn new(bytes: Bytes, sent: Sent) -> Self {
        Self { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()), sent }
    }
}

/// The request was settled as never sent before its body was asked for.
#[derive(Debug)]
pub(super) struct Settled;

impl fmt::Display for Settled {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("nobody waits for this request any more")
    }
}

impl std::error::Error for Settled {}

impl Body for Tracked {
    type Data = Bytes;
    type Error = Settled;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Settled>>> {
        if !self.sent.set() {
            return Poll::Ready(Some(Err(Settled)));
        }
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}
