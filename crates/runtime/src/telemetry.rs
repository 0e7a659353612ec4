//! Logs, traces and metrics of one process: how they are set up and shut down.

mod export;
mod format;
mod logs;
mod process;
mod prometheus;
mod scope;
mod series;
mod trace;

use std::path::PathBuf;

use manifold_core::{Code, Result, ResultExt};
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde::Deserialize;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use prometheus::{Prometheus, prometheus};
pub use scope::Scope;
pub use trace::{end_request, outbound_span, request_span, rpc_span, start_trace};

/// What to log, where to, and who gets traces.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetryConfig {
    /// How log lines look.
    pub log_format: LogFormat,
    /// A level for all of Manifold, or directives such as `info,manifold_edge=debug`.
    pub log_level: String,
    /// Where log lines go instead of standard error. The time is put into the name when files rotate.
    pub log_file: Option<PathBuf>,
    /// When a new log file begins.
    pub log_rotation: LogRotation,
    /// How many log files are kept.
    pub log_keep: usize,
    /// Where traces go: OTLP over gRPC, `http://collector:4317`. None = no traces.
    pub otlp_endpoint: Option<String>,
    /// Which part of all traces is recorded, 0 to 1.
    pub sample_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_format: LogFormat::Auto,
            log_level: "info".to_owned(),
            log_file: None,
            log_rotation: LogRotation::Daily,
            log_keep: 7,
            otlp_endpoint: None,
            sample_ratio: 0.05,
        }
    }
}

impl TelemetryConfig {
    /// Refuses what [`init`] would refuse before it has opened anything.
    pub fn validate(&self) -> Result<()> {
        logs::filter(&self.log_level).map(|_| ())
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `pretty` on a terminal, else `json`.
    Auto,
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
}

/// When a new log file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogRotation {
    /// One file for ever.
    Never,
    /// Every hour.
    Hourly,
    /// Every day.
    Daily,
}

/// The running telemetry. Lines and spans are on their way until [`Telemetry::shutdown`].
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
    writer: WorkerGuard,
}

/// Sets up logs, traces and metrics of this process, whose `service` is its role or roles. Once per process, inside the
/// runtime, before anything takes a metric handle.
pub fn init(config: &TelemetryConfig, service: &str) -> Result<Telemetry> {
    prometheus::install(service);
    let (logs, writer) = logs::layer(config)?;
    let provider = config.otlp_endpoint.as_deref().map(|endpoint| export::provider(endpoint, service)).transpose()?;
    if provider.is_some() {
        trace::Sampler::new(config.sample_ratio).install();
    }
    tracing_subscriber::registry()
        .with(logs)
        .with(provider.as_ref().map(export::layer))
        .try_init()
        .or_err(Code::Internal, "set up logging, which may be done once only")?;
    Ok(Telemetry { provider, writer })
}

impl Telemetry {
    /// Sends what is still on its way: spans to the collector, lines to their file.
    pub async fn shutdown(self) {
        let Self { provider, writer } = self;
        let ended = tokio::task::spawn_blocking(move || {
            let flushed = provider.map_or(Ok(()), |provider| provider.shutdown_with_timeout(export::TIMEOUT));
            if let Err(error) = flushed {
                tracing::warn!(%error, "some spans could not be sent");
            }
            drop(writer);
        });
        // It only joins threads; if that panicked there is nobody left to tell.
        drop(ended.await);
    }
}
