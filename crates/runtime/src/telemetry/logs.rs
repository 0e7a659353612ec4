//! Where log lines go and which of them: a writer of its own thread, so that a slow disk or terminal delays nobody.

use std::ffi::OsStr;
use std::io::IsTerminal;
use std::path::Path;

use manifold_core::{Code, Error, Result, ResultExt};
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::registry::LookupSpan;

use super::format::{Json, Pretty};
use super::{LogFormat, LogRotation, TelemetryConfig};

/// Lines that wait for the writer; more are dropped and counted.
const MAX_WAITING: usize = 16_384;

type Boxed<S> = Box<dyn Layer<S> + Send + Sync>;

pub(super) fn layer<S>(config: &TelemetryConfig) -> Result<(Boxed<S>, WorkerGuard)>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let filter = filter(&config.log_level)?;
    let terminal = config.log_file.is_none() && std::io::stderr().is_terminal();
    let (writer, guard) = match &config.log_file {
        Some(path) => non_blocking(appender(path, config)?),
        None => non_blocking(std::io::stderr()),
    };
    let pretty = match config.log_format {
        LogFormat::Auto => terminal,
        LogFormat::Pretty => true,
        LogFormat::Json => false,
    };
    let base = tracing_subscriber::fmt::layer().with_ansi(terminal).with_writer(writer);
    let layer: Boxed<S> = match pretty {
        true => Box::new(base.event_format(Pretty).with_filter(filter)),
        false => Box::new(base.event_format(Json).with_filter(filter)),
    };
    Ok((layer, guard))
}

fn non_blocking(writer: impl std::io::Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(MAX_WAITING);
    let (writer, guard) = builder.thread_name("log-writer").finish(writer);
    super::prometheus::watch_dropped_lines(writer.error_counter());
    (writer, guard)
}

fn appender(path: &Path, config: &TelemetryConfig) -> Result<RollingFileAppender> {
    let rotation = match config.log_rotation {
        LogRotation::Never => Rotation::NEVER,
        LogRotation::Hourly => Rotation::HOURLY,
        LogRotation::Daily => Rotation::DAILY,
    };
    let text = |part: Option<&OsStr>| part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = std::fs::create_dir_all(folder).or_err(Code::Invalid, "make the folder of telemetry.log_file");
    made.map_err(|error| error.at("telemetry.log_file"))?;
    let mut builder = RollingFileAppender::builder()
        .rotation(rotation)
        .filename_prefix(text(path.file_stem()))
        .max_log_files(config.log_keep.max(1));
    if path.extension().is_some() {
        builder = builder.filename_suffix(text(path.extension()));
    }
    builder
        .build(folder)
        .or_err(Code::Invalid, "open telemetry.log_file")
        .map_err(|error| error.at("telemetry.log_file"))
}

/// A bare level is meant for Manifold; libraries are heard when they warn.
pub(super) fn filter(level: &str) -> Result<Targets> {
    if let Ok(level) = level.trim().parse::<LevelFilter>() {
        return Ok(Targets::new().with_default(level.min(LevelFilter::WARN)).with_target("manifold", level));
    }
    level.parse().map_err(|error| {
        let message = "telemetry.log_level is a level (error, warn, info, debug, trace) or a list such as info,manifold_edge=debug";
        Error::invalid("CONFIG_INVALID", message).at("telemetry.log_level").because(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_bare_level_is_for_manifold_and_libraries_only_warn() {
        let filter = filter("debug").unwrap();

        assert!(filter.would_enable("manifold_edge::chat", &Level::DEBUG));
        assert!(filter.would_enable("h2::proto", &Level::WARN));
        assert!(!filter.would_enable("h2::proto", &Level::INFO));
    }

    #[test]
    fn a_quiet_level_is_quiet_for_all() {
        let filter = filter("error").unwrap();

        assert!(!filter.would_enable("h2::proto", &Level::WARN));
        assert!(!filter.would_enable("manifold_edge", &Level::WARN));
    }

    #[test]
    fn directives_are_taken_as_they_are() {
        let filter = filter("info,manifold_edge=debug").unwrap();

        assert!(filter.would_enable("manifold_edge::chat", &Level::DEBUG));
        assert!(filter.would_enable("h2::proto", &Level::INFO));
    }

    #[test]
    fn a_level_that_is_none_names_the_setting() {
        assert_eq!(filter("a=b=c").unwrap_err().param(), Some("telemetry.log_level"));
    }
}
