//! The envelope: what a publisher says, what the bus adds, and the limits.

use bytes::Bytes;
use manifold_contract::events::v1::Event;
use manifold_core::{Code, Error, EventId, Principal, RequestId, Result, TenantId, Timestamp, TraceContext};
use prost::Message;

/// Largest payload.
const MAX_DATA: usize = 256 * 1024;
/// Largest encoded event.
const MAX_EVENT: usize = 512 * 1024;

/// Longest chain of events that cause each other. What comes behind it is taken for a loop.
const MAX_HOP: u32 = 8;
/// The reason of events that stand behind such a chain.
pub(crate) const HOP_LIMIT: &str = "HOP_LIMIT";

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
}

impl Cause<'_> {
    /// How many events stand before one of this cause in its chain.
    fn hop(&self) -> u32 {
        match self {
            Self::Request { .. } => 0,
            Self::Event(event) => event.hop.saturating_add(1),
        }
    }

    /// Refuses what stands behind the longest chain that is no loop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.hop() <= MAX_HOP {
            return Ok(());
        }
        let message =
            format!("{MAX_HOP} events caused each other one after the other: their consumers answer in a loop");
        Err(Error::new(Code::Precondition, HOP_LIMIT, message))
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
pub(crate) fn encode(stamp: Stamp, draft: Draft, cause: &Cause<'_>) -> Result<Vec<u8>> {
    if draft.data.len() > MAX_DATA {
        return Err(too_large());
    }
    let caused = match *cause {
        Cause::Request { request, trace, .. } => {
            Event { traceparent: trace.to_string(), correlation_id: request.into(), ..Event::default() }
        }
        Cause::Event(cause) => Event {
            traceparent: cause.traceparent.clone(),
            tracestate: cause.tracestate.clone(),
            causation_id: cause.id.clone(),
            correlation_id: cause.correlation_id.clone(),
            ..Event::default()
        },
    };
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
        hop: cause.hop(),
        ..caused
    };
    let bytes = event.encode_to_vec();
    if bytes.len() > MAX_EVENT { Err(too_large()) } else { Ok(bytes) }
}

fn too_large() -> Error {
    Error::invalid("EVENT_TOO_LARGE", "an event carries at most 256 KiB of data and 512 KiB in all")
}
