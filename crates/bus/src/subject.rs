//! Event types and subjects. Pure.

use manifold_core::{Error, Result, TenantId};

/// `mf.evt.<tenant>.<domain>.<entity>.<action>`: under which subject the event travels.
pub(crate) fn subject(tenant: TenantId, event_type: &str) -> Result<String> {
    let mut tokens = event_type.split('.');
    let three = tokens.by_ref().take(3).filter(|token| is_token(token)).count() == 3;
    if !three || tokens.next().is_some() {
        let message = format!("the event type {event_type:?} is not domain.entity.past");
        return Err(Error::invalid("EVENT_SUBJECT_INVALID", message));
    }
    Ok(format!("mf.evt.{tenant}.{event_type}"))
}

fn is_token(text: &str) -> bool {
    let foreign = |byte: u8| !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    !text.is_empty() && text.len() <= 64 && !text.bytes().any(foreign)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: TenantId = TenantId(uuid::Uuid::nil());

    #[test]
    fn puts_the_tenant_before_the_domain() {
        let subject = subject(TENANT, "ai.request.completed").unwrap();

        assert_eq!(subject, "mf.evt.ten_00000000000000000000000000.ai.request.completed");
    }

    #[test]
    fn refuses_types_without_exactly_three_plain_tokens() {
        for event_type in
            ["", "ai", "ai.request", "ai.request.completed.twice", "ai..completed", "ai.*.completed", "ai.request.>"]
        {
            assert_eq!(subject(TENANT, event_type).unwrap_err().reason(), "EVENT_SUBJECT_INVALID", "{event_type}");
        }
    }
}
