//! What travels with every call: who calls, for which request, in which trace, until when.
//! In process it is a typed request extension; `wire` turns it into metadata between processes.

use std::sync::Arc;

use manifold_core::{Code, Error, Principal, RequestId, TenantId, TraceContext};
use tokio::time::Instant;

use crate::status;

/// What travels with every call. Shared rather than copied, because it is handed on often.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The authenticated caller.
    pub principal: Principal,
    /// The request of the client that caused this call.
    pub request: RequestId,
    /// Where the call stands in its trace. Inside a handler it is the handler's own span.
    pub trace: TraceContext,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// Nothing that was changed since then may be changed now. It does not travel to other processes.
    pub unchanged_since: Option<Mark>,
}

/// A place in the record of what was done in a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Whose record.
    pub tenant: TenantId,
    /// Number of the last entry; 0 = none yet.
    pub seq: i64,
}

/// A request that carries `context`.
pub fn request<T>(message: T, context: CallContext) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(Arc::new(context));
    request
}

/// The context of a request; a request without one has no authenticated caller.
pub fn context<T>(request: &tonic::Request<T>) -> Result<Arc<CallContext>, tonic::Status> {
    request.extensions().get::<Arc<CallContext>>().cloned().ok_or_else(|| {
        let message = "the call carries no authenticated caller";
        status::to_status(Error::new(Code::Unauthenticated, "UNAUTHENTICATED", message))
    })
}
