//! Connections that are kept for the next request. They belong to the lane on which they were made.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;

use super::SendError;
use super::body::Tracked;
use super::connect::Connector;
use super::connection::{Connection, Single, is_secure};

/// A connection that nobody used in this many sweeps is closed.
const MAX_AGE: u8 = 3;
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Connections of one lane that go one way.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    connector: Connector,
    /// By authority.
    kept: Mutex<HashMap<Box<str>, Vec<Kept>>>,
    sweeper: Once,
}

struct Kept {
    connection: Connection,
    is_secure: bool,
    age: u8,
}

impl fmt::Debug for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    pub(super) fn new(connector: Connector) -> Self {
        Self(Arc::new(Inner { connector, kept: Mutex::default(), sweeper: Once::new() }))
    }

    /// Sends a request and waits for the head of the answer. A kept connection may turn out to be closed: if nothing of
    /// the request went out, it takes another one.
    pub(super) async fn send(&self, mut request: Request<Tracked>) -> Result<Response<Reply>, SendError> {
        let target = request.uri().clone();
        loop {
            let found = self.find(&target);
            let was_kept = found.is_some();
            let mut connection = match found {
                Some(connection) => connection,
                // Boxed, because it is rare and every request would carry the room for it.
                None => Box::pin(self.connect(&target)).await?,
            };
            match connection.exchange(request).await {
                Ok(answer) => return Ok(answer.map(|incoming| self.reply(incoming, connection, target))),
                Err(mut error) => match error.take_message().filter(|_| was_kept) {
                    Some(unsent) => request = unsent,
                    None => return Err(SendError::Broken(error.into_error().into())),
                },
            }
            *request.uri_mut() = target.clone();
        }
    }

    fn find(&self, target: &Uri) -> Option<Connection> {
        let mut all = self.0.kept();
        let list = all.get_mut(target.authority()?.as_str())?;
        let position = list.iter().rposition(|kept| kept.is_secure == is_secure(target))?;
        match &mut list[position] {
            Kept { connection: Connection::Shared(sender), age, .. } if sender.is_ready() => {
                *age = 0;
                Some(Connection::Shared(sender.clone()))
            }
            _ => Some(list.remove(position).connection),
        }
    }

    async fn connect(&self, target: &Uri) -> Result<Connection, SendError> {
        self.0.sweeper.call_once(|| TokioExecutor::new().execute(sweep(Arc::downgrade(&self.0))));
        let stream = self.0.connector.connect(target).await?;
        let connection = Connection::open(stream, target).await.map_err(|error| SendError::Broken(error.into()))?;
        if let Connection::Shared(sender) = &connection {
            self.keep(target, Connection::Shared(sender.clone()));
        }
        Ok(connection)
    }

    fn keep(&self, target: &Uri, connection: Connection) {
        let Some(authority) = target.authority() else { return };
        let kept = Kept { connection, is_secure: is_secure(target), age: 0 };
        let mut all = self.0.kept();
        match all.get_mut(authority.as_str()) {
            Some(list) => list.push(kept),
            None => drop(all.insert(authority.as_str().into(), vec![kept])),
        }
    }

    fn reply(&self, incoming: Incoming, connection: Connection, target: Uri) -> Reply {
        let lease = match connection {
            Connection::Single(single) => Some(Lease { single, target, pool: self.clone() }),
            Connection::Shared(_) => None,
        };
        Reply { incoming, lease }
    }
}

impl Inner {
    fn kept(&self) -> MutexGuard<'_, HashMap<Box<str>, Vec<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes what nobody uses any more.
async fn sweep(pool: Weak<Inner>) {
    loop {
        tokio::time::sleep(SWEEP_INTERVAL).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.kept().retain(|_, list| {
            list.iter_mut().for_each(|kept| kept.age += 1);
            list.retain(|kept| kept.age < MAX_AGE);
            !list.is_empty()
        });
    }
}

/// The body of an answer. Read to its end, its connection is free for the next request; dropped before, it is closed.
pub(super) struct Reply {
    incoming: Incoming,
    /// None if others use the connection, too.
    lease: Option<Lease>,
}

struct Lease {
    single: Box<Single>,
    target: Uri,
    pool: Pool,
}

impl Body for Reply {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Self { incoming, lease } = self.get_mut();
        match lease {
            Some(lease) => lease.single.poll_for(context, |quiet| Pin::new(&mut *incoming).poll_frame(quiet)),
            None => Pin::new(incoming).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(Lease { mut single, target, pool }) = self.lease.take()
            && single.is_free()
        {
            pool.keep(&target, Connection::Single(single));
        }
    }
}
