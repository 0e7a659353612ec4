//! The envelope: what a publisher says, what the bus adds, and the limits.

use bytes::Bytes;
use manifold_contract::events::v1::Event;
use manifold_core::{Error, EventId, Principal, RequestId, Result, TenantId, Timestamp, TraceContext};
use prost::Message;

use crate::chain::Chain;
use crate::job::Job;

/// Largest payload.
const MAX_DATA: usize = 256 * 1024;
/// Largest encoded event.
const MAX_EVENT: usize = 512 * 1024;

/// The version of events that is written and understood.
pub(crate) const VERSION: u32 = 1;

/// What a publisher says about an event.
#[derive(Clone, Debug)]
pub struct Draft {
    /// `domain.entity.past`, exactly three tokens.
    pub type_: &'static str,
    /// Id of the aggregate that the event is about. Events of one aggregate are seen in order.
    pub subject: String,
    /// Who owns the aggregate.
    pub tenant: TenantId,
    /// The payload as JSON, at most 256 KiB.
    pub data: Bytes,
}

/// Why an event happened. Gives it its place in traces and chains.
#[derive(Clone, Copy, Debug)]
pub enum Cause<'a> {
    /// A client's request.
    Request {
        /// Who called.
        principal: &'a Principal,
        /// The request.
        request: RequestId,
        /// Where it stands in its trace.
        trace: &'a TraceContext,
    },
    /// Another event, in the hands of a consumer. The new one stands behind it in its chain.
    Event(&'a Event),
    /// A job, in the hands of its worker. The event stands in the chain of what the job was enqueued for.
    Job(&'a Job),
}

impl Cause<'_> {
    /// The place in the chain of what has this cause.
    pub fn chain(&self) -> Chain {
        Chain(match *self {
            Self::Request { request, trace, .. } => {
                Event { traceparent: trace.to_string(), correlation_id: request.into(), ..Event::default() }
            }
            Self::Event(event) => Event {
                traceparent: event.traceparent.clone(),
                tracestate: event.tracestate.clone(),
                causation_id: event.id.clone(),
                correlation_id: event.correlation_id.clone(),
                hop: event.hop.saturating_add(1),
                ..Event::default()
            },
            Self::Job(job) => Event { causation_id: job.id.into(), ..job.chain.0.clone() },
        })
    }
}

/// Which event it is, from whom, whose and when.
pub(crate) struct Stamp {
    pub(crate) id: EventId,
    pub(crate) source: String,
    pub(crate) tenant: String,
    pub(crate) time: Timestamp,
}

/// The encoded envelope.
pub(crate) fn encode(stamp: Stamp, draft: Draft, chain: Chain) -> Result<Vec<u8>> {
    if draft.data.len() > MAX_DATA {
        return Err(too_large());
    }
    let event = Event {
        id: stamp.id.into(),
        source: stamp.source,
        r#type: draft.type_.to_owned(),
        type_version: VERSION,
        ordering_key: draft.subject.clone(),
        subject: draft.subject,
        tenant_id: stamp.tenant,
        time_us: stamp.time.micros(),
        datacontenttype: "application/json".to_owned(),
        data: draft.data,
        ..chain.0
    };
    let bytes = event.encode_to_vec();
    if bytes.len() > MAX_EVENT { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> Error {
    Error::invalid("EVENT_TOO_LARGE", "an event carries at most 256 KiB of data and 512 KiB in all")
}
