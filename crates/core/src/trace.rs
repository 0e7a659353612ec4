//! W3C Trace Context, version 00 (<https://www.w3.org/TR/trace-context/>): where a request stands in a trace.

use std::fmt;

use uuid::Uuid;

/// One position in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// Same for everything that one request causes. Never 0.
    pub trace_id: u128,
    /// The caller's span. Never 0.
    pub span_id: u64,
    /// Whether the caller records the trace.
    pub sampled: bool,
}

impl TraceContext {
    /// A new trace.
    pub fn root() -> Self {
        let trace_id = Uuid::new_v4().as_u128();
        Self { trace_id, span_id: random_span(), sampled: false }
    }

    /// The trace id as 32 digits, as it stands in `traceparent`.
    pub fn hex_id(&self) -> String {
        let mut digits = [0; 32];
        write_hex(self.trace_id, &mut digits);
        String::from_utf8(digits.to_vec()).expect("digits are ASCII")
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span_id: random_span(), ..self }
    }

    /// Reads `traceparent`. Later versions are read by the fields they share with version 00; anything malformed,
    /// all-zero ids and the forbidden version `ff` are None.
    pub fn parse(header: &str) -> Option<Self> {
        let bytes = header.as_bytes();
        if !header.is_ascii() || bytes.len() < 55 || bytes[2] != b'-' || bytes[35] != b'-' || bytes[52] != b'-' {
            return None;
        }
        let version = hex(&header[0..2])?;
        if version == 0xff || (version == 0 && bytes.len() != 55) || (bytes.len() > 55 && bytes[55] != b'-') {
            return None;
        }
        let (trace_id, span_id) = (hex(&header[3..35])?, hex(&header[36..52])?);
        let flags = hex(&header[53..55])?;
        if trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self { trace_id, span_id: span_id as u64, sampled: flags & 1 == 1 })
    }
}

/// Lower-case hexadecimal only, as the recommendation demands.
fn hex(digits: &str) -> Option<u128> {
    let lower = digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    if lower { u128::from_str_radix(digits, 16).ok() } else { None }
}

fn random_span() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    (high ^ low).max(1)
}

/// The lower digits of `value`, as many as there is room for. The formatting of the standard library takes ten times as long.
fn write_hex(mut value: u128, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[value as usize & 15];
        value >>= 4;
    }
}

/// The `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(self.trace_id, &mut text[3..35]);
        write_hex(self.span_id.into(), &mut text[36..52]);
        text[54] += u8::from(self.sampled);
        formatter.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        let context = TraceContext::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();

        assert_eq!(context.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        assert!(context.sampled);
    }

    #[test]
    fn refuses_malformed_and_reads_newer_versions() {
        for header in [
            "",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e47361-0f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(header), None, "{header}");
        }
        assert!(TraceContext::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    }

    #[test]
    fn a_child_stays_in_the_trace() {
        let root = TraceContext::root();

        let child = root.child();

        assert_eq!(child.trace_id, root.trace_id);
        assert_ne!(child.span_id, root.span_id);
    }
}
