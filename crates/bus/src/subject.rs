//! Event types and subjects. Pure.

use manifold_core::{Error, Result};

/// `mf.evt.<tenant>.<domain>.<entity>.<action>`: under which subject the event travels.
pub(crate) fn subject(tenant: &str, event_type: &str) -> Result<String> {
    if !is_type(event_type) {
        let message = format!("the event type {event_type:?} is not domain.entity.past");
        return Err(Error::invalid("EVENT_SUBJECT_INVALID", message));
    }
    Ok(["mf.evt.", tenant, ".", event_type].concat())
}

fn is_type(text: &str) -> bool {
    let mut n_tokens = 0;
    let mut tokens = text.as_bytes().split(|byte| *byte == b'.').inspect(|_| n_tokens += 1);
    tokens.all(is_token) && n_tokens == 3
}

fn is_token(text: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'_';
    !text.is_empty() && text.len() <= 64 && text.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: &str = "ten_00000000000000000000000000";

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
