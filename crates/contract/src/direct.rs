//! Calls inside one process: the message itself is handed over, nothing is encoded. The generated clients do it whenever
//! their channel finds the service in this process, and call over gRPC otherwise.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;

use tonic::body::Body;
use tonic::client::GrpcService;
pub use tonic::codegen::BoxStream;
use tonic::codegen::{Bytes, StdError};
use tonic::{Extensions, Response, Status};

/// The largest message between two processes, in bytes: a chat with its images.
pub const MAX_MESSAGE: usize = 32 << 20;

/// A call on its way.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A service that can be called both ways: `offer` of its generated module makes one.
pub struct Offer<S> {
    /// The generated server, for other processes.
    pub server: S,
    /// An `Arc<dyn Direct>` of the generated module, for this process; without it this process encodes as well.
    pub direct: Option<Arc<dyn Any + Send + Sync>>,
}

/// What a generated client needs of a channel: the way to other processes, and a short one inside this process.
pub trait DirectChannel:
    GrpcService<
        Body,
        Future: Send,
        Error: Into<StdError>,
        ResponseBody: http_body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
    > + Clone
    + Send
    + Sync
{
    /// What stands around every call.
    type Layers: Layers;

    /// The service of this name (`package.Service`), if this process offers it in the form `S`.
    fn direct<S: Clone + 'static>(&self, name: &str) -> Option<S>;

    /// Begins a call of this process, `/package.Service/Method`. The extensions are the request's.
    fn enter(&self, path: &'static str, extensions: &mut Extensions) -> Self::Layers;
}

/// The layers around one call.
pub trait Layers: Send {
    /// Runs a call inside.
    fn unary<A: Send>(
        self,
        call: BoxFuture<'_, Result<Response<A>, Status>>,
    ) -> impl Future<Output = Result<Response<A>, Status>> + Send;

    /// The same for many answers; the layers stay around them until the last.
    fn stream<A: Send + 'static>(
        self,
        call: BoxFuture<'_, Result<Response<BoxStream<A>>, Status>>,
    ) -> impl Future<Output = Result<Response<BoxStream<A>>, Status>> + Send;
}
