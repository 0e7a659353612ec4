//! Who reads which events, and how.

use std::time::Duration;

/// Who reads.
#[derive(Clone, Copy, Debug)]
pub struct Consumer {
    /// `<service>__<purpose>`, stable: the place up to which it has read is kept under this name.
    pub name: &'static str,
    /// What it reads.
    pub filter: Filter,
    /// How often an event comes before it is given up.
    pub max_deliver: i64,
    /// Events at a time, at most.
    pub batch: u32,
    /// How long events are gathered after the first one.
    pub linger: Duration,
    /// How long the stream waits for the outcome of an event before it brings it again. Not for those who read outboxes.
    pub ack_wait: Duration,
    /// Transactions at a time, each with the events of other ordering keys. More than one through a stream only: an outbox
    /// is read behind one cursor.
    pub lanes: usize,
}

impl Consumer {
    /// 128 events at a time, soon after they happened, each up to ten times.
    pub fn new(name: &'static str, filter: Filter) -> Self {
        let (linger, ack_wait) = (Duration::from_millis(10), Duration::from_secs(30));
        Self { name, filter, max_deliver: 10, batch: 128, linger, ack_wait, lanes: 1 }
    }

    /// So many transactions side by side, for those who write event by event. Two lanes must not change the same rows.
    /// Each needs a connection while it writes.
    #[must_use]
    pub fn in_lanes(self, lanes: usize) -> Self {
        Self { lanes: lanes.max(1), ..self }
    }

    /// Larger batches that come later, for those who add up.
    #[must_use]
    pub fn gathering(self, batch: u32, linger: Duration) -> Self {
        Self { batch, linger, ..self }
    }
}

/// Which events a consumer reads.
#[derive(Clone, Copy, Debug)]
pub enum Filter {
    /// Every one.
    All,
    /// Those whose type begins with this domain.
    Domain(&'static str),
}

impl Filter {
    pub(crate) fn accepts(self, event_type: &str) -> bool {
        match self {
            Self::All => true,
            Self::Domain(domain) => event_type.split('.').next() == Some(domain),
        }
    }

    /// The subjects of these events, of whichever tenant.
    pub(crate) fn subject(self) -> String {
        match self {
            Self::All => "mf.evt.>".to_owned(),
            Self::Domain(domain) => format!("mf.evt.*.{domain}.>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_the_first_token_of_a_type() {
        assert!(Filter::Domain("ai").accepts("ai.request.completed"));
        assert!(!Filter::Domain("ai").accepts("aix.request.completed"));
        assert!(Filter::All.accepts("identity.key.created"));
    }
}
