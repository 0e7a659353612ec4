//! Timers of a connection, between hyper and the socket: first byte, head, idle, write stall, and the close that lets
//! a client read the answer to a request it was still sending. Knows no HTTP beyond "a request is being answered".

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// How long a closing connection goes on reading, so that the kernel does not reset it over our last answer.
const LINGER: Duration = Duration::from_secs(1);

/// How long we wait for what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timers {
    pub(crate) first_byte: Duration,
    pub(crate) head: Duration,
    pub(crate) idle: Duration,
    pub(crate) write_stall: Duration,
}

/// What the pipeline tells the guard of its connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    busy: AtomicBool,
    unread: AtomicBool,
}

impl Line {
    /// A request has arrived (true) or its answer is finished (false).
    pub(crate) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// An answer goes out although the client may still be sending its request.
    pub(crate) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Opened,
    Head,
    Answering,
    Idle,
}

/// A socket that gives up on clients who do not go on.
pub(crate) struct Guarded {
    stream: TcpStream,
    line: Arc<Line>,
    timers: Timers,
    phase: Phase,
    since: Instant,
    /// Fires at or before the end of the present phase; moved only when it fires, so that a request costs no timer.
    alarm: Pin<Box<Sleep>>,
    stall: Option<Pin<Box<Sleep>>>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    /// Starts the clock of the first byte.
    pub(crate) fn new(stream: TcpStream, line: Arc<Line>, timers: Timers) -> Self {
        let alarm = Box::pin(sleep(timers.first_byte));
        let (phase, since) = (Phase::Opened, Instant::now());
        Self { stream, line, timers, phase, since, alarm, stall: None, linger: None }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.since = Instant::now();
    }

    /// A write that does not get on ends the connection after `write_stall`.
    fn watch(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let limit = self.timers.write_stall;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(limit)));
        stall.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Nothing to read: whether the wait has been too long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.line.busy.load(Ordering::Relaxed) {
            self.phase = Phase::Answering;
            return Poll::Pending;
        }
        if self.phase == Phase::Answering {
            self.enter(Phase::Idle);
        }
        let limit = match self.phase {
            Phase::Opened => self.timers.first_byte,
            Phase::Head => self.timers.head,
            Phase::Answering | Phase::Idle => self.timers.idle,
        };
        let end = self.since + limit;
        loop {
            if self.alarm.deadline() > end {
                self.alarm.as_mut().reset(end);
            }
            ready!(self.alarm.as_mut().poll(context));
            if Instant::now() >= end {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
            self.alarm.as_mut().reset(end);
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Pending => this.wait(context).map(Err),
            ready @ Poll::Ready(_) => {
                let more = buffer.filled().len() > before;
                if more && this.phase != Phase::Head && !this.line.busy.load(Ordering::Relaxed) {
                    this.enter(Phase::Head);
                }
                ready
            }
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    /// Closes our half. A client that is still sending is read, not reset, until it has seen that we are done.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
            if !this.line.unread.load(Ordering::Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        if linger.as_mut().poll(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut space = [0; 16 << 10];
        loop {
            let mut discarded = ReadBuf::new(&mut space);
            match ready!(Pin::new(&mut this.stream).poll_read(context, &mut discarded)) {
                Ok(()) if !discarded.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}
