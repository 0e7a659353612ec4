//! What caused a change, kept for its event and for the audit chain.

use manifold_bus::Cause;
use manifold_core::{Ids, Principal, RequestId, SubjectKind, TenantId, TraceContext};
use manifold_runtime::{CallContext, Mark};

/// Who acts when nobody asked.
pub const HOUSE: &str = "manifold/identity";

/// Who changes something, by which request, in which trace.
pub struct Origin {
    /// Who.
    pub principal: Principal,
    /// By which request.
    pub request: RequestId,
    /// In which trace.
    pub trace: TraceContext,
    /// Nothing that was changed since then may be changed.
    pub unchanged_since: Option<Mark>,
}

/// What causes a change, and what it relies on.
pub struct Caused<'c> {
    /// In the words of the bus.
    pub cause: Cause<'c>,
    /// Nothing that was changed since then may be changed.
    pub unchanged_since: Option<Mark>,
}

impl<'c> From<Cause<'c>> for Caused<'c> {
    fn from(cause: Cause<'c>) -> Self {
        Self { cause, unchanged_since: None }
    }
}

impl Origin {
    /// A call.
    pub fn of(caller: &CallContext) -> Self {
        Self {
            principal: caller.principal.clone(),
            request: caller.request,
            trace: caller.trace,
            unchanged_since: caller.unchanged_since,
        }
    }

    /// The house itself does something to a tenant, and nobody asked for it.
    pub fn of_house(ids: &Ids, tenant: TenantId) -> Self {
        let principal = Principal { subject: HOUSE.into(), kind: SubjectKind::Service, ..Principal::anonymous() };
        Self::unasked(ids, Principal { tenant, ..principal })
    }

    /// Somebody does something, and no request of theirs is at hand.
    pub fn unasked(ids: &Ids, principal: Principal) -> Self {
        Self { principal, request: RequestId(ids.next()), trace: TraceContext::root(), unchanged_since: None }
    }

    /// For the record and the bus.
    pub fn cause(&self) -> Caused<'_> {
        let cause = Cause::Request { principal: &self.principal, request: self.request, trace: &self.trace };
        Caused { cause, unchanged_since: self.unchanged_since }
    }
}
