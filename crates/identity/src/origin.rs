//! What caused a change, kept for its event and for the audit chain.

use manifold_bus::Cause;
use manifold_core::{Ids, Principal, RequestId, SubjectKind, TenantId, TraceContext};
use manifold_runtime::CallContext;

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
}

impl Origin {
    /// A call.
    pub fn of(caller: &CallContext) -> Self {
        Self { principal: caller.principal.clone(), request: caller.request, trace: caller.trace }
    }

    /// The house itself does something to a tenant, and nobody asked for it.
    pub fn of_house(ids: &Ids, tenant: TenantId) -> Self {
        let principal = Principal { subject: HOUSE.into(), kind: SubjectKind::Service, ..Principal::anonymous() };
        Self::unasked(ids, Principal { tenant, ..principal })
    }

    /// Somebody does something, and no request of theirs is at hand.
    pub fn unasked(ids: &Ids, principal: Principal) -> Self {
        Self { principal, request: RequestId(ids.next()), trace: TraceContext::root() }
    }

    /// In the words of the bus.
    pub fn cause(&self) -> Cause<'_> {
        Cause::Request { principal: &self.principal, request: self.request, trace: &self.trace }
    }
}
