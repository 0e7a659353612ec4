//! Timers of a connection, between hyper and the socket: first byte, head, idle, write stall, and the close that lets
//! a client read the answer to a request it was still sending. Knows no HTTP beyond "a request is being answered".

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
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
    stage: AtomicU8,
    unread: AtomicBool,
}

/// The client is to speak.
const LISTENING: u8 = 0;
/// We are to answer.
const BUSY: u8 = 1;
/// We have answered, and the guard does not know it yet.
const ANSWERED: u8 = 2;

impl Line {
    /// A request has arrived.
    pub(crate) fn begin(&self) {
        self.stage.store(BUSY, Ordering::Relaxed);
    }

    /// Its answer is finished.
    pub(crate) fn end(&self) {
        self.stage.store(ANSWERED, Ordering::Relaxed);
    }

    /// An answer goes out although the client may still be sending its request.
    pub(crate) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// The stage; an answer is reported once.
    fn stage(&self) -> u8 {
        let stage = self.stage.load(Ordering::Relaxed);
        if stage == ANSWERED {
            self.stage.store(LISTENING, Ordering::Relaxed);
        }
        stage
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Opened,
    Head,
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
        match self.line.stage() {
            BUSY => return Poll::Pending,
            ANSWERED => self.enter(Phase::Idle),
            _ => {}
        }
        let limit = match self.phase {
            Phase::Opened => self.timers.first_byte,
            Phase::Head => self.timers.head,
            Phase::Idle => self.timers.idle,
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
                let stage = this.line.stage();
                if more && (stage == ANSWERED || (stage == LISTENING && this.phase != Phase::Head)) {
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    const TIMERS: Timers = Timers {
        first_byte: Duration::from_secs(1),
        head: Duration::from_secs(2),
        idle: Duration::from_secs(4),
        write_stall: Duration::from_secs(8),
    };

    /// A client and the guard of its connection.
    async fn pair() -> (TcpStream, Guarded, Arc<Line>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let line = Arc::new(Line::default());
        tokio::time::pause();
        let guarded = Guarded::new(stream, Arc::clone(&line), TIMERS);
        (client, guarded, line)
    }

    /// How long the guard waits for a byte that does not come.
    async fn patience(guarded: &mut Guarded) -> Duration {
        let before = Instant::now();
        let error = guarded.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        before.elapsed()
    }

    /// Takes a byte out of what the client has sent, in real time.
    async fn read_one(guarded: &mut Guarded, client: &TcpStream) {
        client.try_write(b"G").unwrap();
        guarded.stream.readable().await.unwrap();
        assert_eq!(guarded.read(&mut [0; 1]).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn the_first_byte_the_head_and_the_next_request_have_their_own_time() {
        let (_client, mut silent, _line) = pair().await;
        assert_eq!(patience(&mut silent).await.as_secs(), 1);

        tokio::time::resume();
        let (client, mut slow, _line) = pair().await;
        read_one(&mut slow, &client).await;
        assert_eq!(patience(&mut slow).await.as_secs(), 2);

        tokio::time::resume();
        let (client, mut idle, line) = pair().await;
        read_one(&mut idle, &client).await;
        line.begin();
        line.end();
        assert_eq!(patience(&mut idle).await.as_secs(), 4);
    }
}
