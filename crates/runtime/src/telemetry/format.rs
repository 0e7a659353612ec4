//! How a log line looks: one JSON object for machines, one line of text for people. Both name the trace and the request
//! that the code works for.

use std::fmt::{self, Write};

use manifold_core::Clock;
use serde::Serialize;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::scope;

/// One JSON object per line.
pub(super) struct Json;

/// Time, level, where, what.
pub(super) struct Pretty;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut object = Object::new();
        object.put("timestamp", &Clock::system().now().to_string());
        object.put("level", event.metadata().level().as_str());
        object.put("target", event.metadata().target());
        event.record(&mut object);
        if let Some((trace_id, request)) = scope::current() {
            object.put("trace_id", &format!("{trace_id:032x}"));
            object.put("request_id", &request.to_string());
        }
        writeln!(writer, "{}}}", object.text)
    }
}

impl<S, N> FormatEvent<S, N> for Pretty
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        write!(writer, "{} ", Clock::system().now())?;
        match writer.has_ansi_escapes() {
            true => write!(
                writer,
                "\x1b[{}m{:>5}\x1b[0m \x1b[2m{}\x1b[0m ",
                color(metadata.level()),
                metadata.level(),
                metadata.target()
            )?,
            false => write!(writer, "{:>5} {} ", metadata.level(), metadata.target())?,
        }
        ctx.format_fields(writer.by_ref(), event)?;
        if let Some((_, request)) = scope::current() {
            write!(writer, " request_id={request}")?;
        }
        writeln!(writer)
    }
}

fn color(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        Level::DEBUG => 34,
        Level::TRACE => 35,
    }
}

/// A JSON object under construction, without its closing brace.
struct Object {
    text: String,
}

impl Object {
    fn new() -> Self {
        Self { text: String::with_capacity(256) }
    }

    fn put<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        self.text.push(if self.text.is_empty() { '{' } else { ',' });
        let written = [serde_json::to_string(name), serde_json::to_string(value)];
        let [name, value] = written.map(|json| json.unwrap_or_else(|_| "null".to_owned()));
        // A String takes everything.
        let _ = write!(self.text, "{name}:{value}");
    }
}

impl Visit for Object {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::telemetry::Scope;
    use manifold_core::{RequestId, TraceContext};
    use tracing_subscriber::fmt::MakeWriter;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Lines {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    impl Lines {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn a_json_line_holds_the_fields_and_whom_it_is_for() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt().event_format(Json).with_writer(lines.clone()).finish();
        let trace = TraceContext { trace_id: 0xabc, span_id: 1, sampled: false };
        let scope = Scope::new(&trace, RequestId(uuid::Uuid::nil()), tracing::Span::none());

        tracing::subscriber::with_default(subscriber, || {
            scope
                .enter(|| tracing::warn!(provider = "groq", attempt = 2, error = "said \"no\"\n{}", "provider failed"));
        });

        assert_eq!(lines.text().matches('\n').count(), 1, "what is logged begins no line");
        let line: serde_json::Value = serde_json::from_str(&lines.text()).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &"provider failed".into()));
        assert_eq!(
            (&line["provider"], &line["attempt"], &line["error"]),
            (&"groq".into(), &2.into(), &"said \"no\"\n{}".into())
        );
        assert_eq!(line["trace_id"], "00000000000000000000000000000abc");
        assert_eq!(line["request_id"], "req_00000000000000000000000000");
    }

    #[test]
    fn a_line_for_people_names_level_place_and_request() {
        let lines = Lines::default();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).event_format(Pretty).with_writer(lines.clone()).finish();

        tracing::subscriber::with_default(subscriber, || tracing::info!(port = 8080, "listening"));

        let text = lines.text();
        assert!(text.contains(" INFO manifold_runtime::telemetry::format::tests listening port=8080\n"), "{text}");
    }
}
