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
    /// Whether its success is told once it survives a power cut.
    fn lasts(&self) -> bool;
    /// Runs it and keeps what it returns.
    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Result<()>>;
    /// Answers the caller: what it returned last, or the error.
    fn finish(self: Box<Self>, outcome: Result<()>);
}

/// A panic fails its command only, and neither the writer of everybody nor the task of the caller.
pub(crate) async fn caught<T>(running: impl Future<Output = Result<T>>) -> Result<T> {
    let outcome = AssertUnwindSafe(running).catch_unwind().await;
    outcome.unwrap_or_else(|_| Err(Error::internal("a database command panicked")))
}

struct Typed<T, F> {
    name: &'static str,
    lasts: bool,
    command: F,
    value: Option<T>,
    reply: oneshot::Sender<Result<T>>,
}

/// A job for the queue, and where its answer arrives.
pub(crate) fn job<T, F>(name: &'static str, lasts: bool, command: F) -> (Box<dyn Job>, oneshot::Receiver<Result<T>>)
where
    T: Send + 'static,
    F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
{
    let (reply, answer) = oneshot::channel();
    (Box::new(Typed { name, lasts, command, value: None, reply }), answer)
}

impl<T, F> Job for Typed<T, F>
where
    T: Send + 'static,
    F: for<'t> Fn(&'t mut Tx<'_>) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn lasts(&self) -> bool {
        self.lasts
    }

    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Result<()>> {
        Box::pin(async move {
            self.value = Some(caught(async { (self.command)(tx).await }).await?);
            Ok(())
        })
    }

    fn finish(self: Box<Self>, outcome: Result<()>) {
        let Self { value, reply, command, .. } = *self;
        // What it holds is free again when the caller hears of the end.
        drop(command);
        let answer = outcome.and_then(|()| value.ok_or_else(|| Error::internal("a command did not run")));
        // The caller may have gone.
        let _ = reply.send(answer);
    }
}
