//! Commands: pure-SQL closures that run in a transaction and may run more than once.

use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use futures::future::BoxFuture;
use manifold_core::{Error, Result};
use tokio::sync::oneshot;

use crate::Tx;

/// A command whose types are not known.
pub(crate) trait Job: Send {
    /// For logs.
    fn name(&self) -> &'static str;
    /// Runs it and keeps what it returns.
    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Result<()>>;
    /// Answers the caller: what it returned last, or the error.
    fn finish(self: Box<Self>, outcome: Result<()>);
}

struct Typed<T, F> {
    name: &'static str,
    command: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

/// A job for the queue, and where its answer arrives.
pub(crate) fn job<T, F>(name: &'static str, command: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T>>)
where
    T: Send + 'static,
    F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Typed { name, command, value: None, reply }), answer)
}

impl<T, F> Job for Typed<T, F>
where
    T: Send + 'static,
    F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Result<()>> {
        Box::pin(async move {
            // A panic must fail this command only, and not the writer of everybody.
            let running = AssertUnwindSafe(async { (self.command)(tx).await }).catch_unwind();
            self.value = Some(running.await.map_err(|_| Error::internal("a database command panicked"))??);
            Ok(())
        })
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { value, reply, .. } = *self;
        let answer = outcome.and_then(|()| value.ok_or_else(|| Error::internal("a command did not run")));
        // The caller may have gone.
        let _ = reply.send(answer);
    }
}
